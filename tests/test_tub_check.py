"Every fault a tub can have: found with its record, mended, and nothing of it deleted."
import io
import json
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from edgecar.core import EdgecarError
from edgecar.data.check import FAULT_KINDS, RepairResult, repair_tub, find_faults
from edgecar.data.frames import load_recording
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Manifest, Tub, TubWriter, delete_records, find_tubs, lock_folder

logging.getLogger('donkeycar').setLevel(logging.CRITICAL)
N = 20   # records, in catalogs of 8


@pytest.fixture
def tub(tmp_path):
    return synthetic_tub(tmp_path/'tub', n=N, max_len=8)


def image(tub, i):
    return tub/'images'/f'{i}_cam_image_array_.jpg'


def jpeg(size=(160, 120), mode='RGB', kind='JPEG'):
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), 99, np.uint8)).convert(mode).save(out, kind)
    return out.getvalue()


def edit(file, change):
    "Change the lines of a file, a list of bytes with their newlines."
    lines = file.read_bytes().splitlines(True)
    change(lines)
    file.write_bytes(b''.join(lines))


def record(tub, i, **changes):
    "Change fields of record `i`; None takes one away."
    def change(lines):
        r = {**json.loads(lines[i % 8]), **{k.replace('__', '/'): v for k, v in changes.items()}}
        lines[i % 8] = (json.dumps({k: v for k, v in r.items() if v is not None}) + '\n').encode()
    edit(tub/f'catalog_{i // 8}.catalog', change)


def manifest(tub, **changes):
    edit(tub/'manifest.json',
         lambda lines: lines.__setitem__(4, json.dumps({**json.loads(lines[4]), **changes}).encode() + b'\n'))


def catalog(n, change):
    return lambda tub: edit(tub/f'catalog_{n}.catalog', change)


FAULTS = {   # what is done: (how, the faults it gives, the records that are lost)
    'empty image': (lambda t: image(t, 3).write_bytes(b''), [('empty image', 3)], [3]),
    'truncated image': (lambda t: os.truncate(image(t, 3), 900), [('broken image', 3)], [3]),
    'image of zeros': (lambda t: image(t, 3).write_bytes(bytes(3000)), [('broken image', 3)], [3]),
    'text for an image': (lambda t: image(t, 3).write_text('no picture'), [('broken image', 3)], [3]),
    'tail of zeros': (lambda t: image(t, 3).write_bytes(image(t, 3).read_bytes()[:900] + bytes(2000)),
                      [('broken image', 3)], [3]),
    'missing image': (lambda t: image(t, 9).unlink(), [('missing image', 9)], [9]),
    'no image field': (lambda t: record(t, 9, cam__image_array=None),
                       [('bad lengths', None), ('missing image', 9)], [9]),
    'image elsewhere': (lambda t: record(t, 9, cam__image_array='../../x.jpg'),
                        [('bad lengths', None), ('missing image', 9)], [9]),
    'bad JSON line': (catalog(1, lambda x: x.__setitem__(2, b'{"_index": 10, "cam/\n')),
                      [('bad lengths', None), ('bad line', 10)], [10]),
    'binary line': (catalog(1, lambda x: x.__setitem__(2, bytes(range(128, 140)) + b'\n')),
                    [('bad lengths', None), ('bad line', 10)], [10]),
    'empty line': (catalog(1, lambda x: x.__setitem__(2, b'\n')), [('bad lengths', None), ('bad line', 10)],
                   [10]),
    'half a line at the end': (catalog(2, lambda x: x.append(b'{"_index": 20, "ca')),
                               [('bad lengths', None), ('bad count', None), ('bad line', 20)], [20]),
    'no newline at the end': (catalog(2, lambda x: x.__setitem__(3, x[3][:-1])), [('bad lengths', None)], []),
    'a number that cannot be': (lambda t: record(t, 10, _index=2**40),
                                [('bad lengths', None), ('bad line', 10)], [10]),
    'missing line': (catalog(1, lambda x: x.pop(2)), [('bad lengths', None), ('index gap', 11)], []),
    'lines in disorder': (catalog(1, lambda x: x.insert(1, x.pop(3))),
                          [('bad lengths', None), ('index gap', 11), ('index gap', 9), ('index gap', 12)],
                          []),
    'duplicate index': (catalog(1, lambda x: x.insert(2, x[2])),
                        [('bad lengths', None), ('duplicate index', 10)], [10]),
    'NaN steering': (lambda t: record(t, 5, user__angle=float('nan')),
                     [('bad lengths', None), ('bad command', 5)], [5]),
    'infinite throttle': (lambda t: record(t, 5, user__throttle=float('-inf')),
                          [('bad lengths', None), ('bad command', 5)], [5]),
    'steering out of range': (lambda t: record(t, 5, user__angle=3.5),
                              [('bad lengths', None), ('bad command', 5)], [5]),
    'steering of text': (lambda t: record(t, 5, user__angle='left'),
                         [('bad lengths', None), ('bad command', 5)], [5]),
    'no throttle': (lambda t: record(t, 5, user__throttle=None), [('bad lengths', None), ('bad command', 5)],
                    [5]),
    'clock backwards': (lambda t: [record(t, i, _timestamp_ms=1577836800000 - 99_000 + 50 * i)
                                   for i in range(12, 16)], [('clock backwards', 12)], []),
    'no manifest': (lambda t: (t/'manifest.json').unlink(), [('no manifest', None)], []),
    'empty manifest': (lambda t: (t/'manifest.json').write_bytes(b''), [('broken manifest', None)], []),
    'manifest without its last line': (lambda t: edit(t/'manifest.json', lambda x: x.pop()),
                                       [('broken manifest', None)], []),
    'manifest counts too few': (lambda t: manifest(t, current_index=18), [('bad count', None)], []),
    'manifest counts too many': (lambda t: manifest(t, current_index=22), [('bad count', None)], []),
    'deletions of nothing': (lambda t: manifest(t, deleted_indexes=[77]), [('bad count', None)], []),
    'missing catalog': (lambda t: (t/'catalog_1.catalog').unlink(),
                        [('missing catalog', None), ('index gap', 16)], []),
    'unlisted catalog': (lambda t: shutil.copy(t/'catalog_2.catalog', t/'catalog_2b.catalog'),
                         [('unlisted catalog', None)], []),
    'no catalog_manifest': (lambda t: (t/'catalog_1.catalog_manifest').unlink(), [('bad lengths', None)], []),
    'broken catalog_manifest': (lambda t: (t/'catalog_1.catalog_manifest').write_text('{'),
                                [('bad lengths', None)], []),
    'macOS files': (lambda t: [(t/name).write_bytes(b'\0\5\x16\7')
                               for name in ('._catalog_0.catalog', 'images/._3_cam_image_array_.jpg')],
                    [('macOS file', None)] * 2, []),
    'temporary file': (lambda t: (t/'.manifest.json.abc.tmp').write_bytes(b'{'), [('leftover file', None)],
                       []),
}


def names(tub):
    return sorted(p.name for p in tub.rglob('*') if p.is_file())


@pytest.mark.parametrize('name', FAULTS)
def test_fault(tub, name):
    how, expected, lost = FAULTS[name]
    delete_records(tub, [17])
    before = {i: r for i, r in Tub(tub).items()}
    how(tub)
    harmed = names(tub)
    contents = {p.read_bytes() for p in tub.rglob('*') if p.is_file() and p.name != 'manifest.json'}

    faults = find_faults(tub)
    def order(pairs):
        return sorted((k, -1 if i is None else i) for k, i in pairs)
    assert order((f.kind, f.index) for f in faults) == order(expected), '\n'.join(map(str, faults))
    assert all(f.kind in FAULT_KINDS and f.file for f in faults)

    done = repair_tub(tub)
    assert order((f.kind, f.index) for f in done.faults) == order(expected)
    assert sorted(done.dropped) == lost
    assert find_faults(tub) == []
    assert repair_tub(tub) == RepairResult((), (), None)

    kept = {i: r for i, r in Tub(tub).items()}
    gone = set(before) - set(kept)
    if name == 'duplicate index':
        assert gone == set()
    elif name in ('missing line',):
        assert gone == {10}
    elif name in ('missing catalog',):
        assert gone == set(range(8, 16))
    else:
        assert gone == {i for i in lost if i < N}
    # the deletions were in the lost line
    restored = {'no manifest', 'empty manifest', 'manifest without its last line'}
    assert set(kept) - set(before) == ({17} if name in restored or name == 'deletions of nothing' else set())
    same = {k: v for k, v in kept.items() if k in before}
    if name != 'clock backwards':
        assert all(same[i] == before[i] for i in same)
    assert [r['_index'] for r in kept.values()] == sorted(kept)

    everything = {p.read_bytes() for p in tub.rglob('*') if p.is_file()}
    assert contents <= everything, 'something has been deleted'
    assert set(harmed) <= set(names(tub)) | {'._manifest.json'}
    assert find_tubs(tub.parent) == [tub]

    from donkeycar.parts.tub_v2 import Tub as Donkey
    theirs = Donkey(str(tub))
    assert list(theirs) == list(kept.values()) and len(theirs) == len(kept)
    theirs.write_record({})
    theirs.close()
    with TubWriter(tub, sync_s=None) as w:
        w.write({})
    assert len(Tub(tub)) == len(kept) + 2


@pytest.mark.parametrize(
    'name', [n for n, (_, faults, _) in FAULTS.items() if not any('manifest' in k for k, _ in faults)])
def test_fault_never_stops_a_load(tub, tmp_path, name):
    how, expected, _ = FAULTS[name]
    how(tub)
    r = load_recording(tub, cache=tmp_path/'cache', bar=False)
    assert len(r) >= N - 8
    assert len(set(zip(r.session, r.index))) == len(r)
    in_records = [(k, i) for k, i in expected if i is not None and k not in ('clock backwards', 'index gap')]
    if name == 'a number that cannot be':
        in_records = []   # a load can live with it
    assert sorted((f.kind, f.index) for f in r.skipped if f.index is not None) == sorted(in_records)


def test_many_faults_at_once(tub):
    for name in ['clock backwards', 'steering out of range', 'truncated image', 'missing image',
                 'bad JSON line', 'half a line at the end', 'no manifest', 'macOS files',
                 'broken catalog_manifest']:
        FAULTS[name][0](tub)
    with pytest.raises(EdgecarError, match='5 of 21 records would be dropped; nothing was done'):
        repair_tub(tub)
    assert sorted(repair_tub(tub, yes=True).dropped) == [3, 5, 9, 10, 20]
    assert find_faults(tub) == []
    assert {r['_index'] for r in Tub(tub)} == set(range(N)) - {3, 5, 9, 10}


def test_times_after_a_jump_keep_their_distances(tub):
    FAULTS['clock backwards'][0](tub)
    repair_tub(tub)
    times = [r['_timestamp_ms'] for r in Tub(tub)]
    assert all(np.diff(times) > 0) and set(np.diff(times[:16])) == {50}


def test_sessions_may_have_clocks_of_their_own(tmp_path):
    with TubWriter(tmp_path, ['user/angle', 'user/throttle'], ['float', 'float'], sync_s=None) as w:
        for session, t in [('a_0', 900), ('a_0', 950), ('a_1', 0), ('a_1', 50)]:
            w.write({'user/angle': 0, 'user/throttle': 0, '_session_id': session, '_timestamp_ms': t})
    assert find_faults(tmp_path) == []


def test_what_is_deleted_is_nobodys_worry(tub):
    os.truncate(image(tub, 4), 10)
    delete_records(tub, [4])
    assert find_faults(tub) == []


def test_deletions_survive_a_repair(tub):
    delete_records(tub, [2, 12])
    image(tub, 5).unlink()
    repair_tub(tub)
    assert Tub(tub).deleted == {2, 5, 12}
    assert len(Tub(tub)) == N - 3


def test_grey_and_four_channels_are_no_fault(tub, tmp_path):
    image(tub, 1).write_bytes(jpeg(mode='L'))
    image(tub, 2).write_bytes(jpeg(mode='CMYK'))
    image(tub, 3).write_bytes(jpeg(mode='RGBA', kind='PNG'))
    assert find_faults(tub) == []


def test_another_size_is_a_fault_only_when_one_is_asked_for(tub):
    image(tub, 3).write_bytes(jpeg((320, 240)))
    assert find_faults(tub) == []
    assert [(f.kind, f.index) for f in find_faults(tub, size=(120, 160))] == [('wrong size', 3)]
    image(tub, 3).write_bytes(image(tub, 4).read_bytes())
    assert ({f.kind for f in find_faults(tub, size=(240, 320))} == {'wrong size'}
            and len(find_faults(tub, size=(240, 320))) == N)


def test_repairs_are_kept_apart(tub):
    folders = []
    for i in (3, 4):
        image(tub, i).unlink()
        folders.append(repair_tub(tub).folder)
    assert [f.relative_to(tub).as_posix() for f in folders] == ['.quarantine/0', '.quarantine/1']
    listed = json.loads((folders[1]/'faults.json').read_text())
    assert [(f['kind'], f['index']) for f in listed] == [('missing image', 4)]


def test_a_sound_tub_is_not_touched(tub):
    before = {p: p.stat().st_mtime_ns for p in tub.rglob('*')}
    assert repair_tub(tub) == RepairResult((), (), None)
    assert {p: p.stat().st_mtime_ns for p in tub.rglob('*')} == before


def test_a_tub_being_written_is_not_repaired(tub):
    fd = lock_folder(tub)
    try:
        with pytest.raises(EdgecarError, match='being written'):
            repair_tub(tub)
    finally:
        os.close(fd)


def test_without_a_manifest_the_fields_are_guessed(tub):
    before = Manifest.read(tub)
    (tub/'manifest.json').unlink()
    repair_tub(tub)
    after = Manifest.read(tub)
    assert dict(zip(after.inputs, after.types)) == dict(zip(before.inputs, before.types))
    assert after.manifest_metadata == before.manifest_metadata


@pytest.mark.parametrize('where', ['', 'nowhere'])
def test_what_is_no_tub_says_so(tmp_path, where):
    for attempt in (find_faults, repair_tub):
        with pytest.raises((EdgecarError, FileNotFoundError)):
            attempt(tmp_path/where)


def test_the_real_tub_is_sound_but_for_macos(tmp_path):
    if os.environ.get('EDGECAR_MIRROR'):
        from edgecar.data.public import install_tub
        tub = install_tub('donkeycar-test-tub', to=tmp_path/'tub')
    else:
        tub = synthetic_tub(tmp_path/'tub', n=1000)
        (tub/'._catalog_0.catalog').write_bytes(b'\0\5\x16\7')
    assert all(f.kind == 'macOS file' for f in find_faults(tub))
    repair_tub(tub)
    assert find_faults(tub) == [] and len(Tub(tub)) == 1000
