"Tubs without donkeycar: what the format promises, and what our writer promises beyond it."
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from edgecar.core import EdgecarError
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Manifest, Tub, TubWriter, delete_records, find_tubs, restore_records

FIELDS = dict(inputs=['user/angle', 'user/throttle'], types=['float', 'float'])


def write(path, n, **kw):
    with TubWriter(path, **(FIELDS | kw), created_at=0, sync_s=None) as w:
        for i in range(n):
            w.write({'user/angle': i / 100, 'user/throttle': .5, '_timestamp_ms': 50 * i})
    return w.path


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob('*') if p.is_file()}


def test_every_catalog_is_full_but_the_last(tmp_path):
    tub = Tub(write(tmp_path/'t', 25, max_len=10))
    assert tub.manifest.catalogs['paths'] == ['catalog_0.catalog', 'catalog_1.catalog', 'catalog_2.catalog']
    assert ([len((tmp_path/'t'/p).read_text().splitlines()) for p in tub.manifest.catalogs['paths']]
            == [10, 10, 5])
    assert [r['_index'] for r in tub] == list(range(25))
    assert json.loads((tmp_path/'t'/'catalog_2.catalog_manifest').read_text())['start_index'] == 20


@pytest.mark.parametrize('n', [1, 2, 9, 10, 11, 20, 21])
def test_closing_leaves_one_copy_of_each_catalog(tmp_path, n):
    names = {p.name for p in write(tmp_path/'t', n, max_len=10).iterdir()}
    k = -(-n // 10)
    assert names == {'manifest.json', 'images'} | {f'catalog_{i}.{e}' for i in range(k)
                                                   for e in ('catalog', 'catalog_manifest')}


def test_a_tub_written_in_many_sittings_equals_one_written_in_one(tmp_path):
    for start in range(0, 24, 3):
        with TubWriter(tmp_path/'many', **FIELDS, max_len=5, session='s_0', created_at=0, sync_s=None) as w:
            for i in range(start, start + 3):
                w.write({'user/angle': i / 100, 'user/throttle': .5, '_timestamp_ms': 50 * i})
    assert tree(tmp_path/'many') == tree(write(tmp_path/'one', 24, max_len=5, session='s_0'))


def test_an_empty_tub_can_be_read_and_continued(tmp_path):
    assert len(Tub(write(tmp_path/'t', 0))) == 0
    assert len(Tub(write(tmp_path/'t', 2))) == 2


def test_deleted_records_stay_and_come_back(tmp_path):
    tub = write(tmp_path/'t', 6)
    before = tree(tub)
    delete_records(tub, [1, 4])
    assert [r['_index'] for r in Tub(tub)] == [0, 2, 3, 5]
    assert [r['_index'] for r in Tub(tub).records(deleted=True)] == list(range(6))
    assert Tub(tub).deleted == {1, 4}
    restore_records(tub, [4, 1])
    assert tree(tub) == before
    with pytest.raises(EdgecarError, match='no record 6'):
        delete_records(tub, [6])


def test_delete_last_skips_what_is_deleted_already(tmp_path):
    with TubWriter(tmp_path, **FIELDS, sync_s=None) as w:
        for _ in range(6):
            w.write({'user/angle': 0, 'user/throttle': 0})
        w.delete_last(2)
        w.delete_last(1)
        w.delete_last(0)
        assert len(w) == 3
        assert w.write({'user/angle': 1, 'user/throttle': 0}) == 6
    assert [r['_index'] for r in Tub(tmp_path)] == [0, 1, 2, 6]


def test_fields_that_nobody_announced_are_kept(tmp_path):
    with TubWriter(tmp_path, **FIELDS, sync_s=None) as w:
        w.write({'user/angle': 0, 'user/throttle': 0, 'lap': np.int64(3), 'gate/xy': [1.5, 2], 'none': None})
    record, = Tub(tmp_path)
    assert record['lap'] == 3 and record['gate/xy'] == [1.5, 2] and 'none' not in record


@pytest.mark.parametrize('bad', [{'user/angle': 'left'}, {'user/angle': float('nan')}, {'user/angle': [1]},
                                 {'what': object()}, {'x': float('inf')}])
def test_a_value_that_does_not_fit_names_its_field_and_changes_nothing(tmp_path, bad):
    tub = write(tmp_path/'t', 3)
    before = tree(tub)
    with TubWriter(tub, sync_s=None) as w, pytest.raises(EdgecarError, match=next(iter(bad))):
        w.write(bad)
    assert tree(tub) == before


def test_other_fields_are_refused(tmp_path):
    write(tmp_path/'t', 1)
    with pytest.raises(EdgecarError, match='has the fields'):
        TubWriter(tmp_path/'t', ['speed'], ['float'])
    with TubWriter(tmp_path/'t', sync_s=None) as w:
        assert len(w) == 1   # the refusal let go of the lock


def test_one_writer_at_a_time(tmp_path):
    with TubWriter(tmp_path, **FIELDS, sync_s=None) as w:
        w.write({'user/angle': 0, 'user/throttle': 0})
        for attempt in (lambda: TubWriter(tmp_path), lambda: delete_records(tmp_path, [0])):
            with pytest.raises(EdgecarError, match='being written'):
                attempt()
    delete_records(tmp_path, [0])
    with pytest.raises(EdgecarError, match='closed'):
        w.write({})


def test_sessions_are_counted_on(tmp_path):
    for _ in range(3):
        with TubWriter(tmp_path, **FIELDS, sync_s=None) as w:
            w.write({'user/angle': 0, 'user/throttle': 0})
    sessions = Manifest.read(tmp_path).manifest_metadata['sessions']
    assert [s.split('_')[1] for s in sessions['all_full_ids']] == ['0', '1', '2'] and sessions['last_id'] == 2
    assert [r['_session_id'] for r in Tub(tmp_path)] == sessions['all_full_ids']


def test_power_cuts_are_bounded_by_a_sync(tmp_path, monkeypatch):
    import threading
    synced = threading.Event()
    monkeypatch.setattr(os, 'sync', synced.set)   # the real one waits for every disk of the machine
    with TubWriter(tmp_path, **FIELDS, sync_s=.01):
        assert synced.wait(10)


@pytest.mark.parametrize(
    'text',
    ['', '{', '[]\n[]\n{}\n{}\n',
     '[]\n[]\n{}\n{}\n{"paths": ["../x.catalog"], "current_index": 0, "max_len": 1, "deleted_indexes": []}\n',
     '[]\n' * 5, '\0' * 400])
def test_a_broken_manifest_is_one_clear_line(tmp_path, text):
    (tmp_path/'manifest.json').write_text(text)
    for attempt in (Tub, TubWriter):
        with pytest.raises(EdgecarError, match='edgecar tub repair'):
            attempt(tmp_path)


def test_what_is_not_a_tub_says_so(tmp_path):
    with pytest.raises(EdgecarError, match='not a tub'):
        Tub(tmp_path/'nowhere')


def test_a_catalog_that_the_manifest_does_not_know_is_not_overwritten(tmp_path):
    write(tmp_path, 10, max_len=10)
    (tmp_path/'catalog_1.catalog').write_text('{"_index": 10}\n{"_index": 11}\n')
    with (pytest.raises(EdgecarError, match='catalog_1.catalog.*repair'),
          TubWriter(tmp_path, sync_s=None) as w):
        w.write({'user/angle': 0, 'user/throttle': 0})
    assert (tmp_path/'catalog_1.catalog').read_text().count('\n') == 2


def test_catalogs_without_a_manifest_are_not_begun_anew(tmp_path):
    (write(tmp_path, 3)/'manifest.json').unlink()
    with pytest.raises(EdgecarError, match='repair'):
        write(tmp_path, 1)
    assert not (tmp_path/'manifest.json').exists()


def test_old_files_are_replaced_not_overwritten(tmp_path):
    "A tub that DVC has linked into its cache may grow without changing the cache."
    tub = write(tmp_path/'t', 3)
    for name in ('catalog_0.catalog', 'manifest.json', 'catalog_0.catalog_manifest'):
        os.link(tub/name, tmp_path/name)
    linked = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    write(tub, 5)
    assert len(Tub(tub)) == 8
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == linked


FULL = '''
import resource, sys
from edgecar.core import EdgecarError
from edgecar.data.tub import TubWriter
fields = ['user/angle', 'user/throttle']
with TubWriter(sys.argv[1], fields, ['float', 'float'], created_at=0, sync_s=None) as w:
    for i in range(3):
        w.write({'user/angle': 0, 'user/throttle': 0})
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        w.write({'user/angle': 0, 'user/throttle': 0})
    except EdgecarError as e:
        print(e)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(w.write({'user/angle': 1, 'user/throttle': 0}))
'''


# bytes a file: the catalog, its manifest or the manifest is the one that does not fit
@pytest.mark.parametrize('limit', [50, 150, 250, 300, 400])
def test_no_room_leaves_the_tub_as_it_was(tmp_path, limit):
    command = [sys.executable, '-c', FULL, tmp_path/'t', str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message, index = done.stdout.splitlines()
    assert 'no room left' in message and index == '3'
    assert [(r['_index'], r['user/angle']) for r in Tub(tmp_path/'t')] == [(0, 0), (1, 0), (2, 0), (3, 1)]
    assert len(list(tmp_path.glob('t/*'))) == 4


def test_find_tubs_takes_any_layout(tmp_path):
    for name in ['a', 'b/c/tub', '.quarantine', 'b/.quarantine/0', '__MACOSX/a']:
        write(tmp_path/name, 1)
    (tmp_path/'lost').mkdir()
    (tmp_path/'lost'/'catalog_0.catalog').write_text('')
    (tmp_path/'mac').mkdir()
    (tmp_path/'mac'/'._catalog_0.catalog').write_text('')
    assert [p.relative_to(tmp_path).as_posix() for p in find_tubs(tmp_path)] == ['a', 'b/c/tub', 'lost']
    assert find_tubs(tmp_path/'a') == [tmp_path/'a']


def test_lines_that_are_no_records_are_counted_not_fatal(tmp_path):
    tub = write(tmp_path, 4)
    file = tub/'catalog_0.catalog'
    lines = file.read_bytes().splitlines(True)
    for bad in [b'{"_ind\n', b'\xff\xfe\n', b'[]\n', b'null\n', b'[' * 3000 + b'\n', b'{"_index": "x"}\n',
                b'\n', b'{"_index": [1]}\n']:
        file.write_bytes(lines[0] + bad + b''.join(lines[2:]))
        seen = Tub(tub)
        assert [r['_index'] for r in seen] == [0, 2, 3], bad
        assert [(f.kind, f.index) for f in seen.faults] == [('bad line', 1)], bad


def test_toy_tubs_are_the_same_bytes_in_another_process(tmp_path):
    code = ('import sys; from edgecar.data.synthetic import synthetic_tub; '
            'synthetic_tub(sys.argv[1], n=12, seed=3, sessions=2, max_len=5)')
    subprocess.run([sys.executable, '-c', code, tmp_path/'a'], check=True)
    assert tree(tmp_path/'a') == tree(synthetic_tub(tmp_path/'b', n=12, seed=3, sessions=2, max_len=5))
