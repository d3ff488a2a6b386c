"""Tubs both ways with the real donkeycar: what it writes we read and continue,
what we write it reads and continues."""
import json
import logging

import numpy as np
import pytest
from PIL import Image

from edgecar.core import EdgecarError
from edgecar.data.check import repair_tub, find_faults
from edgecar.data.frames import load_recording
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Manifest, Tub, TubWriter, delete_records, restore_records

donkeycar = pytest.importorskip('donkeycar.parts.tub_v2', reason='donkeycar is not installed')
logging.getLogger('donkeycar').setLevel(logging.CRITICAL)

RNG = np.random.default_rng(0)
TYPES = {'cam/image_array': 'image_array', 'user/angle': 'float', 'user/throttle': 'float',
         'user/mode': 'str', 'lap': 'int', 'on': 'boolean', 'imu/acl': 'list', 'imu/gyr': 'vector',
         'lidar': 'nparray'}


def record(i):
    return {'cam/image_array': np.full((120, 160, 3), i * 7 % 256, np.uint8),
            'user/angle': np.float32(i / 100), 'user/throttle': .5, 'user/mode': 'user', 'lap': np.int64(i),
            'on': bool(i % 2), 'imu/acl': [.5, i], 'imu/gyr': (1, 2.5), 'lidar': np.arange(i % 3 + 1) / 4}


def donkey_write(path, start, n, **kw):
    tub = donkeycar.Tub(str(path), **kw)
    for i in range(start, start + n):
        tub.write_record(record(i))
    tub.close()


def donkey_read(path):
    "All live records, as donkeycar reads them; its count agrees with what it yields."
    tub = donkeycar.Tub(str(path), read_only=True)
    records = list(tub)
    assert len(tub) == len(records)
    tub.close()
    return records


def ours_write(path, start, n, **kw):
    with TubWriter(path, sync_s=None, **kw) as w:
        for i in range(start, start + n):
            assert w.write(record(i)) == i


def without_clock(path):
    "Every file of a tub, less what depends on when it was written."
    files = {}
    for p in sorted(path.rglob('*')):
        if not p.is_file():
            continue
        data = p.read_bytes()
        if p.suffix != '.jpg':
            data = [json.loads(line) for line in data.splitlines()]
            for x in data:
                if isinstance(x, dict):
                    x.pop('_timestamp_ms', None), x.pop('created_at', None), x.pop('line_lengths', None)
        files[p.relative_to(path).as_posix()] = data
    return files


def test_the_same_records_give_the_same_tub(tmp_path):
    "Files, names, keys, order of keys, JPEG bytes: two catalogs and a closed session."
    donkey_write(tmp_path/'theirs', 0, 13, inputs=list(TYPES), types=list(TYPES.values()), max_catalog_len=10)
    ours_write(tmp_path/'ours', 0, 13, inputs=list(TYPES), types=list(TYPES.values()), max_len=10)
    assert without_clock(tmp_path/'ours') == without_clock(tmp_path/'theirs')
    ours, theirs = (
        [list(json.loads(line)) for line in (tmp_path/name/'manifest.json').read_text().splitlines()]
        for name in ('ours', 'theirs'))
    assert ours == theirs
    def length(name):
        return json.loads((tmp_path/name/'catalog_0.catalog_manifest').read_text())['line_lengths']
    assert length('ours') == length('theirs')


@pytest.mark.parametrize('max_len', [4, 1000])
def test_turns_in_one_tub(tmp_path, max_len):
    "Six sittings, ours and donkeycar's in turn, across catalogs: nobody loses a record or a number."
    fields = dict(inputs=list(TYPES), types=list(TYPES.values()))
    ours_write(tmp_path, 0, 3, max_len=max_len, **fields)
    donkey_write(tmp_path, 3, 3, **fields)
    ours_write(tmp_path, 6, 5)
    donkey_write(tmp_path, 11, 1, **fields)
    donkey_write(tmp_path, 12, 4, **fields)
    ours_write(tmp_path, 16, 4)
    ours, theirs = list(Tub(tmp_path)), donkey_read(tmp_path)
    assert ours == theirs and [r['lap'] for r in ours] == [r['_index'] for r in ours] == list(range(20))
    assert ([r['lidar'] for r in ours[:3]] == [[0.], [0., .25], [0., .25, .5]] and ours[1]['on'] is True
            and ours[1]['imu/gyr'] == [1, 2.5])
    assert ([int(r['_session_id'].split('_')[1]) for r in ours]
            == [0] * 3 + [1] * 3 + [2] * 5 + [3] + [4] * 4 + [5] * 4)
    assert Manifest.read(tmp_path).manifest_metadata['sessions']['last_id'] == 5
    assert find_faults(tmp_path) == []


def test_deletions_mean_the_same_on_both_sides(tmp_path):
    tub = synthetic_tub(tmp_path/'t', n=30, max_len=8)
    delete_records(tub, [0, 7, 8, 29])
    theirs = donkeycar.Tub(str(tub))
    assert ([r['_index'] for r in theirs] == [r['_index'] for r in Tub(tub)]
            and len(theirs) == len(Tub(tub)) == 26)
    theirs.delete_records({3, 4})
    theirs.restore_records([7, 8])
    theirs.delete_last_n_records(2)
    theirs.close()
    assert Tub(tub).deleted == {0, 3, 4, 27, 28, 29}
    restore_records(tub, Tub(tub).deleted)
    assert donkey_read(tub) == list(Tub(tub)) and len(Tub(tub)) == 30


def test_delete_last_is_donkeycars(tmp_path):
    a, b = (synthetic_tub(tmp_path/name, n=10) for name in 'ab')
    delete_records(a, [8])
    delete_records(b, [8])
    with TubWriter(a, sync_s=None) as w:
        w.delete_last(3)
    theirs = donkeycar.Tub(str(b))
    theirs.delete_last_n_records(3)
    theirs.close()
    assert Tub(a).deleted == Tub(b).deleted == {6, 7, 8, 9}


def test_metadata_reaches_both_sides(tmp_path):
    donkey_write(tmp_path/'theirs', 0, 1, inputs=list(TYPES), types=list(TYPES.values()),
                 metadata=['driver:left-handed'])
    assert Tub(tmp_path/'theirs').metadata == {'driver': 'left-handed'}
    ours_write(tmp_path/'ours', 0, 1, inputs=list(TYPES), types=list(TYPES.values()),
               metadata={'driver': 'left-handed'})
    assert donkeycar.Tub(str(tmp_path/'ours')).manifest.metadata == {'driver': 'left-handed'}


def test_depth_pictures_are_16_bit_png(tmp_path):
    "donkeycar 5.3 cannot write its own type `gray16_array` (a wrong keyword); what we write, it reads."
    depth = RNG.integers(0, 2**16, (60, 80), np.uint16)
    with TubWriter(tmp_path, ['depth'], ['gray16_array'], sync_s=None) as w:
        w.write({'depth': depth})
    record, = donkey_read(tmp_path)
    assert record['depth'] == '0_depth_.png'
    assert (np.asarray(Image.open(tmp_path/'images'/'0_depth_.png')) == depth).all()


def test_grey_frames_are_stored_as_donkeycar_stores_them(tmp_path):
    grey = RNG.integers(0, 256, (120, 160), np.uint8)
    theirs = donkeycar.Tub(str(tmp_path/'theirs'), ['cam/image_array'], ['image_array'])
    theirs.write_record({'cam/image_array': grey})
    theirs.close()
    with TubWriter(tmp_path/'ours', ['cam/image_array'], ['image_array'], sync_s=None) as w:
        w.write({'cam/image_array': grey})
        w.write({'cam/image_array': grey[..., None]})   # the second shape donkeycar refuses
        with pytest.raises(EdgecarError, match='cam/image_array'):
            w.write({'cam/image_array': np.zeros((120, 160, 4), np.uint8)})
    name = '{}_cam_image_array_.jpg'.format
    data = (tmp_path/'theirs'/'images'/name(0)).read_bytes()
    assert all((tmp_path/'ours'/'images'/name(i)).read_bytes() == data for i in (0, 1))


def test_encoded_pictures_pass_through(tmp_path):
    "Copying a record from tub to tub changes no byte of its picture, nor its time and session."
    tub = synthetic_tub(tmp_path/'from', n=3)
    source = Tub(tub)
    with TubWriter(tmp_path/'to', source.inputs, source.types, sync_s=None) as w:
        for r in source:
            w.write({**r, 'cam/image_array': (tub/'images'/r['cam/image_array']).read_bytes()})
    assert donkey_read(tmp_path/'to') == donkey_read(tub)
    assert all((tmp_path/'to'/'images'/p.name).read_bytes() == p.read_bytes()
               for p in (tub/'images').iterdir())


def test_unknown_fields_survive_donkeycar(tmp_path):
    with TubWriter(tmp_path, ['user/angle'], ['float'], sync_s=None) as w:
        w.write({'user/angle': 0, 'twin/cte': .25})
    tub = donkeycar.Tub(str(tmp_path))
    tub.write_record({'user/angle': 1})
    tub.close()
    assert ([r.get('twin/cte') for r in donkey_read(tmp_path)] == [.25, None]
            == [r.get('twin/cte') for r in Tub(tmp_path)])


def test_a_repaired_tub_is_donkeycars_again(tmp_path):
    tub = synthetic_tub(tmp_path/'t', n=30, max_len=8)
    delete_records(tub, [20])
    (tub/'images'/'5_cam_image_array_.jpg').write_bytes(b'')
    lines = (tub/'catalog_1.catalog').read_text().splitlines(True)
    # record 11 is gone: donkeycar would delete 21 for 20
    (tub/'catalog_1.catalog').write_text(''.join(lines[:3] + lines[4:]))
    repair_tub(tub)
    assert ([r['_index'] for r in donkey_read(tub)] == [r['_index'] for r in Tub(tub)]
            == sorted(set(range(30)) - {5, 11, 20}))
    theirs = donkeycar.Tub(str(tub))
    theirs.write_record({'user/angle': 0., 'user/throttle': 0.})
    theirs.close()
    assert donkey_read(tub)[-1]['_index'] == 30


def test_frames_are_the_pixels_donkeycar_trains_on(tmp_path):
    from types import SimpleNamespace
    from donkeycar.pipeline.types import TubDataset
    tub = synthetic_tub(tmp_path/'t', n=12)
    delete_records(tub, [3])
    records = TubDataset(SimpleNamespace(IMAGE_H=120, IMAGE_W=160, IMAGE_DEPTH=3), [str(tub)]).get_records()
    ours = load_recording(tub, cache=tmp_path/'cache', bar=False)
    assert (ours.frames == np.stack([r.image() for r in records])).all()
    assert ours.steering.tolist() == [np.float32(r.underlying['user/angle']) for r in records]
