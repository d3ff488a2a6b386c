"The starter recording: whoever makes it, it is whole, it is what data.dvc pins, and it is an ordinary tub."
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import EdgecarError
from edgecar.data.public import digest, pinned
from edgecar.data.tub import Tub, find_tubs
from edgecar.sim.record import Recipe, check, record, starter

SMALL = Recipe(tracks='oval,seed:3', frames=30, episode=12)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    "An empty repository with git and DVC, and a recipe."
    monkeypatch.chdir(tmp_path)
    subprocess.run(['git', 'init', '-q'], check=True)
    dvc('init', '-q')
    for name in ('settings.ini', 'dvc.yaml'): (tmp_path/name).touch()
    (tmp_path/'params.yaml').write_text('data: {tracks: "oval,seed:3", frames: 30, episode: 12}\n')
    return tmp_path


def dvc(*args): return subprocess.run([sys.executable, '-m', 'dvc', *args], check=True, capture_output=True, text=True).stdout


def test_starter_comes_from_wherever_it_is(repository):
    data, cache = repository/'data', repository/'.dvc/cache'
    assert starter() == data and pinned(data) is None
    dvc('add', 'data')
    assert pinned(data) == digest(data), 'ours is DVC\'s'
    pin = (repository/'data.dvc').read_bytes()
    elsewhere = Recipe(tracks='club', frames=2)                                  # not what is pinned: nobody records
    assert starter(recipe=elsewhere) == data
    shutil.rmtree(data)
    assert starter(recipe=elsewhere).is_dir(), 'from the cache'
    dvc('remote', 'add', '-d', 'store', str(repository/'store'))
    dvc('push')
    shutil.rmtree(data), shutil.rmtree(cache)
    assert starter(recipe=elsewhere).is_dir(), 'from the remote'
    shutil.rmtree(data), shutil.rmtree(cache), shutil.rmtree(repository/'store')
    assert digest(starter()) == pinned(data), 'recorded again'
    assert (repository/'data.dvc').read_bytes() == pin and check() == pinned(data)


def test_starter_that_is_not_what_is_pinned(repository):
    data = starter()
    dvc('add', 'data')
    pin, mine = (repository/'data.dvc').read_bytes(), next(data.rglob('*.catalog'))
    mine.unlink(), mine.write_text('mine')
    with pytest.raises(EdgecarError, match='it was not touched.*dvc add data'): starter()
    assert mine.read_text() == 'mine'
    shutil.rmtree(data), shutil.rmtree(repository/'.dvc/cache')
    with pytest.raises(EdgecarError, match='data.dvc pins'): starter(recipe=Recipe(tracks='oval', frames=3))
    assert not data.exists() and (repository/'data.dvc').read_bytes() == pin
    with pytest.raises(EdgecarError, match='recorded, it has the digest'): check(recipe=Recipe(tracks='oval', frames=3))
    (repository/'data.dvc').write_bytes(b'\xff\x00 outs')
    with pytest.raises(EdgecarError, match='pins no folder'): starter()


def test_dvc_alone_names_what_is_missing(repository):
    starter()
    dvc('add', 'data')
    shutil.rmtree(repository/'data'), shutil.rmtree(repository/'.dvc/cache')
    done = subprocess.run([sys.executable, '-m', 'dvc', 'repro'], capture_output=True, text=True)
    assert done.returncode and "missing data 'source': data" in done.stderr     # its own words; `edgecar data get` is what mends it


def test_ctrl_c_leaves_nothing(tmp_path):
    code = f"from edgecar.sim.record import *; record({str(tmp_path/'data')!r}, Recipe(tracks='oval,club', frames=100000), 2)"
    process = subprocess.Popen(['env', '--default-signal=INT', sys.executable, '-c', code], stderr=subprocess.PIPE)
    seen = b''
    while b'/200000' not in seen: seen += process.stderr.read(64)
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    process.stderr.close()
    assert process.wait(30) != 0 and list(tmp_path.iterdir()) == []


def test_a_track_that_fails_leaves_nothing(tmp_path, monkeypatch):
    import edgecar.sim.record as room
    def full(path, recipe, number, tick):
        if number: raise OSError(28, 'No space left on device')
        return room_tub(path, recipe, number, tick)
    room_tub = room.record_tub
    monkeypatch.setattr(room, 'record_tub', full)
    with pytest.raises(OSError): record(tmp_path/'data', SMALL, 2, bar=False)
    assert list(tmp_path.iterdir()) == []


def test_donkeycar_reads_it(tmp_path):
    from donkeycar.parts.tub_v2 import Tub as Theirs
    tubs = find_tubs(record(tmp_path/'data', SMALL, 1, bar=False))
    for path in tubs:
        ours, theirs = list(Tub(path)), list(Theirs(str(path), read_only=True))
        assert [r['user/angle'] for r in theirs] == [r['user/angle'] for r in ours] and len(theirs) == 30
        assert all((Path(path)/'images'/r['cam/image_array']).is_file() for r in theirs)


def test_labels_lead_back_to_the_line(tmp_path):
    "Far to one side, the expert steers to the other; the hand that pushes is not in the labels."
    rows = [r for t in find_tubs(record(tmp_path/'data', Recipe(tracks='oval', frames=1200, episode=40, right_m=.3, pushes=.1), 2, bar=False)) for r in Tub(t)]
    right, left = ([r['user/angle'] for r in rows if r['twin/cte']*side > .2] for side in (1, -1))
    assert min(len(right), len(left)) > 20 and sum(right)/len(right) < -.15 and sum(left)/len(left) > .15
    assert all(-1 <= r['user/angle'] <= 1 and -1 <= r['user/throttle'] <= 1 for r in rows)
