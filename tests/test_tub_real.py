"What real owners' tubs are like: each defect that was met, on a tub made for it."
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.core import EdgecarError, repo_root
from edgecar.data.advice import steering_signs, tub_warnings
from edgecar.data.check import RepairResult, repair_tub, inspect_tub, find_faults
from edgecar.data.convert import convert_tub
from edgecar.data.frames import load_recording
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Manifest, Tub, TubWriter, delete_records, find_tubs, find_tubs_in

logging.getLogger('donkeycar').setLevel(logging.CRITICAL)
ROOT, EDGECAR = repo_root(Path(__file__).parent), str(Path(sys.prefix)/'bin/edgecar')
IMAGE = 'cam/image_array'
N = 40   # records, in catalogs of 8
FIELDS = {'cam/image_array': 'image_array', 'user/angle': 'float', 'user/throttle': 'float'}
FIELDS |= {'user/mode': 'str'}


def run_in(folder, env, *command):
    "The finished process of a command."
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def jpeg(height, width, grey=0):
    "The bytes of a picture of one colour."
    return cv2.imencode('.jpg', np.full((height, width, 3), grey, np.uint8))[1].tobytes()


@pytest.fixture
def tub(tmp_path):
    return synthetic_tub(tmp_path/'tub', n=N, max_len=8)


@pytest.fixture
def frames(tmp_path):
    "Load a tub as arrays."
    return lambda *tubs, **how: load_recording(tubs, cache=tmp_path/'cache', bar=False, **how)


@pytest.fixture
def edgecar(tmp_path):
    "Run the command in a repository of its own: its exit code, output and errors."
    for name in ('settings.ini', 'dvc.yaml'):
        (tmp_path/name).touch()

    def run(*args):
        env = {**os.environ, 'COLUMNS': '200', 'EDGECAR_CACHE': str(tmp_path/'cache')}
        done = run_in(tmp_path, env, EDGECAR, *map(str, args))
        assert 'Traceback' not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr
    return run


def change(tub, how, only=None):
    "Change every record of a tub (or those numbered `only`): `how` takes one and gives one."
    for file in tub.glob('*.catalog'):
        records = [json.loads(line) for line in file.read_bytes().splitlines()]
        for n, r in enumerate(records):
            if only is None or r['_index'] in only:
                records[n] = how(r)
        lines = [json.dumps(r) + '\n' for r in records]
        file.write_text(''.join(lines))
        about = file.with_suffix('.catalog_manifest')
        notes = json.loads(about.read_text()) | {'line_lengths': list(map(len, lines))}
        about.write_text(json.dumps(notes) + '\n')


def rewrite_manifest(tub, **catalogs):
    lines = (tub/'manifest.json').read_text().splitlines()
    lines[4] = json.dumps({**json.loads(lines[4]), **catalogs})
    (tub/'manifest.json').write_text('\n'.join(lines) + '\n')


def by_donkeycar(tub):
    "The records that donkeycar reads."
    from donkeycar.parts.tub_v2 import Tub as Donkey
    theirs = Donkey(str(tub), read_only=True)
    try:
        return list(theirs)
    finally:
        theirs.close()


def content(tub):
    return {p.relative_to(tub): p.read_bytes() for p in tub.rglob('*') if p.is_file()}


def kinds(faults):
    return [f.kind for f in faults]


def numbers(tub):
    return [r['_index'] for r in Tub(tub)]


def images(tub):
    return sorted((tub/'images').iterdir())


# Data that was lost, or mended wrongly

def without_its_oldest(tub, by=12_000):
    "The owner removed the catalogs before number `by`."
    change(tub, lambda r: {**r, '_index': r['_index'] + by})
    rewrite_manifest(tub, current_index=N + by)


def test_1_the_oldest_catalogs_were_removed(tmp_path, frames):
    without_its_oldest(tub := synthetic_tub(tmp_path/'tub', n=N))
    assert find_faults(tub) == [] and repair_tub(tub) == RepairResult((), (), None)
    assert numbers(tub) == list(range(12_000, 12_000 + N)) == frames(tub).index.tolist()
    assert len(by_donkeycar(tub)) == N

    images(tub)[0].write_bytes(b'')
    lost = next(r['_index'] for r in Tub(tub) if r['cam/image_array'] == images(tub)[0].name)
    assert [(f.kind, f.index) for f in find_faults(tub)] == [('empty image', lost)]
    assert repair_tub(tub).dropped == (lost,) and find_faults(tub) == []
    left = [i for i in range(12_000, 12_000 + N) if i != lost]
    assert numbers(tub) == left == [r['_index'] for r in by_donkeycar(tub)]
    with TubWriter(tub, sync_s=None) as w:
        assert w.write({}) == 12_000 + N


def test_1_a_line_cut_short_at_the_start_keeps_its_number(tub):
    without_its_oldest(tub)
    file = tub/'catalog_0.catalog'
    file.write_text('{"_ind\n' + file.read_text().split('\n', 1)[1])
    assert ('bad line', 12_000) in [(f.kind, f.index) for f in find_faults(tub)]


def test_2_deleted_numbers_written_as_floats_stay_deleted(tub, frames):
    rewrite_manifest(tub, deleted_indexes=[5.0, 7])
    assert find_faults(tub) == [] and 5 not in numbers(tub) and 5 not in frames(tub).index
    images(tub)[-1].unlink()
    repair_tub(tub)
    assert {5, 7} <= Tub(tub).deleted and 5 not in numbers(tub)
    rewrite_manifest(tub, deleted_indexes=[5.0, '7', 9])
    text = (tub/'manifest.json').read_text()
    (tub/'manifest.json').write_text(text.replace('["cam/image_array"', '["cam/image_array'))
    assert kinds(find_faults(tub)) == ['broken manifest']
    repair_tub(tub)
    assert {5, 7, 9} <= Tub(tub).deleted, 'a broken manifest too keeps what can be read of it'


def upper_case(tub):
    for p in images(tub):
        p.rename(p.with_suffix('.JPG'))


def lower_case(tub):
    change(tub, lambda r: {**r, 'cam/image_array': r['cam/image_array'].upper()})


MENDABLE = {   # what all records share: how
    'steering as text': lambda t: change(t, lambda r: {**r, 'user/angle': str(r['user/angle'])}),
    'rounded beyond 1': lambda t: change(t, lambda r: {**r, 'user/throttle': 1.0000001}),
    'a folder before the image': lambda t: change(t, lambda r: {**r, IMAGE: f'images/{r[IMAGE]}'}),
    'a backslash': lambda t: change(t, lambda r: {**r, IMAGE: f'C:\\mycar\\data\\images\\{r[IMAGE]}'}),
    '.JPG on the disk': upper_case,
    '.JPG in the record': lower_case,
    'numbers as text': lambda t: change(t, lambda r: {**r, '_index': str(r['_index'])}),
    'numbers as floats': lambda t: change(t, lambda r: {**r, '_index': float(r['_index'])}),
    'times as floats': lambda t: change(t, lambda r: {**r, '_timestamp_ms': r['_timestamp_ms'] + .25}),
    'times as text': lambda t: change(t, lambda r: {**r, '_timestamp_ms': str(r['_timestamp_ms'])}),
}


@pytest.mark.parametrize('name', MENDABLE)
def test_3_and_8_what_is_plainly_meant_is_read_and_mended_never_dropped(tub, frames, name):
    before, pixels = Tub(tub).records(), frames(tub)
    MENDABLE[name](tub)
    read = frames(tub)
    assert len(read) == N and read.skipped == () and (read.frames == pixels.frames).all()
    assert (read.steering == pixels.steering).all() and (read.time_ms == pixels.time_ms).all()
    assert set(kinds(find_faults(tub))) == {'odd value'} and len(find_faults(tub)) == N

    done = repair_tub(tub)
    assert (done.dropped, done.changed, len(done.faults)) == ((), N, N) and find_faults(tub) == []
    usual = {IMAGE, 'user/throttle'} if name in ('rounded beyond 1', '.JPG on the disk') else set()
    def rest(r):
        return {k: v for k, v in r.items() if k not in usual}
    for old, new in zip(before, Tub(tub).records(), strict=True):
        assert rest(new) == rest(old)
        assert type(new['_index']) is type(new['_timestamp_ms']) is int
        assert isinstance(new['user/angle'], float)
        assert (tub/'images'/new['cam/image_array']).is_file() and abs(new['user/throttle']) <= 1
    assert by_donkeycar(tub) == Tub(tub).records()


def pointer(file):
    "Put into a file what git leaves there when nobody has fetched it."
    file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:' + 64 * '0' + '\nsize 4000\n')


@pytest.mark.parametrize('what', ['images', 'catalogs', 'manifest'])
def test_3_git_lfs_pointers_are_named_and_nothing_is_touched(tub, edgecar, what):
    files = dict(images=images(tub), catalogs=tub.glob('*.catalog'), manifest=[tub/'manifest.json'])
    for file in files[what]:
        pointer(file)
    before = content(tub)
    assert 'Git LFS pointer' in kinds(find_faults(tub))
    code, out, err = edgecar('tub', 'repair', 'tub')
    assert code == 1 and 'Git LFS pointer' in err and content(tub) == before
    if what == 'images':
        assert f'{N} of {N} records would be dropped; nothing was done' in err
    else:
        assert '-> run `git lfs pull`' in err


@pytest.mark.parametrize('lost, asks', [(1, False), (2, False), (3, True), (N, True)])
def test_3_more_than_a_few_per_cent_are_dropped_only_when_told_to(tub, edgecar, lost, asks):
    for i in range(lost):
        (tub/'images'/f'{i}_cam_image_array_.jpg').write_bytes(b'no picture')
    before = content(tub)
    code, out, err = edgecar('tub', 'repair', 'tub')
    if asks:
        assert code == 1
        assert f'{lost} of {N} records would be dropped; nothing was done (broken image: {lost} rec' in err
        assert err.rstrip().endswith('drop them all the same with --yes') and content(tub) == before
        code, out, err = edgecar('tub', 'repair', 'tub', '--yes')
    assert code == 0 and f'{lost} records dropped into' in out, err
    assert numbers(tub) == list(range(lost, N)) and find_faults(tub) == []
    assert len(list(tub.glob('.quarantine/0/images/*'))) == lost


def test_3_one_tub_that_stops_keeps_nobody_from_the_next(tub, tmp_path, edgecar):
    other = synthetic_tub(tmp_path/'z', n=N)
    for p in images(tub):
        pointer(p)
    images(other)[0].unlink()
    code, out, err = edgecar('tub', 'repair', '.')
    assert code == 1 and 'z: 1 faults, 1 records dropped' in out and 'tub: 40 of 40' in err
    assert find_faults(other) == []


def test_4_a_manifest_behind_its_catalogs(tub, edgecar, frames):
    listed = ['catalog_0.catalog', 'catalog_1.catalog']
    rewrite_manifest(tub, paths=listed, current_index=16, deleted_indexes=[3, 20])
    assert len(Tub(tub)) == 15
    code, out, _ = edgecar('tub', 'verify', 'tub')
    assert code == 1 and 'catalog_2.catalog: unlisted records (8 records, 16-23)' in out
    assert out.count('unlisted records') == 3
    code, out, _ = edgecar('tub', 'repair', 'tub')
    assert code == 0 and ' 0 records dropped' in out and 'unlisted records: taken in' in out
    assert numbers(tub) == [i for i in range(N) if i not in (3, 20)] and find_faults(tub) == []
    assert len(by_donkeycar(tub)) == len(frames(tub)) == N - 2


def test_4_a_catalog_of_records_that_others_have_is_no_offer(tub):
    shutil.copy(tub/'catalog_2.catalog', tub/'catalog_9.catalog')
    assert [(f.kind, f.file) for f in find_faults(tub)] == [('unlisted catalog', 'catalog_9.catalog')]
    assert repair_tub(tub).dropped == () and numbers(tub) == list(range(N))


def test_5_mixed_sizes_are_no_fault(tub, frames, edgecar):
    for p in images(tub)[:30]:
        p.write_bytes(jpeg(76, 135, 90))
    assert find_faults(tub) == [] and repair_tub(tub) == RepairResult((), (), None)
    read = frames(tub)
    assert len(read) == N and read.skipped == ()
    assert read.fits() == {'76x135 cropped to 76x101, resized to 120x160': 30}
    code, out, _ = edgecar('tub', 'verify', 'tub')
    assert code == 0 and 'warning: images: mixed sizes (30 frames of 76x135, 10 frames of 120x160)' in out
    assert out.endswith('0 faults, 1 warnings\n')


# Advice that led nowhere

def other_names(tub, wild=()):
    "Commands under other names, and beyond the range in the records `wild`."
    def renamed(r):
        r = {{'user/angle': 'steering', 'user/throttle': 'throttle'}.get(k, k): x for k, x in r.items()}
        return {**r, 'throttle': -3.} if r['_index'] in wild else r
    change(tub, renamed)
    text = (tub/'manifest.json').read_text()
    text = text.replace('user/angle', 'steering').replace('user/throttle', 'throttle')
    (tub/'manifest.json').write_text(text)


def test_6_commands_under_other_names(tub, edgecar, frames):
    before = [(r['user/angle'], r['user/throttle']) for r in Tub(tub)]
    other_names(tub, wild=[7])
    code, out, _ = edgecar('tub', 'verify', 'tub')
    assert code == 1 and 'user/angle is in no record, but steering is, from ' in out
    assert 'throttle is, from -3 to ' in out
    with pytest.raises(EdgecarError, match='user/angle is None'):
        frames(tub)
    code, _, err = edgecar('tub', 'repair', 'tub')
    assert code == 1 and '--rename steering=user/angle' in err and not (tub/'.quarantine').exists()

    how = ['--rename', 'steering=user/angle', '--rename', 'throttle=user/throttle']
    code, out, err = edgecar('tub', 'repair', 'tub', *how)
    assert code == 0 and '1 faults, 1 records dropped' in out, err
    assert [(r['user/angle'], r['user/throttle']) for r in Tub(tub)] == before[:7] + before[8:]
    assert find_faults(tub) == []
    m = Manifest.read(tub)
    assert dict(zip(m.inputs, m.types)) == FIELDS and len(frames(tub)) == len(by_donkeycar(tub)) == N - 1
    code, _, err = edgecar('tub', 'repair', 'tub', *how)
    assert code == 1 and 'has no field' in err


def test_6_a_rename_never_overwrites(tub):
    change(tub, lambda r: {**r, 'steering': 0.})
    before = content(tub)
    with pytest.raises(EdgecarError, match='has a field user/angle already'):
        repair_tub(tub, rename={'steering': 'user/angle'})
    assert content(tub) == before


def test_7_every_record_is_deleted(tub, edgecar, frames):
    delete_records(tub, range(N))
    code, out, _ = edgecar('tub', 'verify', 'tub')
    assert code == 0 and 'warning: records: all deleted (40 records) -> edgecar tub restore TUB --all' in out
    with pytest.raises(EdgecarError, match='all 40 are deleted -> bring them back: edgecar tub'):
        frames(tub)
    assert edgecar('tub', 'restore', 'tub')[0] == 1 and len(Tub(tub)) == 0
    code, out, _ = edgecar('tub', 'restore', 'tub', '--all')
    assert code == 0 and '40 records, 0 deleted' in out and len(frames(tub)) == N


def test_7_a_stub_has_nothing_to_bring_back(tub):
    images(tub)[0].unlink()
    lost, = repair_tub(tub).dropped
    from edgecar.data.tub import restore_records
    restore_records(tub)
    restore_records(tub, [lost])
    assert Tub(tub).deleted == {lost} and find_faults(tub) == []


def test_8_a_time_that_nobody_understands_costs_no_record(tub, frames):
    change(tub, lambda r: {**r, '_timestamp_ms': 'noon'}, only=[4])
    change(tub, lambda r: {**r, '_timestamp_ms': '2020-01-01 00:00:00.250000'}, only=[5])
    read = frames(tub)
    assert len(read) == N and read.time_ms[4] == 0 and read.time_ms[5] == 1577836800250


def test_9_a_tub_that_donkeycar_left_empty(tmp_path, edgecar, frames):
    from donkeycar.parts.tub_v2 import Tub as Donkey
    Donkey(str(tmp_path/'empty'), list(FIELDS), list(FIELDS.values())).close()
    code, out, _ = edgecar('tub', 'verify', 'empty')
    assert code == 0 and 'warning: records: no records' in out and out.endswith('0 faults, 1 warnings\n')
    with pytest.raises(EdgecarError, match='nothing was ever recorded'):
        frames(tmp_path/'empty')
    with TubWriter(tmp_path/'empty', sync_s=None) as w:
        w.write({'user/angle': 0., 'user/throttle': 0.})
    assert len(by_donkeycar(tmp_path/'empty')) == 1


# Scores

@pytest.fixture
def pilot(tmp_path, tf):
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.model import Edge
    net = Edge()
    (tmp_path/'pilot.tflite').write_bytes(convert_to_tflite(net.whole(net.net())))


@pytest.mark.slow
def test_10_and_11_a_folder_of_tubs_is_scored_tub_by_tub(tmp_path, edgecar, pilot):
    synthetic_tub(tmp_path/'tubs/a', n=30)
    synthetic_tub(tmp_path/'tubs/b', n=20, size=(224, 224))
    synthetic_tub(tmp_path/'tubs/c', n=20, size=(96, 160))
    delete_records(synthetic_tub(tmp_path/'tubs/d', n=20), range(20))
    code, out, err = edgecar('score', 'pilot.tflite', 'tubs')
    lines = {words[0]: words for line in out.splitlines() if (words := line.split())}
    assert code == 0 and lines['frames'][1] == '70' and 'steering.mae' in lines, err
    assert [lines[f'tubs/{name}'][1] for name in 'abcd'] == ['30', '20', '20', '0']
    assert float(lines['tubs/a'][2]) >= 0 and float(lines['tubs/b'][3]) >= 0
    assert '20 of 224x224 cropped to 168x224, resized to 120x160' in out
    assert '20 of 96x160 cropped to 96x128, resized to 120x160' in out
    assert 'no usable record: all 20 are deleted' in out

    code, out, err = edgecar('score', 'pilot.tflite', 'tubs/b')
    assert code == 0 and 'cropped to 168x224' in out and 'load it with' not in out + err
    code, out, err = edgecar('score', 'pilot.tflite', 'tubs/d')
    assert code == 1 and 'all 20 are deleted' in err and out == ''


def moving_tub(path, sign=1, throttle=.3, lag=2, n=300, seed=0):
    "A tub of a car in a round room: what is steered turns it `lag` frames later."
    rng = np.random.default_rng(seed)
    room = cv2.GaussianBlur(rng.integers(0, 256, (60, 4000, 3), np.uint8), (0, 0), 3)
    room = cv2.normalize(room, None, 0, 255, cv2.NORM_MINMAX)
    wheel = .7 * np.sin(np.arange(n) / 9) + rng.normal(0, .05, n)
    turned = np.cumsum(np.concatenate([np.zeros(lag), wheel])[:n]) * 4
    with TubWriter(path, FIELDS, FIELDS.values(), created_at=0, sync_s=None) as w:
        for i in range(n):
            view = np.ascontiguousarray(np.roll(room, -2000 - int(turned[i]), 1)[:, :80])
            steering = float(np.clip(sign * wheel[i], -1, 1))
            commands = {'user/angle': steering, 'user/throttle': throttle, 'pilot/angle': .5}
            w.write({IMAGE: view, **commands, '_timestamp_ms': 50 * i, '_session_id': 'a_0'})
    return Path(path)


@pytest.mark.slow
def test_12_steering_of_the_opposite_sign_is_seen_and_turned(tmp_path, edgecar, frames):
    tub = moving_tub(tmp_path/'tub', -1)
    sign, _ = steering_signs(frames(tub))[str(tub)]
    assert (sign.verdict, sign.lag) == ('opposite', 1)
    code, out, _ = edgecar('tub', 'verify', 'tub')
    assert code == 0
    assert 'opposite steering (the car turns left where steering is positive: correlation -0.9' in out
    assert 'edgecar tub repair TUB --flip-steering' in out and out.endswith('0 faults, 1 warnings\n')

    before = Tub(tub).records()
    delete_records(tub, [3])
    code, out, _ = edgecar('tub', 'repair', 'tub', '--flip-steering')
    assert code == 0 and '0 records dropped into' in out and '300 records written anew' in out
    assert Tub(tub).metadata['flipped'] == ['pilot/angle', 'user/angle'] and Tub(tub).deleted == {3}
    after = Tub(tub).records(deleted=True)
    assert [(r['user/angle'], r['pilot/angle']) for r in after] == [(-r['user/angle'], -.5) for r in before]
    def rest(records):
        return [{**r, 'user/angle': 0, 'pilot/angle': 0} for r in records]
    assert rest(after) == rest(before)
    left = [p.name for p in sorted(tub.glob('*catalog*'))]
    assert left == ['catalog_0.catalog', 'catalog_0.catalog_manifest']
    assert edgecar('tub', 'verify', 'tub')[:2] == (0, '0 faults\n')
    assert steering_signs(frames(tub))[str(tub)][0].verdict == 'right' and len(by_donkeycar(tub)) == 299

    code, _, err = edgecar('tub', 'repair', 'tub', '--flip-steering')
    assert code == 1 and 'has been turned already -> to turn it back, add --yes' in err
    assert Tub(tub).records(deleted=True) == after
    assert edgecar('tub', 'repair', 'tub', '--flip-steering', '--yes')[0] == 0
    assert Tub(tub).records(deleted=True) == before and Tub(tub).metadata['flipped'] == []


@pytest.mark.parametrize('seed', range(6))
def test_12_steering_that_has_nothing_to_do_with_the_frames_has_no_sign(tmp_path, frames, seed):
    rec = frames(moving_tub(tmp_path/'tub', n=400, seed=seed))
    other = .7 * np.sin(np.arange(400) / (5 + 3 * seed) + seed)
    from edgecar.data.advice import check_driving
    rest = rec.throttle, rec.index, rec.session, rec.time_ms
    sign, warned = check_driving(rec.frames, other, *rest)
    assert sign.verdict == 'unknown' and warned == [], sign
    for factor, verdict in ((1, 'right'), (-1, 'opposite')):
        assert check_driving(rec.frames, factor * rec.steering, *rest)[0].verdict == verdict


def steady(tub):
    change(moving_tub(tub), lambda r: {**r, 'user/angle': .02})


def covered(tub):
    for p in images(moving_tub(tub)):
        p.write_bytes(jpeg(60, 80))


@pytest.mark.parametrize('how, says', [
    (lambda t: moving_tub(t, throttle=-.3), 'negative throttle (in 100 % of the records'),
    (steady, 'constant steering (0.02 in 100 % of the records)'),
    (covered, 'black frames (300 of the 300 looked at, as records 0-299)')])
def test_12_what_looks_wrong_is_said_and_is_no_fault(tmp_path, edgecar, how, says):
    how(tmp_path/'tub')
    code, out, _ = edgecar('tub', 'verify', 'tub')
    assert code == 0 and says in out and '0 faults, 1 warnings' in out, out


def test_12_throttle_is_turned_too(tmp_path, edgecar):
    tub = moving_tub(tmp_path/'tub', throttle=-.3, n=100)
    assert edgecar('tub', 'repair', 'tub', '--flip-throttle')[0] == 0
    assert {r['user/throttle'] for r in Tub(tub)} == {.3}
    assert edgecar('tub', 'verify', 'tub')[1] == '0 faults\n'


def test_12_a_toy_road_has_no_sign_and_no_warning(tub):
    assert tub_warnings(inspect_tub(tub)) == []


@pytest.mark.skipif(not os.environ.get('EDGECAR_MIRROR'), reason='needs EDGECAR_MIRROR with the public tub')
def test_12_a_real_car_turns_right_where_its_steering_is_positive(tmp_path, frames):
    from edgecar.data.public import install_tub
    tub = install_tub('donkeycar-test-tub', to=tmp_path/'real')
    rec = frames(tub)
    from edgecar.data.advice import check_driving
    rest = rec.throttle, rec.index, rec.session, rec.time_ms
    for factor, verdict in ((1, 'right'), (-1, 'opposite')):
        sign, warned = check_driving(rec.frames, factor * rec.steering, *rest)
        assert sign.verdict == verdict and abs(sign.correlation) > .9, sign
    assert tub_warnings(inspect_tub(tub)) == []


# Messages

@pytest.mark.slow
def test_13_a_crowd_of_faults_takes_one_line(tmp_path, edgecar):
    tub = synthetic_tub(tmp_path/'tub', n=300)
    for p in images(tub):
        if int(p.name.split('_')[0]) in {*range(10, 200), 250}:
            p.unlink()
    code, out, _ = edgecar('tub', 'verify', 'tub')
    first, last = out.splitlines()
    assert code == 1 and last.startswith('191 faults -> ')
    assert 'missing image: 191 records, 10-199, 250, such as catalog_0.catalog' in first
    assert 'no images/' not in first
    assert len(edgecar('tub', 'verify', 'tub', '--each')[1].splitlines()) == 192
    shutil.rmtree(tub/'images')
    out = edgecar('tub', 'verify', 'tub')[1]
    assert 'missing image: 300 records, 0-299, ' in out and out.count('and there is no images/') == 1
    assert out.count('\n') == 2


def test_14_ls_counts_what_is_there(tub, edgecar):
    delete_records(tub, range(10, 35))
    for n in (1, 3):
        (tub/f'catalog_{n}.catalog').unlink()
    row = edgecar('tub', 'ls', 'tub')[1].splitlines()[1].split()
    there = [i for i in range(N) if i // 8 not in (1, 3)]
    live = [i for i in there if not 10 <= i < 35]
    assert row[:5] == ['tub', str(len(live)), str(len(there) - len(live)), '2', 'catalogs']
    (tub/'manifest.json').write_text('{')
    assert 'is broken' in edgecar('tub', 'ls', 'tub')[1]


def old_tub(path, n=12, **changes):
    "A tub of DonkeyCar 3, written by donkeycar's own code of the time."
    from donkeycar.parts.datastore import Tub as OldTub
    from edgecar.data.synthetic import draw_road
    fields = FIELDS | {'lap': 'int'}
    tub = OldTub(str(path), inputs=list(fields), types=list(fields.values()), user_meta=['driver:Ann'])
    for i in range(n):
        commands = {'user/angle': -.5 + i / n, 'user/throttle': .4, 'user/mode': 'user', 'lap': i // 5}
        tub.put_record({'cam/image_array': draw_road(.1 * i, 0), **commands})
    return Path(path)


def test_15_a_tub_of_donkeycar_3_is_named_and_converted(tmp_path, edgecar, frames):
    old = old_tub(tmp_path/'log/tub_1_19-06-08')
    (old/'exclude.json').write_text('[3]')
    (old/'record_5.json').write_text('{"cam/')
    (old/'7_cam-image_array_.jpg').unlink()
    before = content(old)
    for args in (['tub', 'ls', 'log'], ['tub', 'verify', 'log'], ['tub', 'repair', 'log']):
        code, out, err = edgecar(*args)
        assert code == 1 and 'DonkeyCar 3 or older' in err
        assert '-> convert it: edgecar tub convert log/tub_1_19-06-08 NEW' in err
    code, out, err = edgecar('tub', 'convert', 'log', 'tubs/monday')
    assert code == 0 and out.startswith('tubs/monday: 10 records, 1 deleted, 2 left out\n'), err
    assert 'record_5.json: bad line' in out and 'record_7.json: missing image' in out
    assert content(old) == before

    new = tmp_path/'tubs/monday'
    assert find_faults(new) == [] and Tub(new).metadata == {'driver': 'Ann'}
    kept = [i for i in range(1, 13) if i not in (3, 5, 7)]
    assert [round(r['user/angle'], 6) for r in Tub(new)] == [round(-.5 + (i - 1) / 12, 6) for i in kept]
    assert [r['lap'] for r in Tub(new)] == [(i - 1) // 5 for i in kept]
    assert by_donkeycar(new) == Tub(new).records()
    for i, r in zip(kept, Tub(new)):
        assert (new/'images'/r[IMAGE]).read_bytes() == (old/f'{i}_cam-image_array_.jpg').read_bytes()
        passed = json.loads((old/f'record_{i}.json').read_text())['milliseconds']
        start = json.loads((old/'meta.json').read_text())['start']
        assert abs(r['_timestamp_ms'] - (1000 * start + passed)) <= 1
    assert len(frames(new)) == 9
    code, _, err = edgecar('tub', 'convert', 'log', 'tubs/monday')
    assert code == 1 and 'is there already' in err and len(list((tmp_path/'tubs').iterdir())) == 1


def test_15_several_old_tubs_keep_their_names(tmp_path, edgecar):
    for name in ('tub_1', 'tub_2'):
        old_tub(tmp_path/'log'/name, 4)
    assert edgecar('tub', 'convert', 'log', 'tubs')[0] == 0
    assert [len(Tub(t)) for t in find_tubs(tmp_path/'tubs')] == [4, 4]


def test_15_without_its_meta_json_an_old_tub_has_the_usual_fields(tmp_path):
    old = old_tub(tmp_path/'old', 3)
    (old/'meta.json').unlink()
    for i in (1, 2, 3):
        record = json.loads((old/f'record_{i}.json').read_text())
        del record['milliseconds']
        (old/f'record_{i}.json').write_text(json.dumps(record))
    new = convert_tub(old, tmp_path/'new').tub
    assert Tub(new).inputs == list(FIELDS) and [r['_timestamp_ms'] for r in Tub(new)] == [50, 100, 150]
    assert find_faults(new) == []


def test_15_a_conversion_that_fails_leaves_nothing(tmp_path):
    old = old_tub(tmp_path/'old', 3)
    for p in old.glob('*.jpg'):
        p.unlink()
    with pytest.raises(EdgecarError, match='no record is usable: record_1.json: missing image'):
        convert_tub(old, tmp_path/'new')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['old']


def test_16_images_that_no_record_names_are_mentioned(tub, edgecar):
    for n in (1, 3):
        (tub/f'catalog_{n}.catalog').unlink()
    out = edgecar('tub', 'verify', 'tub')[1]
    says = 'unnamed images (no record names 16 files, such as images/10_cam_image_array_.jpg)'
    assert f'tub: warning: images: {says} -> ' in out


def test_17_links_that_are_not_followed_are_named(tmp_path, edgecar):
    synthetic_tub(tmp_path/'stick/tub', n=3)
    synthetic_tub(tmp_path/'tubs/here', n=3)
    (tmp_path/'tubs/away').symlink_to(tmp_path/'stick')
    for command in ('ls', 'verify'):
        code, out, err = edgecar('tub', command, 'tubs')
        assert code == 0 and 'tubs/away: a link, not followed -> name what it leads to: ' in err
    shutil.rmtree(tmp_path/'tubs/here')
    code, _, err = edgecar('tub', 'ls', 'tubs')
    assert code == 1 and 'holds no tub, but the link away, which is not followed' in err
    row = edgecar('tub', 'ls', 'tubs/away')[1].splitlines()[1]
    assert row.startswith('tubs/away/tub'), 'one that is named is followed'


def test_18_a_byte_order_mark_costs_no_record(tub, frames):
    for name in ('manifest.json', 'catalog_0.catalog', 'catalog_2.catalog'):
        (tub/name).write_bytes(b'\xef\xbb\xbf' + (tub/name).read_bytes())
    assert numbers(tub) == list(range(N)) and len(frames(tub)) == N
    assert kinds(find_faults(tub)) == ['byte order mark'] * 3
    assert repair_tub(tub).dropped == () and find_faults(tub) == [] and len(by_donkeycar(tub)) == N


@pytest.mark.parametrize('before', ['data/', '/home' + '/pi/mycar/data/', 'C:\\mycar\\data\\'])
def test_19_a_folder_before_the_name_of_a_catalog(tub, frames, before):
    names = Manifest.read(tub).catalogs['paths']
    rewrite_manifest(tub, paths=[before + p for p in names])
    assert numbers(tub) == list(range(N)) and len(frames(tub)) == N
    assert kinds(find_faults(tub)) == ['odd path'] * 5
    assert repair_tub(tub).dropped == () and find_faults(tub) == [] and len(by_donkeycar(tub)) == N
    assert json.loads((tub/'manifest.json').read_text().splitlines()[4])['paths'] == names


# A folder that is not there

def test_a_missing_folder_is_an_error_not_an_empty_list(tmp_path, edgecar):
    synthetic_tub(tmp_path/'tubs/a', n=2)
    says = 'data: is not there -> is the path right\\? `edgecar data get` brings the starter'
    for attempt in (find_tubs, lambda p: find_tubs_in([p]), lambda p: find_tubs_in(f'{tmp_path}/tubs, {p}')):
        with pytest.raises(EdgecarError, match=says):
            attempt(tmp_path/'data')
    (tmp_path/'data').mkdir()
    assert find_tubs(tmp_path/'data') == []
    with pytest.raises(EdgecarError, match='data: holds no tub'):
        find_tubs_in([tmp_path/'data'])
    with pytest.raises(EdgecarError, match='no tub is named'):
        load_recording([])


def prepare(folder, **parameters):
    "Run the stage `prepare` in a folder; the finished process."
    words = [w for k, v in parameters.items() for w in ('-p', k, str(v))]
    papermill = sys.executable, '-m', 'papermill', '-k', 'python3', '--no-progress-bar', '--log-output'
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'EDGECAR_CACHE': str(folder/'.cache')}
    return run_in(folder, env, *papermill, ROOT/'nbs/flows/1_prepare.ipynb', 'run.ipynb', *words)


@pytest.mark.slow
def test_prepare_refuses_a_folder_that_is_not_there(tmp_path):
    synthetic_tub(tmp_path/'tubs/a', n=60)
    done = prepare(tmp_path, tubs='tubs/a,data')
    assert done.returncode and 'EdgecarError: data: is not there -> is the path right?' in done.stderr
    assert not (tmp_path/'build').exists() and not (tmp_path/'metrics').exists()


@pytest.mark.slow
def test_prepare_names_and_records_what_it_did_to_frames(tmp_path):
    synthetic_tub(tmp_path/'tubs/a', n=60, size=(224, 224))
    synthetic_tub(tmp_path/'tubs/b', n=60)
    moving_tub(tmp_path/'tubs/c', -1, n=200)
    done = prepare(tmp_path, tubs='tubs')
    assert done.returncode == 0, done.stderr[-2000:]
    fit = '224x224 cropped to 168x224, resized to 120x160'
    assert f'tubs/a: 60 of {fit}' in done.stderr and 'tubs/b: 60 frames, 0 passed over' in done.stderr
    assert 'tubs/c: sign of steering opposite' in done.stderr
    assert 'tubs/b: sign of steering unknown' in done.stderr
    metrics = json.loads((tmp_path/'metrics/prepare.json').read_text())
    assert metrics['fitted'] == {fit: 60, '60x80 resized to 120x160': 200}
    assert metrics['opposite_steering'] == 1
    prepared = json.loads((tmp_path/'build/prepare/prepared.json').read_text())
    assert prepared['fitted'] == [f'tubs/a: 60 of {fit}', 'tubs/c: 200 of 60x80 resized to 120x160']
    b = prepared['sources'][1]
    assert (b['tub'], b['frames'], b['sizes']) == ('tubs/b', 60, {'120x160': 60})


@pytest.mark.parametrize('name', ['pilot', 'time_to_gate', 'joint', 'domain_gap'])
def test_a_benchmark_does_not_measure_without_the_starter(tmp_path, name):
    for file in ('settings.ini', 'dvc.yaml', 'params.yaml'):
        shutil.copy(ROOT/file, tmp_path)
    shutil.copytree(ROOT/'benchmarks', tmp_path/'benchmarks')
    synthetic_tub(tmp_path/'.cache/donkeycar-test-tub', n=30)
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = run_in(tmp_path, env, sys.executable, tmp_path/f'benchmarks/{name}.py')
    assert done.returncode and done.stdout == '' and 'data: is not there' in done.stderr, done.stderr
