"A real S3 server on this machine, for a test: versitygw over a folder, built by scripts/s3."
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support.loopback import free_port

ROOT = Path(__file__).parents[2]
KEY, SECRET, BUCKET = 'club', 'a secret that nobody may see', 'pins'
SMALL_DISK = ['unshare', '--user', '--map-root-user', '--mount']   # a disk of its own needs no rights
FULL = 'mount -t tmpfs -o size="$1" none "$2" && mkdir "$2/$3" && shift 3 && exec "$@"'


def s3_program():
    "Build the server, or find it; what is missing fails here, with its name."
    done = subprocess.run([ROOT/'scripts/s3'], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout.strip()


class S3Server:
    "The server, over `folder`; with `disk`, such as 8m, over a disk of that size that is gone with it."
    def __init__(self, folder, disk=None):
        self.folder, self.disk, self.process = Path(folder), disk, None
        self.data = self.folder/'data'
        (self.data/BUCKET).mkdir(parents=True)
        self.port, self.program = free_port(), s3_program()
        self.start()

    @property
    def endpoint(self):
        return f'http://127.0.0.1:{self.port}'

    @property
    def env(self):
        "What Open Data Hub would give."
        return dict(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_S3_ENDPOINT=self.endpoint,
                    AWS_S3_BUCKET=BUCKET, AWS_DEFAULT_REGION='us-east-1')

    def start(self):
        serve = [self.program, '--access', KEY, '--secret', SECRET, '--port', f'127.0.0.1:{self.port}',
                 'posix', '--nometa', self.data]
        if self.disk:
            serve = [*SMALL_DISK, 'sh', '-ec', FULL, 'sh', self.disk, self.data, BUCKET, *serve]
        with open(self.folder/'log', 'ab') as log:
            self.process = subprocess.Popen([*map(str, serve)], stdout=log, stderr=log)
        end = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < end, (self.folder/'log').read_text()
            time.sleep(.05)

    def answers(self):
        try:
            socket.create_connection(('127.0.0.1', self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        "As a power cut does."
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def files(self):
        "What lies in the bucket: path -> size."
        top = self.data/BUCKET
        return {str(p.relative_to(top)): p.stat().st_size for p in top.rglob('*') if p.is_file()}

    def pins(self):
        "Files of the bucket that have the name of a digest, as DVC keeps them."
        return {name: size for name, size in self.files().items() if '/files/md5/' in f'/{name}'}


def environment(server=None):
    "The environment of a process that knows this server, or none."
    plain = {k: v for k, v in os.environ.items() if not k.startswith('AWS_')}
    return plain | (server.env if server else {})
