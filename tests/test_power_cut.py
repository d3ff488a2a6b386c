"A remote on a disk that loses what was not synced, or cannot write it: no pin names what is not there."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.car.upload import dvc_file, find_remote, is_still_stored, is_uploaded, upload_tub
from edgecar.contracts.digest import md5_file, tracked_files
from edgecar.data.synthetic import synthetic_tub

pytestmark = pytest.mark.skipif(not shutil.which('cc') and 'CI' not in os.environ,
                                reason='no C compiler (Debian: apt-get install gcc libc6-dev)')
UPLOAD = '''
import sys
from edgecar.car.upload import find_remote, upload_tub
print(upload_tub(sys.argv[1], find_remote(sys.argv[2])))
'''


class Disk:
    "A tub, and a remote on a disk that says what it is asked."
    def __init__(self, folder, library):
        self.library, self.log, self.remote = library, folder/'log', folder/'remote'
        self.tub = synthetic_tub(folder/'tubs/tub_1', 20)
        self.remote.mkdir()

    def upload(self, **how):
        env = {**os.environ, 'LD_PRELOAD': str(self.library), 'DISK_LOG': str(self.log), **how}
        return subprocess.run([sys.executable, '-c', UPLOAD, self.tub, self.remote], env=env,
                              capture_output=True, text=True)

    def asked(self):
        return [tuple(line.split(' ', 1)) for line in self.log.read_text().splitlines()]

    def files(self):
        return [f for f in self.remote.rglob('*') if f.is_file()]

    def is_right(self):
        "Whether each file of the remote has the digest that its name says."
        return all(md5_file(f) == (f.parent.name + f.name).removesuffix('.dir') for f in self.files())


@pytest.fixture(scope='session')
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp('kernel')/'disk.so'
    subprocess.run(['cc', '-Wall', '-Werror', '-shared', '-fPIC', '-O1', '-o', made,
                    Path(__file__).parent/'kernel/disk.c', '-ldl'], check=True)
    return made


@pytest.fixture
def disk(tmp_path, library):
    return Disk(tmp_path.resolve(), library)


def test_a_pin_is_written_after_all_that_it_names_is_on_the_disk(disk):
    done = disk.upload()
    assert done.returncode == 0, done.stderr
    asked = disk.asked()
    before = asked[:asked.index(('rename', str(dvc_file(disk.tub))))]
    for file in disk.files():
        after = before[before.index(('rename', str(file))):]
        assert ('sync', 'all') in after or {('fsync', str(file)), ('fsync', str(file.parent))} <= {*after}, (
            f'{file} may be lost, and the pin is not')


def test_what_a_power_cut_takes_before_the_pin_is_sent_again(disk):
    assert disk.upload(DISK_CUT='1').returncode == 9 and not dvc_file(disk.tub).exists()
    synced = {path for what, path in disk.asked() if what == 'fsync'}
    lost = [f for f in disk.files() if str(f) not in synced and f.stat().st_size]
    assert len(lost) > 20
    for n, file in enumerate(lost):   # renamed, and its bytes never written; or not even renamed
        file.write_bytes(b'') if n % 2 else file.unlink()
    assert upload_tub(disk.tub, find_remote(str(disk.remote))) == len(lost) - 1   # the list is not counted
    assert len(disk.files()) == len({md5_file(disk.tub/name) for name in tracked_files(disk.tub)}) + 1
    assert disk.is_right() and is_uploaded(disk.tub) and is_still_stored(disk.tub)


def test_a_disk_that_cannot_write_gets_no_pin(disk):
    done = disk.upload(DISK_BREAKS=str(disk.remote/'files'))
    assert 'the remote refuses it' in done.stderr and 'Input/output error' in done.stderr
    assert not dvc_file(disk.tub).exists() and not is_uploaded(disk.tub)
    assert disk.upload().stdout == '0\n', 'what is there is synced, whoever has sent it'
    assert disk.is_right() and is_uploaded(disk.tub)
