"The starter recording: whoever makes it, it is whole, it is what data.dvc pins, and it is an ordinary tub."
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecar.core import EdgecarError, repo_root
from edgecar.contracts.digest import folder_md5
from edgecar.data.public import pinned_md5
from edgecar.data.tub import Tub, find_tubs
from edgecar.sim.record import RecordingRecipe, check_starter, record_tubs, ensure_starter, starter_recipe

SMALL = RecordingRecipe(tracks='oval,seed:3', frames=30, episode=12)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    "An empty repository with git and DVC, and a recipe."
    monkeypatch.chdir(tmp_path)
    subprocess.run(['git', 'init', '-q'], check=True)
    dvc('init', '-q')
    for name in ('settings.ini', 'dvc.yaml'):
        (tmp_path/name).touch()
    (tmp_path/'params.yaml').write_text('data: {tracks: "oval,seed:3", frames: 30, episode: 12}\n')
    return tmp_path


def dvc(*args):
    return subprocess.run(
        [sys.executable, '-m', 'dvc', *args], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_starter_comes_from_wherever_it_is(repository):
    data, cache = repository/'data', repository/'.dvc/cache'
    assert (ensure_starter(), pinned_md5(data)) == ('recorded', None)
    dvc('add', 'data')
    assert pinned_md5(data) == folder_md5(data), 'ours is DVC\'s'
    pin = (repository/'data.dvc').read_bytes()
    assert ensure_starter() == 'already there'
    shutil.rmtree(data)
    assert ensure_starter() == 'from DVC', 'its cache'
    dvc('remote', 'add', '-d', 'store', str(repository/'store'))
    dvc('push')
    shutil.rmtree(data), shutil.rmtree(cache)
    assert ensure_starter() == 'from DVC', 'its remote'
    shutil.rmtree(data), shutil.rmtree(cache), shutil.rmtree(repository/'store')
    assert ensure_starter() == 'recorded'
    assert (repository/'data.dvc').read_bytes() == pin
    assert check_starter() == pinned_md5(data) == folder_md5(data)


@pytest.mark.slow
@pytest.mark.parametrize('lost', ['one picture', 'the list of files'])
def test_half_a_cache_is_no_cache(repository, lost):
    ensure_starter()
    dvc('add', 'data')
    cached = sorted(p for p in (repository/'.dvc/cache').rglob('*') if p.is_file())
    next(p for p in cached if (p.suffix == '.dir') == (lost == 'the list of files')).unlink()
    shutil.rmtree(repository/'data')
    assert ensure_starter() == 'recorded' and folder_md5(repository/'data') == pinned_md5(repository/'data')


@pytest.mark.slow
def test_starter_that_is_not_what_is_pinned(repository):
    ensure_starter()
    dvc('add', 'data')
    data = repository/'data'
    pin, mine = (repository/'data.dvc').read_bytes(), next(data.rglob('*.catalog'))
    mine.unlink(), mine.write_text('mine')
    with pytest.raises(EdgecarError, match='it was not touched.*dvc add data'):
        ensure_starter()
    assert mine.read_text() == 'mine'
    shutil.rmtree(data), shutil.rmtree(repository/'.dvc/cache')
    with pytest.raises(EdgecarError, match='data.dvc pins'):
        ensure_starter(recipe=RecordingRecipe(tracks='oval', frames=3))
    assert not data.exists() and (repository/'data.dvc').read_bytes() == pin
    with pytest.raises(EdgecarError, match='recorded, it has the digest'):
        check_starter(recipe=RecordingRecipe(tracks='oval', frames=3))
    (repository/'data.dvc').write_bytes(b'\xff\x00 outs')
    with pytest.raises(EdgecarError, match='pins no folder'):
        ensure_starter()


@pytest.mark.parametrize('pin',
                         ['', 'outs: []', 'outs:\n- path: data\n',
                          'outs:\n- md5: 0123456789abcdef0123456789abcdef\n  path: data\n', '<<<<<<< HEAD'])
def test_a_pin_that_pins_nothing(tmp_path, pin):
    (tmp_path/'data.dvc').write_text(pin)
    for do in ensure_starter, check_starter:
        with pytest.raises(EdgecarError, match='data.dvc: pins no folder -> git checkout data.dvc'):
            do(tmp_path/'data', recipe=SMALL)
    assert not (tmp_path/'data').exists()


@pytest.mark.slow
def test_dvc_alone_names_what_is_missing(repository):
    ensure_starter()
    dvc('add', 'data')
    shutil.rmtree(repository/'data'), shutil.rmtree(repository/'.dvc/cache')
    done = subprocess.run([sys.executable, '-m', 'dvc', 'repro'], capture_output=True, text=True)
    # its own words
    assert done.returncode and "failed to reproduce 'data.dvc': missing data 'source': data" in done.stderr
    assert (repo_root(Path(__file__).parent)/'data.dvc').read_text().startswith(
        '# Missing? `edgecar data get` '), 'ours are in the file it names'


@pytest.mark.slow
def test_a_changed_recipe_is_told_and_pinned_when_meant(repository):
    ensure_starter()
    (repository/'data.dvc').write_text(
        f'# Missing? Ask.\nouts:\n- md5: {folder_md5(repository/"data")}\n  path: data\n')
    (repository/'params.yaml').write_text('data: {tracks: oval, frames: 20}\n')
    assert 'recorded with tracks oval,seed:3 instead of oval, frames 30 instead of 20' in ensure_starter()
    shutil.rmtree(repository/'data')
    record_tubs('data', starter_recipe())
    dvc('add', 'data')
    assert ensure_starter() == 'already there' and check_starter() == pinned_md5(repository/'data')
    assert (repository/'data.dvc').read_text().startswith('# Missing? Ask.\n')


# Ends that nobody planned: real processes

ENDLESS = ("from edgecar.sim.record import *; record_tubs('tubs/data', "
           "RecordingRecipe(tracks='oval,club,seed:1', "
           "frames=100000), {})")

@contextlib.contextmanager
def recording(folder, workers):
    "A process that has recorded a while, in a group of its own."
    with subprocess.Popen(['env', '--default-signal=INT', sys.executable, '-c', ENDLESS.format(workers)],
                          cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            end = time.monotonic() + 60
            while not any(folder.glob('tubs/.data.new/all/*/images/9_*')):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(.01)
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 3])
@pytest.mark.parametrize('to', ['the first process', 'all of its group, as a terminal does'])
def test_ctrl_c_leaves_nothing(tmp_path, workers, to):
    with recording(tmp_path, workers) as process:
        os.kill(process.pid, signal.SIGINT) if to.startswith('the') else os.killpg(process.pid, signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode != 0 and list((tmp_path/'tubs').iterdir()) == []
    assert errors.strip().endswith('KeyboardInterrupt') and 'in serve' not in errors, (
        'the other processes are silent')


def test_what_a_killed_recording_left_is_swept_out(tmp_path):
    with recording(tmp_path, 2) as process:
        with pytest.raises(EdgecarError, match='being written by another'):
            record_tubs(tmp_path/'tubs/data', SMALL, 1, bar=False)
        process.kill()
        process.stderr.read()     # ends when the last of its processes has
    assert [p.name for p in (tmp_path/'tubs').iterdir()] == ['.data.new']
    record_tubs(tmp_path/'tubs/data', SMALL, 1, bar=False)
    assert [p.name for p in (tmp_path/'tubs').iterdir()] == ['data']


@pytest.mark.parametrize('workers', [1, 2])
def test_full_disk(tmp_path, workers):
    code = ("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
            "from edgecar.sim.record import *; "
            "record_tubs('data', RecordingRecipe(tracks='oval,club', frames=200), "
            f"{workers}, bar=False)")
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert 'EdgecarError' in done.stderr and 'no room left' in done.stderr and list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_is_told(tmp_path):
    "As the system does when memory runs out."
    with recording(tmp_path, 2) as process:
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        errors = process.stderr.read()
    assert (process.returncode == 1 and 'a recording process ended too early' in errors
            and list((tmp_path/'tubs').iterdir()) == [])


# What is recorded

def test_donkeycar_reads_it(tmp_path):
    from donkeycar.parts.tub_v2 import Tub as Theirs
    tubs = find_tubs(record_tubs(tmp_path/'data', SMALL, 1, bar=False))
    for path in tubs:
        ours, theirs = list(Tub(path)), list(Theirs(str(path), read_only=True))
        assert [r['user/angle'] for r in theirs] == [r['user/angle'] for r in ours] and len(theirs) == 30
        assert all((Path(path)/'images'/r['cam/image_array']).is_file() for r in theirs)


def test_labels_lead_back_to_the_line(tmp_path):
    "Far to one side, the expert steers to the other; the hand that pushes is not in the labels."
    recipe = RecordingRecipe(tracks='oval', frames=1200, episode=40, right_m=.3, pushes=.1)
    rows = [r for t in find_tubs(record_tubs(tmp_path/'data', recipe, 2, bar=False)) for r in Tub(t)]
    right, left = ([r['user/angle'] for r in rows if r['twin/cte']*side > .2] for side in (1, -1))
    assert min(len(right), len(left)) > 20 and sum(right)/len(right) < -.15 and sum(left)/len(left) > .15
    assert all(-1 <= r['user/angle'] <= 1 and -1 <= r['user/throttle'] <= 1 for r in rows)
