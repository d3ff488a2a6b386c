"A registry is a stranger: what it may answer, and that nobody believes it."
import hashlib
import json
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgecar.core import EdgecarError
from edgecar.release import oci
from edgecar.release.evidence import read_pilot_layer, toy_release, verified_manifest
from edgecar.release.oci import (MANIFEST_TYPE, OciLayout, Registry, Retry, layer_files, read_image,
                                 toy_image, toy_layer)


@pytest.fixture
def stranger(monkeypatch):
    """A registry that answers what a test wants: path -> (status, headers, pieces);
    asked() lists what it was asked."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            asked.append((self.path, self.headers.get('Authorization')))
            answer = next((a for path, a in answers.items() if self.path.startswith(path)), (404, {}, []))
            status, headers, pieces = answer(self) if callable(answer) else answer
            self.send_response(status)
            for k, v in headers.items():
                self.send_header(k, v)
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:
                pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    monkeypatch.setattr(oci, 'Retry', lambda *a, **kw: Retry(*a, **kw | dict(backoff_factor=0)))
    server.host, server.answers, server.asked = f'127.0.0.1:{server.server_port}', answers, asked
    server.registry = lambda **kw: Registry(server.host, 'car', **kw)
    yield server
    server.shutdown()
    server.server_close()


def forever(piece=b'x' * 65536):
    while True:
        yield piece


def test_a_manifest_without_end(stranger):
    stranger.answers['/v2/car/manifests/v1'] = 200, {}, forever()
    with pytest.raises(EdgecarError, match='larger than 4 MB'):
        stranger.registry().manifest('v1')


def test_a_blob_without_end(stranger):
    digest = f'sha256:{"0" * 64}'
    stranger.answers['/v2/car/blobs'] = 200, {}, forever()
    with pytest.raises(EdgecarError, match='larger than the 1000 bytes'):
        stranger.registry().blob(digest, 1000)


def test_another_blob_than_asked_for(stranger):
    stranger.answers['/v2/car/blobs'] = 200, {}, [b'other']
    with pytest.raises(EdgecarError, match='is not what lies there'):
        stranger.registry().blob(f'sha256:{"0" * 64}', 1000)


def test_another_manifest_than_asked_for(stranger):
    stranger.answers['/v2/car/manifests'] = 200, {}, [b'{}']
    with pytest.raises(EdgecarError, match='sent another manifest'):
        stranger.registry().manifest(f'sha256:{"0" * 64}')


def test_a_blob_that_ends_too_early(stranger):
    stranger.answers['/v2/car/blobs'] = 200, {'Content-Length': '500'}, [b'x' * 100]
    with pytest.raises(EdgecarError, match='broke off|is not what lies there'):
        stranger.registry().blob(f'sha256:{"0" * 64}', 1000)


def test_a_registry_that_drips(stranger):
    def drops():
        while True:
            time.sleep(.02)
            yield b'x' * 70_000
    stranger.answers['/v2/car/blobs'] = 200, {}, drops()
    with pytest.raises(EdgecarError, match='too slow: 0.2 s'):
        stranger.registry(timeout_s=.2).blob(f'sha256:{"0" * 64}', 2**33)


def test_one_that_says_nothing(stranger):
    done = threading.Event()
    stranger.answers['/v2/car/manifests'] = lambda h: done.wait(30) and (200, {}, [])
    try:
        with pytest.raises(EdgecarError, match='no registry answers'):
            stranger.registry(timeout_s=.2).manifest('v1')
    finally:
        done.set()


@pytest.mark.parametrize('status, says', [(500, 'answers 500'), (401, 'other credentials'),
                                          (403, 'other credentials'), (418, 'answers 418')])
def test_one_that_will_not(stranger, status, says):
    stranger.answers['/v2/car/manifests'] = status, {}, []
    with pytest.raises(EdgecarError, match=says) as e:
        stranger.registry().manifest('v1')
    assert e.value.hint


def test_one_that_comes_round(stranger):
    tries = iter([503, 503])
    stranger.answers['/v2/car/manifests'] = lambda h: (next(tries, 200), {}, [b'{}'])
    assert stranger.registry().manifest('v1') == b'{}' and len(stranger.asked) == 3


def test_one_that_goes_in_circles(stranger):
    stranger.answers['/v2/car/blobs'] = 307, {'Location': f'http://{stranger.host}/v2/car/blobs/again'}, []
    with pytest.raises(EdgecarError, match='no registry answers'):
        stranger.registry().blob(f'sha256:{"0" * 64}', 1000)


def login(tmp_path, host):
    # driver:secret
    (tmp_path/'auth.json').write_text(json.dumps(dict(auths={host: dict(auth='ZHJpdmVyOnNlY3JldA==')})))
    return tmp_path/'auth.json'


def test_a_token_is_fetched_once(stranger, tmp_path):
    challenge = f'Bearer realm="http://{stranger.host}/token",service="r",scope="repository:car:pull"'
    refusal = 401, {'WWW-Authenticate': challenge}, []
    def shown(h):
        return h.headers.get('Authorization') == 'Bearer abc'
    stranger.answers |= {
        '/token': (200, {}, [b'{"token": "abc"}']),
        '/v2/car/manifests': lambda h: (200, {}, [b'{}']) if shown(h) else refusal,
    }
    registry = stranger.registry(auth=login(tmp_path, stranger.host))
    assert registry.manifest('v1') == registry.manifest('v1') == b'{}'
    assert ([path.partition('?')[0] for path, _ in stranger.asked]
            == ['/v2/car/manifests/v1', '/token', '/v2/car/manifests/v1', '/v2/car/manifests/v1'])


@pytest.mark.parametrize('realm',
                         ['http://thief.example.org/token', 'file:///etc/passwd', 'ftp://127.0.0.1/', ''])
def test_credentials_are_shown_to_no_stranger(stranger, tmp_path, realm):
    stranger.answers['/v2/car/manifests'] = 401, {'WWW-Authenticate': f'Bearer realm="{realm}"'}, []
    with pytest.raises(EdgecarError, match='would send credentials'):
        stranger.registry(auth=login(tmp_path, stranger.host)).manifest('v1')


def test_credentials_do_not_follow_a_redirect(stranger, tmp_path):
    away = f'http://localhost:{stranger.server_port}/elsewhere'
    stranger.answers |= {'/elsewhere': (200, {}, [b'']), '/v2/car/blobs': (307, {'Location': away}, [])}
    stranger.registry(auth=login(tmp_path, stranger.host)).blob(f'sha256:{hashlib.sha256().hexdigest()}', 10)
    assert [auth is None for _, auth in stranger.asked] == [False, True]


MANIFESTS = {
    'an index': (dict(schemaVersion=2, manifests=[]), 'is an index'),
    'the old schema': (dict(schemaVersion=1), 'is not an image'),
    'an artifact': (dict(schemaVersion=2, mediaType='application/x'), 'is not an image'),
    'no config': (dict(schemaVersion=2, layers=[]), 'no usable value at config'),
    'layers that are a word': (dict(schemaVersion=2, config=dict(digest='sha256:' + '0' * 64, size=1),
                                    layers='x'), 'no usable value at layers'),
    'a path for a digest': (dict(schemaVersion=2, config=dict(digest='sha256:../../etc/passwd', size=1),
                                 layers=[]), 'wrong digest or size'),
    'a negative size': (dict(schemaVersion=2, config=dict(digest='sha256:' + '0' * 64, size=-1), layers=[]),
                        'wrong digest or size'),
    'true for a size': (dict(schemaVersion=2, config=dict(digest='sha256:' + '0' * 64, size=True), layers=[]),
                        'no usable value at size'),
    'a thousand layers': (dict(schemaVersion=2, config=dict(digest='sha256:' + '0' * 64, size=1),
                               layers=[dict(digest='sha256:' + '0' * 64, size=1)] * 1000), '1001 blobs'),
}


@pytest.mark.parametrize('wrong', MANIFESTS)
def test_a_manifest_that_is_none(stranger, wrong):
    manifest, says = MANIFESTS[wrong]
    stranger.answers['/v2/car/manifests'] = 200, {}, [json.dumps(manifest).encode()]
    with pytest.raises(EdgecarError, match=says):
        read_image(stranger.registry(), 'v1')


def test_a_layer_that_unpacks_to_a_terabyte(tmp_path):
    z = zlib.compressobj(9, wbits=31)
    bomb = b''.join(z.compress(bytes(1 << 20)) for _ in range(300)) + z.flush()
    assert len(bomb) < 1 << 20
    toy_image(tmp_path, [bomb])
    with pytest.raises(EdgecarError, match='unpacks to more than'):
        read_pilot_layer(read_image(OciLayout(tmp_path), None))


def test_a_layer_with_a_tail(tmp_path):
    "Behind the end of its gzip stream: another reader might go on, and find another pilot."
    toy_image(tmp_path, [toy_layer({'a': b''}) + toy_layer({'b': b''})])
    with pytest.raises(EdgecarError, match='bytes after its end'):
        list(layer_files(read_image(OciLayout(tmp_path), None), -1, lambda name: True))


@pytest.mark.parametrize('junk', [b'', b'\x1f\x8b', b'no gzip', toy_layer({'a': b'b' * 999})[:40]])
def test_a_layer_that_is_none(tmp_path, junk):
    toy_image(tmp_path, [b'\x00' + junk])
    with pytest.raises(EdgecarError):
        verified_manifest(read_image(OciLayout(tmp_path), None))


def test_a_link_in_the_pilots_place(tmp_path):
    import io
    import tarfile
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with io.BytesIO() as tape:
            with tarfile.open(fileobj=tape, mode='w') as t:
                info = tarfile.TarInfo('opt/edgecar/pilot/pilot.tflite')
                info.type, info.linkname = kind, '/etc/passwd'
                t.addfile(info)
            z = zlib.compressobj(wbits=31)
            toy_image(tmp_path, [z.compress(tape.getvalue()) + z.flush()])
        with pytest.raises(EdgecarError, match='may hold the pilot only'):
            read_pilot_layer(read_image(OciLayout(tmp_path), 'edgecar'))


def test_a_layout_that_points_outside(tmp_path):
    toy_release(tmp_path/'car')
    index = json.loads((tmp_path/'car/index.json').read_text())
    index['manifests'][0]['digest'] = 'sha256:../../../secret'
    (tmp_path/'car/index.json').write_text(json.dumps(index))
    with pytest.raises(EdgecarError, match='is not a digest'):
        read_image(OciLayout(tmp_path/'car'), 'edgecar')


@pytest.mark.parametrize('index', ['', '[]', '{}', '{"manifests": [{"digest": 3}]}', '{"manifests": []}',
                                   '{"manifests": [{}]}', '{"manifests": {}}'])
def test_a_layout_that_is_none(tmp_path, index):
    (tmp_path/'index.json').write_text(index)
    with pytest.raises(EdgecarError):
        read_image(OciLayout(tmp_path), None)


def test_the_same_twice_is_the_same_digest(tmp_path):
    assert (toy_release(tmp_path/'a') == toy_release(tmp_path/'b')
            and MANIFEST_TYPE in (tmp_path/'a/index.json').read_text())
