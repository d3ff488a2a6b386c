"What is locked is what the Pipfiles ask for, by hash, and installs with the tools that people build with."
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
LOCKS = [ROOT/'Pipfile.lock', ROOT/'deploy/Pipfile.lock']
SECTIONS = {f'{lock.parent.name} {name}': packages for lock in LOCKS
            for name, packages in json.loads(lock.read_text()).items() if name != '_meta' and packages}
BIN = Path(sys.prefix)/'bin'


def index():
    return subprocess.run([ROOT/'scripts/index'], capture_output=True, text=True, check=True).stdout.strip()


def build(folder, *command, timeout=60):
    """Run a packaging tool in a folder of its own that holds copies of the Pipfile and its lock,
    with a fresh environment on its PATH."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(('PIPENV', 'VIRTUAL_ENV', 'MICROPIPENV'))}
    env |= {'PIP_NO_COMPILE': '1', 'PIP_INDEX_URL': index(), 'PIPENV_IGNORE_VIRTUALENVS': '1',
            'PIPENV_VENV_IN_PROJECT': '1', 'PIPENV_NOSPIN': '1',
            'PIPENV_PYTHON': str(Path(sys.base_prefix)/'bin/python3.11'),
            'PATH': f"{folder/'.venv/bin'}:{BIN}:{env['PATH']}"}
    return subprocess.run([BIN/command[0], *command[1:]], cwd=folder, env=env, capture_output=True, text=True,
                          timeout=timeout)


@pytest.fixture(params=['.', 'deploy'])
def pipfile(request, tmp_path):
    for name in ['Pipfile', 'Pipfile.lock']:
        shutil.copy(ROOT/request.param/name, tmp_path/name)
    return tmp_path


def test_the_lock_is_up_to_date(pipfile):
    done = build(pipfile, 'pipenv', 'verify')
    assert done.returncode == 0, done.stderr + '-> make lock'


def test_micropipenv_agrees(tmp_path):
    "It hashes no categories, so that the workbench's Pipfile must have none."
    for name in ['Pipfile', 'Pipfile.lock']:
        shutil.copy(ROOT/name, tmp_path/name)
    assert build(tmp_path, 'micropipenv', 'verify').returncode == 0


@pytest.mark.parametrize('section', SECTIONS)
def test_every_package_is_pinned_by_hash(section):
    for name, package in SECTIONS[section].items():
        assert re.fullmatch(r'==[\w.+!]+', package['version']), name
        assert (package['hashes']
                and all(re.fullmatch(r'sha256:[0-9a-f]{64}', h) for h in package['hashes'])), name


@pytest.mark.parametrize('lock', LOCKS, ids=lambda p: p.parent.name)
def test_the_index_is_named_by_nobody(lock):
    for file in [lock, lock.with_suffix('')]:
        assert not re.search(r'https?://', file.read_text())
    assert [s['url'] for s in json.loads(lock.read_text())['_meta']['sources']] == ['${PIP_INDEX_URL}']


def test_the_car_carries_no_tensorflow():
    car = json.loads(LOCKS[1].read_text())['car']
    assert 'ai-edge-litert' in car and not [name for name in car
                                            if name.startswith(('tensorflow', 'keras', 'tensorboard'))]


def test_what_is_locked_apart_runs_what_the_workbench_tested():
    workbench, apart = [json.loads(lock.read_text()) for lock in LOCKS]
    tested = workbench['develop'] | workbench['default']
    differ = {name: (package['version'], tested[name]['version'])
              for section in ('car', 'book', 'workbench', 'scale') for name, package in apart[section].items()
              if name in tested and package['version'] != tested[name]['version']}
    assert not differ, f'{differ} -> bound them in deploy/Pipfile, then make lock'


@pytest.mark.parametrize('lock', LOCKS, ids=str)
def test_every_python_3_11_gets_all_of_it(lock):
    """Debian 12 has 3.11.2: a package that only later ones may have would be missing there,
    and nobody would say so."""
    from packaging.markers import Marker
    def on(version, marker):
        return Marker(marker).evaluate(
            {'python_full_version': version, 'python_version': '3.11'})
    packages = [(name, p['markers'])
                for section, part in json.loads(lock.read_text()).items() if section != '_meta'
                for name, p in part.items() if 'markers' in p]
    assert not [name for name, marker in packages if on('3.11.99', marker) and not on('3.11.2', marker)]


def test_the_library_asks_for_nothing_else():
    conf = ConfigParser()
    conf.read(ROOT/'settings.ini')
    needs, twin, verify = ({re.split(r'[<>=!~]', r)[0] for r in conf['DEFAULT'][name].split()}
                           for name in ('requirements', 'twin_requirements', 'verify_requirements'))
    assert needs | twin | verify <= set(tomllib.loads((ROOT/'Pipfile').read_text())['packages'])
    assert needs <= (car := set(json.loads(LOCKS[1].read_text())['car'])) and not twin & car, (
        'the car needs no simulator')


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize('command', [['pipenv', 'sync'], ['micropipenv', 'install', '--deploy']],
                         ids=lambda c: c[0])
def test_it_installs(tmp_path, command):
    for name in ['Pipfile', 'Pipfile.lock']:
        shutil.copy(ROOT/name, tmp_path/name)
    if command[0] == 'micropipenv':
        subprocess.run([sys.executable, '-m', 'venv', tmp_path/'.venv'], check=True)  # pipenv makes its own
    done = build(tmp_path, *command, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run([tmp_path/'.venv/bin/python', '-c',
                    'import donkeycar, tensorflow, jupyterlab, dvc, papermill'], check=True)
