"""The remote of a team, on a real S3 server: push, pull, and what goes wrong in between. A clone that has
no remote is told what that means."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.s3 import BUCKET, SECRET, SMALL_DISK, S3Server, environment

from edgecar.contracts.digest import folder_md5
from edgecar.pilot.compare import BASE_PILOT

BIN = Path(sys.prefix)/'bin'
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]   # the first build of the server takes minutes
FILES, SIZE = 24, 1 << 20
STAGE = """stages:
  double:
    cmd: python -c "open('twice', 'w').write(open('word').read()*2)"
    deps: [word]
    outs: [twice]
"""


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    server = S3Server(tmp_path_factory.mktemp('s3'))
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path):
    (tmp_path/'s3').mkdir()
    server = S3Server(tmp_path/'s3')
    yield server
    server.stop()


def run(folder, *command, server=None, **more):
    words = [str(w) for w in command]
    return subprocess.run([BIN/words[0] if (BIN/words[0]).exists() else words[0], *words[1:]], cwd=folder,
                          env=environment(server) | {'PATH': f'{BIN}:{os.environ["PATH"]}'} | more,
                          capture_output=True, text=True)


def good(folder, *command, server=None, **more):
    done = run(folder, *command, server=server, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def pinned(tmp_path_factory):
    "A repository with a folder of pinned bytes, as a tub would be."
    folder = tmp_path_factory.mktemp('pinned')/'clone'
    (folder/'data').mkdir(parents=True)
    for n in range(FILES):
        (folder/f'data/{n}').write_bytes(os.urandom(SIZE))
    for name in ('settings.ini', 'dvc.yaml'):
        (folder/name).touch()
    for words in ('git init -q', 'dvc init -q', 'dvc add -q data', 'git add -A'):
        good(folder, *words.split())
    good(folder, 'git', '-c', 'user.name=t', '-c', 'user.email=t@localhost', 'commit', '-qm', 'Pin')
    return folder


@pytest.fixture
def clone(pinned, tmp_path):
    shutil.copytree(pinned, tmp_path/'clone', symlinks=True)
    return tmp_path/'clone'


def other(clone, name='other'):
    "Another machine's clone: what git has, and nothing else."
    to = clone.parent/name
    good(clone.parent, 'git', 'clone', '-q', clone, to)
    return to


def has_all(folder, clone):
    return folder_md5(folder/'data') == folder_md5(clone/'data')


def test_one_pushes_and_another_pulls(clone, shared):
    assert f's3://{BUCKET}/edgecar' in good(clone, 'edgecar', 'remote', server=shared)
    good(clone, 'dvc', 'push', server=shared)
    there = other(clone)
    good(there, 'edgecar', 'remote', server=shared)
    good(there, 'dvc', 'pull', server=shared)
    assert has_all(there, clone)


def test_no_secret_reaches_git_or_a_file(clone, shared):
    good(clone, 'edgecar', 'remote', server=shared)
    good(clone, 'git', 'add', '-A')
    assert not good(clone, 'git', 'status', '--porcelain')
    assert SECRET not in (clone/'.dvc/config.local').read_text()
    good(clone, 'edgecar', 'remote', '--keys', server=shared)
    assert not good(clone, 'git', 'status', '--porcelain', '-uall')
    assert SECRET in (clone/'.dvc/config.local').read_text()
    good(clone, 'dvc', 'push')   # without an environment


def test_a_run_is_fetched_where_it_was_not_made(clone, shared):
    (clone/'word').write_text('ab')
    (clone/'dvc.yaml').write_text(STAGE)
    good(clone, 'dvc', 'repro', '-q', 'double')
    good(clone, 'git', 'add', '-A')
    good(clone, 'edgecar', 'remote', server=shared)
    good(clone, 'dvc', 'push', '--run-cache', server=shared)
    (there := clone.parent/'there').mkdir()
    for name in ('word', 'dvc.yaml', 'settings.ini'):
        (there/name).write_bytes((clone/name).read_bytes())
    for words in ('git init -q', 'dvc init -q'):
        good(there, *words.split())
    good(there, 'edgecar', 'remote', server=shared)
    said = good(there, 'dvc', 'repro', '--pull', 'double', server=shared)
    assert (there/'twice').read_text() == 'abab' and 'Running stage' not in said, said


def test_a_report_gets_the_old_pilot_from_the_remote(clone, shared):
    (clone/BASE_PILOT).parent.mkdir(parents=True)
    (clone/BASE_PILOT).write_bytes(b'the pilot of main')
    (clone/'dvc.yaml').write_text('stages: {export: {cmd: "true", outs: [build/export]}}')
    good(clone, 'dvc', 'commit', '-q', '-f', 'export')
    good(clone, 'git', 'add', '-A')
    good(clone, 'git', '-c', 'user.name=t', '-c', 'user.email=t@localhost', 'commit', '-qm', 'Export')
    good(clone, 'edgecar', 'remote', server=shared)
    good(clone, 'dvc', 'push', 'export', server=shared)
    there = other(clone)
    ask = "from edgecar.pilot.compare import base_pilot; print(base_pilot('.', 'HEAD', 'old'))"
    assert good(there, 'python', '-c', ask).strip().endswith('None'), 'no remote, no pilot'
    good(there, 'edgecar', 'remote', server=shared)
    good(there, 'python', '-c', ask, server=shared)
    assert (there/'old').read_bytes() == b'the pilot of main'


def cut(process, server, before):
    "Wait until some of what is pushed has arrived, and not all."
    end = time.monotonic() + 120
    while not before < len(server.pins()):
        assert time.monotonic() < end and process.poll() is None, 'nothing arrived'
        time.sleep(.01)


def push(clone, server, jobs=2):
    return subprocess.Popen([BIN/'dvc', 'push', '-j', str(jobs)], cwd=clone,
                            env=environment(server) | {'AWS_MAX_ATTEMPTS': '1'}, start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def whole(server):
    "Whether each object that has a digest's name is as large as what it stands for."
    return {size for name, size in server.pins().items() if not name.endswith('.dir')} <= {SIZE}


def test_a_push_that_is_killed_goes_on_where_it_was(clone, server):
    good(clone, 'edgecar', 'remote', server=server)
    process = push(clone, server)
    cut(process, server, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    some = server.pins()
    assert 3 < len(some) < FILES + 1 and whole(server)
    assert not [name for name in some if name.endswith('.dir')], 'the list of a folder comes last'
    good(clone, 'dvc', 'push', server=server)
    assert len(server.pins()) == FILES + 1
    there = other(clone)
    good(there, 'edgecar', 'remote', server=server)
    good(there, 'dvc', 'pull', server=server)
    assert has_all(there, clone)


def test_a_server_that_dies_fails_the_push_and_then_the_pull(clone, server):
    good(clone, 'edgecar', 'remote', server=server)
    process = push(clone, server)
    cut(process, server, 3)
    server.stop()
    process.communicate(timeout=300)
    assert process.returncode != 0 and whole(server)
    there = other(clone)
    server.start()
    good(clone, 'dvc', 'push', server=server)
    good(there, 'edgecar', 'remote', server=server)
    server.stop()
    done = run(there, 'dvc', 'pull', server=server, AWS_MAX_ATTEMPTS='1')
    assert done.returncode != 0 and not (there/'data').exists(), done.stdout
    server.start()
    good(there, 'dvc', 'pull', server=server)
    assert has_all(there, clone)


def test_a_bucket_that_is_full_fails_the_push(clone, tmp_path):
    if subprocess.run([*SMALL_DISK, 'true'], capture_output=True).returncode:
        pytest.skip('this kernel gives no user a disk of its own')
    (tmp_path/'s3').mkdir()
    server = S3Server(tmp_path/'s3', disk=f'{FILES//2}m')
    try:
        good(clone, 'edgecar', 'remote', server=server)
        done = run(clone, 'dvc', 'push', server=server)
        assert done.returncode != 0 and 'ERROR' in done.stderr, done.stderr
        there = other(clone)
        good(there, 'edgecar', 'remote', server=server)
        done = run(there, 'dvc', 'pull', server=server)
        assert done.returncode != 0, 'a part of the bytes is no recording'
    finally:
        server.stop()


REFUSALS = {
    'another secret': (dict(AWS_SECRET_ACCESS_KEY='wrong'), 'refuses these keys'),
    'another key': (dict(AWS_ACCESS_KEY_ID='nobody'), 'refuses these keys'),
    'another bucket': (dict(AWS_S3_BUCKET='no-such-bucket'), "has no bucket 'no-such-bucket'"),
    'nobody there': (dict(AWS_S3_ENDPOINT='http://127.0.0.1:9'), 'does not answer'),
    'a folder of authorities': (dict(AWS_CA_BUNDLE='/etc/ssl/certs'), 'its authority is a folder'),
    'half a connection': (dict(AWS_SECRET_ACCESS_KEY=''), 'AWS_SECRET_ACCESS_KEY is not set'),
    'no address': (dict(AWS_S3_ENDPOINT='127.0.0.1:9000'), 'is not the address of an S3 server'),
}


@pytest.mark.parametrize('case', REFUSALS)
def test_a_connection_that_is_wrong_is_refused_and_not_written(clone, shared, case):
    env, says = REFUSALS[case]
    done = run(clone, 'edgecar', 'remote', server=shared, **env)
    assert done.returncode == 1 and says in done.stderr and 'Traceback' not in done.stderr, done.stderr
    assert SECRET not in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (clone/'.dvc/config.local').exists()


def test_a_clone_without_a_remote_is_told_what_that_means(clone):
    done = run(clone, 'edgecar', 'remote')
    assert done.returncode == 1 and 'has no remote' in done.stderr and 'make repro' in done.stderr
    assert 'AWS_S3_BUCKET' in done.stderr
