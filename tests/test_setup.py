"`make setup` on machines that lack something: one clear line with what to do, and a non-zero exit."
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.package_index import installed, serving, sha256, wheel

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
TOOLS = 'bash env dirname git tr cat df awk grep rm mkdir make touch tee'.split()
UV = Path(sys.prefix)/'bin/uv'


@pytest.fixture
def bin(tmp_path):
    "A PATH of our own: the tools that set-up needs and a Python 3.11."
    bin = tmp_path/'bin'
    bin.mkdir()
    for tool in TOOLS:
        (bin/tool).symlink_to(shutil.which(tool))
    (bin/'python3.11').symlink_to(Path(sys.base_prefix)/'bin/python3.11')
    return bin


@pytest.fixture
def setup(tmp_path, bin):
    "Run the real script in a small clone; its exit code and what it said."
    repo = tmp_path/'repo'
    (repo/'scripts').mkdir(parents=True)
    for name in ['scripts/setup', 'scripts/uv', 'Pipfile.lock', 'setup.py', 'settings.ini', 'Makefile']:
        shutil.copy(ROOT/name, repo/name)
    subprocess.run(['git', 'init', '-q', repo], check=True)

    def run(*command, **env):
        keep = {k: v for k, v in os.environ.items() if k in ('HOME', 'PIP_CERT')}
        ours = {**keep, 'PATH': str(bin), 'PIP_CONFIG_FILE': os.devnull, 'PIP_NO_CACHE_DIR': '1', **env}
        how = dict(cwd=repo, env=ours, capture_output=True, text=True, timeout=120)
        done = subprocess.run(command or [repo/'scripts/setup'], **how)
        return done.returncode, done.stderr
    run.repo = repo
    return run


def script(path, text):
    path.unlink(missing_ok=True)
    path.write_text(f'#!{shutil.which("bash")}\n{text}\n')
    path.chmod(0o755)


def one_line(output, *words):
    assert (output.count('\n') == 1 and output.startswith('setup: ') and ' -> ' in output
            and 'Traceback' not in output), output
    for word in words:
        assert word in output


def test_no_git(setup, bin):
    (bin/'git').unlink()
    code, output = setup()
    assert code == 1
    one_line(output, 'git is needed', 'apt-get install git')


def test_not_a_clone(setup):
    shutil.rmtree(setup.repo/'.git')
    code, output = setup(GIT_CEILING_DIRECTORIES=str(setup.repo.parent))
    assert code == 1
    one_line(output, 'not a git clone')


@pytest.mark.parametrize('python', [None, 'echo 3 12', 'echo broken >&2; exit 127'],
                         ids=['none', '3.12', 'broken'])
def test_no_python(setup, bin, python):
    (bin/'python3.11').unlink()
    if python:
        script(bin/'python3', python)
    code, output = setup()
    assert code == 1
    one_line(output, 'Python 3.11 is needed', 'pyenv install 3.11', 'PYTHON=')


def test_the_named_python_is_another(setup, bin):
    code, output = setup(PYTHON='/bin/true')
    assert code == 1
    one_line(output, '/bin/true is not one')


def test_python_without_venv(setup, bin):
    real = (bin/'python3.11').resolve()
    script(bin/'python3.11', f'case "$*" in *ensurepip*) exit 1 ;; esac; exec {real} "$@"')
    code, output = setup()
    assert code == 1
    one_line(output, 'cannot make virtual environments', 'apt-get install python3.11-venv')


def test_no_disk(setup, bin):
    script(bin/'df', 'echo Filesystem 1024-blocks Used Available; echo /dev/x 9000000 8000000 1000000')
    code, output = setup()
    assert code == 1
    one_line(output, '4 GB of disk', '1 GB are free')


@pytest.mark.slow
def test_no_index(setup):
    with socket.socket() as s:  # bound and not listening: refused at once
        s.bind(('127.0.0.1', 0))
        code, output = setup(PIP_INDEX_URL=f'http://127.0.0.1:{s.getsockname()[1]}/simple',
                             NO_PROXY='127.0.0.1')
    assert code == 1
    first, last = output.splitlines()
    assert first == 'setup: making .venv (half a minute or so)'
    one_line(last + '\n', 'no package index answered', 'PIP_INDEX_URL', 'HTTPS_PROXY')
    assert 'micropipenv' in (setup.repo/'.venv/setup.log').read_text()


@pytest.mark.slow
def test_an_index_that_never_answers(setup):
    with socket.create_server(('127.0.0.1', 0)) as s:  # the kernel takes the connection; nobody reads it
        code, output = setup(PIP_INDEX_URL=f'http://127.0.0.1:{s.getsockname()[1]}/simple',
                             NO_PROXY='127.0.0.1')
    assert code == 1 and 'no package index answered' in output


@pytest.fixture
def small(setup):
    """A lock of four packages, and a function that runs the script with an index that has them,
    with or without uv."""
    builds = installed('setuptools')   # what installs this library itself
    def run(uv=None, **env):
        wheels = [builds, wheel('micropipenv'), wheel('toy'), wheel('uv', scripts=dict(uv=uv or ''))]
        packages = {}
        for file, data in wheels:
            name, version, *_ = file.split('-')
            packages[name] = dict(version=f'=={version}', hashes=[sha256(data)])
        lock = dict(_meta={}, default=dict(toy=packages.pop('toy')), develop=packages)
        (setup.repo/'Pipfile.lock').write_text(json.dumps(lock))
        with serving(*wheels[:4 if uv else 3]) as index:
            return setup(PIP_INDEX_URL=index.address, NO_PROXY='127.0.0.1', **env)
    run.repo = setup.repo
    toy = [setup.repo/'.venv/bin/python', '-c', 'import toy']
    run.has_toy = lambda: subprocess.run(toy, capture_output=True).returncode == 0
    return run


FAILING = f'#!{shutil.which("bash")}\necho "Illegal instruction" >&2; exit 132\n'
WORKING = f'#!{shutil.which("bash")}\nexec {UV} "$@"\n'
needs_uv = pytest.mark.skipif(not UV.exists() and 'CI' not in os.environ, reason='uv is needed -> make setup')


@pytest.mark.slow
@pytest.mark.parametrize('uv, why', [(None, 'could not be installed'), (FAILING, 'failed')],
                         ids=['no', 'fails'])
def test_pip_does_it_where_uv_cannot(small, uv, why):
    code, output = small(uv)
    assert code == 0 and small.has_toy(), output
    assert [line for line in output.splitlines() if 'uv' in line] == [
        f'setup: uv {why} (see .venv/setup.log) -> pip installs the packages, which takes 2 minutes or so']
    said_why = 'Illegal instruction' if uv else 'No matching distribution'
    assert said_why in (small.repo/'.venv/setup.log').read_text()
    assert 'ready: Python 3.11' in output and small(uv) == (0, ''), 'nothing to do the second time'


@pytest.mark.slow
@needs_uv
def test_uv_does_it_and_begins_afresh_where_it_must(small, bin):
    code, output = small(WORKING)
    assert code == 0 and small.has_toy(), output
    assert 'installing 3 packages' in output and 'pip installs' not in output
    site, = (small.repo/'.venv/lib').glob('python3.11/site-packages')
    assert (site/'toy-1.0.dist-info/INSTALLER').read_text() == 'uv'
    assert small(WORKING) == (0, ''), 'nothing to do the second time'

    # begun and not ended: half a package looks like a whole one to an installer; make's PATH has .venv first
    (site/'toy/__init__.py').unlink()
    (small.repo/'.venv/.ready').rename(small.repo/'.venv/.begun')
    assert small(WORKING, PATH=f'{small.repo}/.venv/bin:{bin}')[0] == 0 and (site/'toy/__init__.py').exists()

    # made elsewhere, and moved
    cfg = small.repo/'.venv/pyvenv.cfg'
    cfg.write_text(cfg.read_text().replace(str(small.repo), '/where/it/was/made'))
    (small.repo/'.venv/.ready').write_text('as it was made there')
    assert small(WORKING)[0] == 0 and small.has_toy()
    assert f' {small.repo}/.venv\n' in cfg.read_text() and '/where/it/was/made' not in cfg.read_text()


def test_make_alone_lists_the_targets(setup):
    done = subprocess.run(['make'], cwd=setup.repo, capture_output=True, text=True, check=True)
    for target in 'setup repro test test-slow check lab bench lock'.split():
        assert f'  make {target} ' in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_interrupted_then_run_again(tmp_path):
    "A fresh clone: ctrl-C in the middle, again to the end, a third time for nothing."
    # a job of a shell's background starts with SIGINT ignored, and
    # bash cannot trap what it was started ignoring: hence env
    repo = tmp_path/'repo'
    subprocess.run(['git', 'clone', '-q', ROOT, repo], check=True)
    with subprocess.Popen(['env', '--default-signal=INT', 'make', 'setup'], cwd=repo, stderr=subprocess.PIPE,
                          text=True, start_new_session=True) as first:
        for line in first.stderr:
            if ' packages' in line:
                os.killpg(first.pid, signal.SIGINT)
        assert first.wait(60) != 0
    assert (repo/'.venv/.begun').exists() and not (repo/'.venv/.ready').exists()
    subprocess.run(['make', 'setup'], cwd=repo, check=True, timeout=1200)
    again = subprocess.run(['make', 'setup'], cwd=repo, check=True, timeout=5, capture_output=True, text=True)
    assert again.stdout + again.stderr == ''
    subprocess.run(['.venv/bin/edgecar', '--help'], cwd=repo, check=True)
    kernels = [repo/'.venv/bin/python', '-c',
               'from edgecar.sim.kernels import compile_kernels, kernel_counts; '
               'compile_kernels(); print(kernel_counts()["compiled"])']
    assert subprocess.run(kernels, cwd=repo, check=True, capture_output=True, text=True).stdout == '0\n', (
        'set-up has compiled them')
    assert subprocess.run(['git', 'status', '--porcelain'], cwd=repo, capture_output=True).stdout == b''


def test_source_to_image_checks_the_index(tmp_path):
    script(tmp_path/'assemble', 'echo "the image assembles from $PIP_INDEX_URL"')
    env = {k: v for k, v in os.environ.items() if k != 'PIP_INDEX_URL'} | {'STI_SCRIPTS_PATH': str(tmp_path)}
    def run(**more):
        return subprocess.run([ROOT/'.s2i/bin/assemble'], env={**env, **more},
                              capture_output=True, text=True)
    refused = run()
    assert (refused.returncode == 1 and refused.stderr.count('\n') == 1
            and 'PIP_INDEX_URL is not set' in refused.stderr)
    assert run(PIP_INDEX_URL='a mirror').stdout == 'the image assembles from a mirror\n'
