"Debian's registry on this machine, for tests that push, pull and promote."
import re
import subprocess
import time
from pathlib import Path

import yaml

NAME = 'club/edgecar'


class Server:
    "Debian's registry on a free port of this machine."
    def __init__(self, folder, more={}, http={}):
        self.folder, self.data, self.process = Path(folder), Path(folder)/'data', None
        self.data.mkdir(parents=True, exist_ok=True)
        self.conf = dict(
            version='0.1',
            storage=dict(filesystem=dict(rootdirectory=str(self.data)), delete=dict(enabled=True)),
            http=dict(addr='127.0.0.1:0') | http, **more)
        self.start()

    def start(self):
        (self.folder/'registry.yml').write_text(yaml.safe_dump(self.conf))
        with open(self.folder/'log', 'wb') as log:
            self.process = subprocess.Popen(['docker-registry', 'serve', self.folder/'registry.yml'],
                                            stdout=log, stderr=log)
        end = time.monotonic() + 30
        while not (found := re.search(r'listening on [^ "]*:(\d+)', (self.folder/'log').read_text())):
            assert self.process.poll() is None and time.monotonic() < end, (self.folder/'log').read_text()
            time.sleep(.05)
        self.port = int(found[1])
        self.conf['http']['addr'] = f'127.0.0.1:{self.port}'   # the same one after a restart
        self.to = f'localhost:{self.port}/{NAME}'

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def blob(self, digest):
        return self.data/'docker/registry/v2/blobs/sha256'/digest[7:9]/digest[7:]/'data'
