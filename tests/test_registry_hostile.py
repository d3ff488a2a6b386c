"A registry, and a service for its tokens, that want more than they are asked for: time, memory, credentials."
import threading
import time
import zlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgecar.core import EdgecarError
from edgecar.release.oci import Registry

MB = 1 << 20


class Hostile(BaseHTTPRequestHandler):
    "Does what the name of the repository says."
    def answer(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def endless(self):
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            for _ in range(500):
                self.server.sent += self.wfile.write(b' '*MB)

    def do_GET(self):   # noqa: N802 - the name that http.server calls
        name = self.path.split('/')[2]
        here = f'http://127.0.0.1:{self.server.server_port}'
        if self.path.startswith('/token'):
            return self.answer(200, b'{"token": "t"}') if 'honest' in self.path else self.endless()
        if name == 'later':
            return self.answer(503, Retry_After='3600')
        if name == 'packed':
            return self.answer(200, zlib.compress(bytes(100*MB), wbits=31), Content_Encoding='gzip')
        if name == 'endless':
            return self.endless()
        if name == 'honest' and self.headers.get('Authorization') == 'Bearer t':
            return self.answer(200, b'{}')
        elsewhere = dict(bracket='http://[', elsewhere='http://192.0.2.1/token')
        realm = elsewhere.get(name, f'{here}/token/{name}')
        self.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')

    def log_message(self, *_):
        pass


@pytest.fixture
def registry():
    "The server of a hostile registry."
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hostile)
    server.daemon_threads, server.sent = True, 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize('name, why', dict(
    later='answers 503', packed='packs its answer', endless='larger than 4 MB', big_token='larger than 1 MB',
    bracket='would send credentials', elsewhere='would send credentials').items())
def test_a_hostile_registry_gets_neither_time_nor_memory(registry, name, why):
    source, began = Registry(f'127.0.0.1:{registry.server_port}', name), time.monotonic()
    with pytest.raises(EdgecarError, match=why):
        source.manifest('latest')
    assert time.monotonic() - began < 60 and registry.sent < 100*MB


def test_a_token_is_taken_and_shown(registry):
    assert Registry(f'127.0.0.1:{registry.server_port}', 'honest').manifest('latest') == b'{}'
