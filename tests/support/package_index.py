"A package index on this machine, over HTTP or TLS, with wheels made here; it keeps what it was asked for."
import contextlib
import datetime
import hashlib
import io
import ipaddress
import ssl
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def wheel(name, version='1.0', scripts={}):
    "The name and the bytes of a wheel that holds one module and the scripts given."
    info = f'{name}-{version}.dist-info'
    files = {f'{name}/__init__.py': f'version = "{version}"\n',
             f'{info}/METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
             f'{info}/WHEEL': 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'}
    files |= {f'{name}-{version}.data/scripts/{script}': text for script, text in scripts.items()}
    files[f'{info}/RECORD'] = ''.join(f'{file},,\n' for file in [*files, f'{info}/RECORD'])
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as z:
        for file, text in files.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = (0o100755 if '/scripts/' in file else 0o100644) << 16
            z.writestr(entry, text)
    return f'{name}-{version}-py3-none-any.whl', out.getvalue()


def installed(name):
    "The name and the bytes of a wheel with what is installed here of a pure package."
    package, out = distribution(name), io.BytesIO()
    with zipfile.ZipFile(out, 'w') as z:
        for file in package.files:
            if '..' not in file.parts and file.suffix != '.pyc':
                z.write(file.locate(), str(file))
    return f'{name}-{package.version}-py3-none-any.whl', out.getvalue()


def sha256(data):
    return 'sha256:' + hashlib.sha256(data).hexdigest()


def certificate(folder):
    "A PEM file with a key and a certificate for 127.0.0.1, beside `authority.pem`, which has signed it."
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    def named(name):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    pem, authorised = serialization.Encoding.PEM, x509.BasicConstraints(ca=True, path_length=None)

    def signed(subject, key, extension):
        made = x509.CertificateBuilder().subject_name(named(subject)).issuer_name(named('authority'))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - day).not_valid_after(now + day)
        made = made.add_extension(extension, critical=True)
        return made.sign(authority, hashes.SHA256()).public_bytes(pem)

    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address('127.0.0.1'))])
    private = server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder/'authority.pem').write_bytes(signed('authority', authority, authorised))
    (folder/'index.pem').write_bytes(private + signed('index', server, here))
    return folder/'index.pem'


class Answer(BaseHTTPRequestHandler):
    "The simple API, and the files themselves; as a proxy too, whatever host is asked for."
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.server.asked.append(self.path)
        place = urlsplit(self.path).path.strip('/').split('/')
        files = [(file, data) for file, data in self.server.files if file.split('-')[0] == place[-1]]
        def digest(data):
            return sha256(data).replace(':', '=')
        links = [f'<a href="/files/{name}#{digest(data)}">{name}</a>' for name, data in files]
        if place[0] == 'files':
            body = dict(self.server.files).get(place[-1])
        else:
            body = ''.join(links).encode()
        self.send_response(200 if body else 404)
        self.send_header('Content-Type', 'application/octet-stream' if place[0] == 'files' else 'text/html')
        self.send_header('Content-Length', str(len(body or b'')))
        self.end_headers()
        self.wfile.write(body or b'')

    do_HEAD = do_GET   # noqa: N815 - the name that http.server calls

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(502)

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def serving(*wheels, tls=None):
    "An index that has these wheels: `address` is what PIP_INDEX_URL takes, `asked` all that was asked of it."
    server = ThreadingHTTPServer(('127.0.0.1', 0), Answer)
    server.files, server.asked = wheels, []
    server.address = f'http{"s"*bool(tls)}://127.0.0.1:{server.server_port}/simple'
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *whose: None   # a client that refuses our certificate
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
