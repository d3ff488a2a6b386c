"""The same recording on any machine: other processors, other numbers of threads and processes,
and a Raspberry Pi's instructions."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RECORD = '''
import sys
from edgecar.contracts.digest import folder_md5
from edgecar.sim.record import RecordingRecipe, record_tubs
if __name__ == '__main__': print(folder_md5(record_tubs(sys.argv[1], \
RecordingRecipe(tracks='donkey,seed:3', frames=100, episode=40, random=1.), int(sys.argv[2]), bar=False)))
'''
# What `edgecar.sim.record` imports; on another machine it is all there is
NEEDS = ('numpy numba llvmlite gymnasium farama-notifications cloudpickle typing-extensions pillow pyyaml '
         'tqdm platformdirs requests certifi charset-normalizer idna urllib3'.split())


def digest(folder, workers=1, python=(sys.executable,), **env):
    """The digest of a recording of 200 frames by another process,
    whose kernels are compiled afresh in `folder`."""
    folder.mkdir()
    (folder/'main.py').write_text(RECORD)
    clean = {k: v for k, v in os.environ.items() if not k.startswith('NUMBA_')}
    done = subprocess.run([*python, '-B', str(folder/'main.py'), str(folder/'tubs'), str(workers)],
                          env={**clean, 'NUMBA_CACHE_DIR': str(folder/'code'), **env},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.fixture(scope='module')
def native(tmp_path_factory):
    return digest(tmp_path_factory.mktemp('native')/'one')


def compiled_for(folder):
    "The processors that the kept kernels name."
    return {name for f in folder.rglob('*.nbi') for name in (b'generic', b'cortex-a72')
            if name in f.read_bytes()}


def test_two_processes(native, tmp_path):
    assert digest(tmp_path/'two', 2) == native


def test_a_plain_processor(native, tmp_path):
    from numpy.core._multiarray_umath import __cpu_dispatch__
    env = dict(NUMBA_CPU_NAME='generic', NUMBA_CPU_FEATURES='',
               NPY_DISABLE_CPU_FEATURES=' '.join(__cpu_dispatch__))
    assert digest(tmp_path/'plain', **env) == native
    assert compiled_for(tmp_path/'plain') == {b'generic'}


def test_other_threads_and_hashes(native, tmp_path):
    assert digest(tmp_path/'other', PYTHONHASHSEED='12345', OMP_NUM_THREADS='3', OPENBLAS_NUM_THREADS='3',
                  NUMBA_NUM_THREADS='2', LC_ALL='C', TZ='Asia/Tokyo') == native


@pytest.fixture(scope='module')
def arm64():
    """A command that runs Python as a 64-bit ARM does, and where its packages are: Debian's Python,
    and the wheels of our lock. Made once, kept in .cache."""
    lacking = [name for name, command in (('mmdebstrap', 'mmdebstrap'),
                                          ('qemu-user-static', 'qemu-aarch64-static'))
               if not shutil.which(command)]
    if lacking:
        (pytest.fail if 'CI' in os.environ
         else pytest.skip)(f'{" and ".join(lacking)} needed -> apt-get install {" ".join(lacking)}')
    lock = json.loads((ROOT/'Pipfile.lock').read_text())['default']
    wanted = '\n'.join(f'{n}{lock[n]["version"]} ' + ' '.join(f'--hash={h}' for h in lock[n]['hashes'])
                       for n in NEEDS)
    home = ROOT/'.cache'/'arm64'/hashlib.sha256(wanted.encode()).hexdigest()[:12]
    if not home.is_dir():
        new = home.with_suffix('.new')
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        # then what this machine takes its packages from has Python 3.11, too
        bookworm = 'VERSION_CODENAME=bookworm' in Path('/etc/os-release').read_text()
        sources = [f for f in map(Path, ('/etc/apt/sources.list', '/etc/apt/sources.list.d/debian.sources'))
                   if bookworm and f.exists()]
        subprocess.run(['mmdebstrap', '--quiet', '--variant=extract', '--architectures=arm64',
                        '--include=python3.11,libstdc++6', 'bookworm', new/'root', *sources], check=True)
        (new/'wanted.txt').write_text(wanted)
        tags = [word for tag in ('manylinux_2_28', 'manylinux_2_27', 'manylinux_2_17', 'manylinux2014')
                for word in ('--platform', f'{tag}_aarch64')]
        subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
                        '--no-deps', '--require-hashes', '--only-binary=:all:', '--python-version=3.11',
                        '--implementation=cp', *tags, '--target', new/'site', '-r', new/'wanted.txt'],
                       check=True)
        new.rename(home)
    return (('qemu-aarch64-static', '-L', str(home/'root'), str(home/'root/usr/bin/python3.11')),
            str(home/'site'))


def test_a_raspberry_pi(native, arm64, tmp_path):
    python, site = arm64
    env = dict(PYTHONPATH=f'{site}:{ROOT}', NUMBA_CPU_NAME='cortex-a72', NUMBA_CPU_FEATURES='')
    assert subprocess.run([*python, '-c', 'import platform; print(platform.machine())'],
                          capture_output=True, text=True).stdout == 'aarch64\n'
    assert digest(tmp_path/'pi', python=python, **env) == native
    assert compiled_for(tmp_path/'pi') == {b'cortex-a72'}
