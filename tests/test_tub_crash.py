"A writer that is killed, many times, at moments nobody chose."
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from edgecar.data.check import repair_tub, find_faults
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Manifest, Tub, TubWriter

logging.getLogger('donkeycar').setLevel(logging.CRITICAL)

# Says each number as soon as `write` has returned: what has
# been said must be in the tub, whatever happens next.
WRITER = '''
import sys, numpy as np
from edgecar.data.tub import TubWriter
frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
fields = ['cam/image_array', 'user/angle', 'user/throttle', 'note']
types = ['image_array', 'float', 'float', 'str']
with TubWriter(sys.argv[1], fields, types, max_len=7, sync_s=None) as w:
    for i in range(int(sys.argv[2])):
        said = w.write({'cam/image_array': frame, 'user/angle': .5, 'user/throttle': .5,
                        'note': 'x' * 3000, 'n': i})
        print(said, flush=True)
'''


def kill_after(path, lines, delay):
    """Run the writer until it has said so many numbers, then kill it a moment later;
    returns the last number it said."""
    with subprocess.Popen([sys.executable, '-c', WRITER, path, '100000'], stdout=subprocess.PIPE,
                          text=True) as p:
        try:
            numbers = [p.stdout.readline() for _ in range(lines)]
            end = time.perf_counter() + delay
            while time.perf_counter() < end:
                pass   # finer than a sleep
        finally:
            p.send_signal(signal.SIGKILL)
        numbers += p.stdout.read().splitlines()
    assert p.returncode == -signal.SIGKILL
    return int([x for x in numbers if x.strip()][-1])


def donkey_read(path):
    from donkeycar.parts.tub_v2 import Tub as Donkey
    tub = Donkey(str(path), read_only=True)
    records = list(tub)
    assert len(tub) == len(records)
    tub.close()
    return records


def donkey_write(path, n):
    from donkeycar.parts.tub_v2 import Tub as Donkey
    tub = Donkey(str(path))
    for _ in range(n):
        tub.write_record({})
    tub.close()


def our_write(path, n):
    with TubWriter(path, sync_s=None) as w:
        for _ in range(n):
            w.write({'user/angle': 0., 'user/throttle': 0.})


def sound(path, index):
    "The tub holds all that was said, at most one more, and everything in it agrees."
    m = Manifest.read(path)
    records = list(Tub(path))
    assert [r['_index'] for r in records] == list(range(m.catalogs['current_index']))
    assert len(records) in (index + 1, index + 2)
    assert donkey_read(path) == records
    # the copy and the temporary file of the record in flight
    faults = [f for f in find_faults(path) if f.kind not in ('unlisted catalog', 'leftover file')]
    assert faults == []
    return records


def test_an_end_between_the_first_record_of_a_catalog_and_the_manifest(tmp_path, monkeypatch):
    "The moment that a kill hits most rarely; both writers begin the catalog anew."
    pytest.importorskip('donkeycar')
    written, tub = tmp_path/'written', tmp_path/'tub'
    publish = Manifest.write

    def copy_then_publish(manifest, path):
        if not tub.exists() and manifest.catalogs['current_index'] == 8:
            shutil.copytree(written, tub)
        publish(manifest, path)

    monkeypatch.setattr(Manifest, 'write', copy_then_publish)
    with TubWriter(written, sync_s=None, max_len=7) as writer:
        for _ in range(8):
            writer.write({'user/angle': 0., 'user/throttle': 0.})
    assert (tub/'catalog_1b.catalog').read_text().count('_index') == 1
    before = sound(tub, 6)
    for name, go_on in [('ours', our_write), ('donkeycar', donkey_write)]:
        copy = shutil.copytree(tub, tmp_path/name)
        go_on(copy, 9)
        assert [r['_index'] for r in Tub(copy)] == list(range(len(before) + 9))


@pytest.mark.parametrize('seed', range(4))
def test_kill_at_any_moment(tmp_path, seed):
    "Twelve kills of one tub; each time, copies of it are continued by our writer and by donkeycar's own."
    pytest.importorskip('donkeycar')
    chance, tub, first = random.Random(seed), tmp_path/'tub', -1
    for kill in range(12):
        index = kill_after(tub, lines=chance.randint(1, 9), delay=chance.uniform(0, .004))
        assert index > first
        before = sound(tub, index)
        for name, go_on in [('ours', our_write), ('donkeycar', donkey_write)]:
            copy = shutil.copytree(tub, tmp_path/name)
            go_on(copy, 9)
            after = list(Tub(copy))
            assert after[:len(before)] == before
            assert [r['_index'] for r in after] == list(range(len(before) + 9))
            assert donkey_read(copy) == after
            shutil.rmtree(copy)
        first = index
    with TubWriter(tub, sync_s=None):
        pass
    assert {p.name for p in tub.glob('*b.catalog*')} == set()   # closing leaves one copy


def test_a_killed_sessions_name_is_not_used_again(tmp_path):
    for _ in range(2):
        kill_after(tmp_path, lines=2, delay=0)
    our_write(tmp_path, 1)
    sessions = [r['_session_id'] for r in Tub(tmp_path)]
    assert len(set(sessions)) == 3 and sessions == sorted(sessions)


@pytest.mark.parametrize('cut', range(0, 60, 7))
def test_what_a_killed_donkeycar_leaves_is_continued_or_repaired(tmp_path, cut):
    "donkeycar writes the line first and the count last, and empties the manifest's last line in between."
    tub = tmp_path/'t'
    with TubWriter(tub, ['user/angle', 'user/throttle'], ['float', 'float'], created_at=0, session='s_0',
                   sync_s=None) as w:
        for i in range(5):
            w.write({'user/angle': 0., 'user/throttle': 0., '_timestamp_ms': i})
    line = json.dumps(
        {'_index': 5, '_session_id': 's_0', '_timestamp_ms': 5, 'user/angle': .1, 'user/throttle': 0.}) + '\n'
    line = line[:len(line) - cut]
    with (tub/'catalog_0.catalog').open('a') as f:
        f.write(line)
    whole = line.endswith('}') or line.endswith('\n')
    our_write(tub, 1)                                             # the manifest still says five
    assert [r['_index'] for r in Tub(tub)] == list(range(7 if whole else 6)) and find_faults(tub) == []
    text = (tub/'manifest.json').read_text().splitlines(True)
    (tub/'manifest.json').write_text(''.join(text[:4]))           # the manifest says nothing
    repair_tub(tub)
    our_write(tub, 1)
    assert [r['_index'] for r in Tub(tub)] == list(range(8 if whole else 7)) and find_faults(tub) == []


FLIP = """
import sys
from edgecar.data.check import repair_tub
print('go', flush=True)
repair_tub(sys.argv[1], flip_steering=True)
"""


def turn(path, seconds=None):
    "Turn the sign of steering in another process, and kill that so many seconds after it began; gives them."
    with subprocess.Popen([sys.executable, '-c', FLIP, path], stdout=subprocess.PIPE, text=True) as p:
        try:
            p.stdout.readline()
            start = time.perf_counter()
            while p.poll() is None and (seconds is None or time.perf_counter() < start + seconds):
                pass
            return time.perf_counter() - start
        finally:
            p.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(2))
def test_a_sign_is_turned_in_all_records_or_in_none(tmp_path, seed):
    "Kills of a repair of many catalogs; what is left is sound, and says itself which sign it has."
    chance, tub = random.Random(seed), synthetic_tub(tmp_path/'tub', n=60, max_len=4, size=(12, 16))
    before = [r['user/angle'] for r in Tub(tub)]
    whole = turn(shutil.copytree(tub, tmp_path/'whole'))
    for kill in range(8):
        copy = shutil.copytree(tub, tmp_path/str(kill))
        turn(copy, chance.uniform(.2, 1) * whole)
        turned = bool(Tub(copy).metadata.get('flipped'))
        expected = [-x or 0. for x in before] if turned else before
        for _ in range(2):   # as it was left, and after a repair of what was left
            assert [r['user/angle'] for r in Tub(copy)] == expected
            repair_tub(copy)
        assert find_faults(copy) == [] and bool(Tub(copy).metadata.get('flipped')) is turned
