"Tubs as arrays: odd tubs, odd pictures, and caches that are interrupted, damaged, shared or without room."
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from edgecar.core import EdgecarError
from edgecar.data.check import InvalidRecordError, decode_image
from edgecar.data.frames import TubSource, fit_frame, load_recording
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import TubWriter, delete_records


@pytest.fixture
def tub(tmp_path):
    return synthetic_tub(tmp_path/'tub', n=40)


@pytest.fixture
def cache(tmp_path):
    return tmp_path/'cache'


def image(tub, i):
    return tub/'images'/f'{i}_cam_image_array_.jpg'


def encoded(mode='RGB', kind='JPEG', size=(160, 120), seed=0, **kw):
    rgb = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(rgb).resize(size).convert(mode).save(out, kind, **kw)
    return out.getvalue()


def by_pil(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


@pytest.mark.parametrize('kw', [dict(quality=q, subsampling=s, progressive=p) for q in (10, 75, 100)
                                for s in (0, 1, 2) for p in (False, True)], ids=str)
@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('size', [(160, 120), (161, 117), (8, 8), (1, 1)], ids=str)
def test_pixels_are_pils(mode, kw, size):
    data = encoded(mode, size=size, **kw)
    assert (decode_image(data) == by_pil(data)).all()


def test_a_turned_picture_stays_as_it_lies():
    "PIL, and so donkeycar, does not follow the camera's note on which side is up."
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(exif=exif)
    assert (decode_image(data) == by_pil(data)).all()


def test_every_cut_of_a_jpeg_is_seen():
    data = encoded()
    for n in range(0, len(data) - 1, 97):
        with pytest.raises(InvalidRecordError):
            decode_image(data[:n])


def test_any_bytes_are_bad_or_a_picture(capfd):
    "Whatever a broken disk makes of a JPEG: an array or `InvalidRecordError`, nothing else."
    data, chance = bytearray(encoded()), np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(data)
        for i in chance.integers(0, len(data), 20):
            broken[i] = chance.integers(256)
        try:
            assert decode_image(bytes(broken)).dtype == np.uint8
        except InvalidRecordError as e:
            assert e.kind == 'broken image'


def test_an_error_shows_no_address_in_memory():
    "What PIL says of bytes that it does not know names an object of this process."
    for data in (b'no picture', encoded()[:2] + bytes(40), b'GIF89a' + bytes(9), b'II*\0' + bytes(9)):
        with pytest.raises(InvalidRecordError) as caught:
            decode_image(data)
        assert ' at 0x' not in str(caught.value) and 'BytesIO' not in str(caught.value)


def test_three_records_are_a_tub(tmp_path, cache):
    r = load_recording(synthetic_tub(tmp_path/'t', n=3), cache=cache, bar=False)
    assert (len(r) == 3 and r.frames.shape == (3, 120, 160, 3) and r.index.tolist() == [0, 1, 2]
            and r.skipped == ())


def test_what_a_load_gives(tub, cache):
    r = load_recording(str(tub), cache=cache, bar=False)
    assert (r.frames == np.stack([by_pil(image(tub, i).read_bytes()) for i in range(40)])).all()
    assert ([x.dtype for x in (r.frames, r.steering, r.throttle, r.index, r.session, r.time_ms)]
            == [np.uint8, np.float32, np.float32, np.int64, np.int32, np.int64])
    assert isinstance(r.frames, np.memmap)
    with pytest.raises(ValueError):
        r.frames[0] = 0
    assert np.diff(r.time_ms).tolist() == [50] * 39


def test_several_tubs_in_a_row(tmp_path, cache):
    a, b = synthetic_tub(tmp_path/'a', n=5, sessions=2), synthetic_tub(tmp_path/'b', n=4, seed=1)
    r = load_recording([a, b], cache=cache, bar=False)
    assert (r.index.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
            and r.session.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2])
    assert r.key not in (load_recording([b, a], cache=cache, bar=False).key,
                         load_recording(a, cache=cache, bar=False).key)


def test_deleted_records_are_left_out(tub, cache):
    first = load_recording(tub, cache=cache, bar=False)
    delete_records(tub, [0, 7])
    second = load_recording(tub, cache=cache, bar=False)
    assert (second.index.tolist() == [i for i in range(40) if i not in (0, 7)] and second.skipped == ()
            and second.key != first.key)


def test_grey_and_four_channels_become_three(tub, cache):
    for i, (mode, kind) in enumerate(
            [('L', 'JPEG'), ('CMYK', 'JPEG'), ('RGBA', 'PNG'), ('LA', 'PNG'), ('P', 'PNG')]):
        image(tub, i).write_bytes(encoded(mode, kind))
    r = load_recording(tub, cache=cache, bar=False)
    assert len(r) == 40 and all((r.frames[i] == by_pil(image(tub, i).read_bytes())).all() for i in range(5))
    assert (r.frames[0][..., 0] == r.frames[0][..., 2]).all()


def test_frames_of_another_size_are_fitted_counted_and_said(tub, cache):
    for i in range(25):
        image(tub, i).write_bytes(encoded(size=(320, 240)))
    image(tub, 25).write_bytes(encoded(size=(224, 224)))
    for _ in range(2):   # fresh, then from the cache
        r = load_recording(tub, cache=cache, bar=False)
        assert len(r) == 40 and r.skipped == () and r.frames.shape == (40, 120, 160, 3)
        assert (r.frames[3] == fit_frame(by_pil(encoded(size=(320, 240))), (120, 160))).all()
        assert (r.frames[30] == by_pil(image(tub, 30).read_bytes())).all()
        assert r.sources == (TubSource(str(tub), 40, 0, {'240x320': 25, '224x224': 1, '120x160': 14}),)
        cropped = '224x224 cropped to 168x224, resized to 120x160'
        assert r.fits() == {'240x320 resized to 120x160': 25, cropped: 1}
    assert len(load_recording(tub, size=(240, 320), cache=cache, bar=False).fitted()) == 2


@pytest.mark.parametrize('size', [(224, 224), (720, 1280), (96, 160), (120, 161), (480, 640), (7, 300)])
def test_a_fitted_frame_keeps_what_is_in_the_middle_and_its_shape(size):
    h, w = size
    frame = np.zeros((h, w, 3), np.uint8)
    rows, columns = np.ogrid[:h, :w]
    radius = min(h, w) / 4
    frame[(rows - (h - 1) / 2)**2 + (columns - (w - 1) / 2)**2 < radius**2] = 255   # a disk
    small = fit_frame(frame, (120, 160))[..., 0] > 127
    assert small.shape == (120, 160)
    high, wide = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
    assert abs(np.ptp(high) - np.ptp(wide)) <= max(2, 160 / min(h, w) * 2), 'it is round'
    assert abs(high.mean() - 59.5) < 120 / h + 1 and abs(wide.mean() - 79.5) < 160 / min(w, h) + 1


def test_other_sizes_are_cached_apart(tmp_path, cache):
    tub = synthetic_tub(tmp_path/'t', n=5, size=(61, 83))
    for _ in range(2):
        assert load_recording(tub, size=(61, 83), cache=cache, bar=False).frames.shape == (5, 61, 83, 3)


@pytest.mark.parametrize('harm, kind', [
    (lambda p: p.write_bytes(b''), 'empty image'),
    (lambda p: os.truncate(p, 800), 'broken image'),
    (lambda p: p.unlink(), 'missing image'),
    (lambda p: p.write_text('no picture'), 'broken image'),
    (lambda p: (p.unlink(), p.mkdir()), 'broken image'),
    (lambda p: (p.unlink(), p.symlink_to('nowhere')), 'missing image'),
])
def test_one_bad_record_never_stops_a_load(tub, cache, harm, kind):
    harm(image(tub, 11))
    for _ in range(2):   # fresh, then from the cache
        r = load_recording(tub, cache=cache, bar=False)
        assert [(f.kind, f.index) for f in r.skipped] in ([(kind, 11)], [('empty image', 11)])
        assert r.index.tolist() == [i for i in range(40) if i != 11]
        assert (r.frames[11] == by_pil(image(tub, 12).read_bytes())).all()


@pytest.mark.parametrize('changes', [{'user/angle': float('nan')}, {'user/angle': 2}, {'user/throttle': None},
                                     {'_timestamp_ms': 'noon'}, {'_timestamp_ms': 10**30}, {'_index': 10**30},
                                     {'_session_id': ['odd']}, {'cam/image_array': 7}])
def test_odd_values_are_skipped_or_taken_never_fatal(tub, cache, changes):
    file = tub/'catalog_0.catalog'
    lines = file.read_text().splitlines()
    lines[5] = json.dumps({**json.loads(lines[5]), **changes})
    file.write_text('\n'.join(lines) + '\n')
    r = load_recording(tub, cache=cache, bar=False)
    assert (len(r), len(r.skipped)) in ((39, 1), (40, 0))


def test_nothing_usable_says_so(tub, tmp_path, cache):
    for i in range(40):
        image(tub, i).write_bytes(b'no')
    with pytest.raises(EdgecarError, match='no usable record, 40 are faulty'):
        load_recording(tub, cache=cache, bar=False)
    with TubWriter(tmp_path/'empty', ['user/angle'], ['float'], sync_s=None):
        pass
    with pytest.raises(EdgecarError, match='no usable record'):
        load_recording(tmp_path/'empty', cache=cache, bar=False)
    with pytest.raises(EdgecarError, match='not a tub'):
        load_recording(tmp_path/'nowhere', cache=cache, bar=False)
    shutil.rmtree(tub/'images')
    with pytest.raises(EdgecarError, match='no usable record'):
        load_recording(tub, cache=cache, bar=False)


# The cache

def frames_file(cache):
    file, = cache.glob('*.frames')
    return file


def inode(cache):
    return frames_file(cache).stat().st_ino


def test_the_second_load_decodes_nothing(tub, cache):
    load_recording(tub, cache=cache, bar=False)
    before = {p: p.stat().st_mtime_ns for p in cache.iterdir()}
    load_recording(tub, cache=cache, bar=False)
    assert {p: p.stat().st_mtime_ns for p in cache.iterdir()} == before


def test_a_copy_of_a_tub_finds_the_pixels(tub, tmp_path, cache):
    key, first = load_recording(tub, cache=cache, bar=False).key, inode(cache)
    copy = shutil.copytree(tub, tmp_path/'elsewhere', copy_function=shutil.copy)   # with new dates
    assert load_recording(copy, cache=cache, bar=False).key == key and inode(cache) == first


def test_a_changed_frame_is_noticed(tub, cache):
    first = load_recording(tub, cache=cache, bar=False)
    image(tub, 3).write_bytes(encoded())
    second = load_recording(tub, cache=cache, bar=False)
    assert second.key != first.key and (second.frames[3] == by_pil(encoded())).all()


@pytest.mark.parametrize('harm', [
    lambda p: os.truncate(p, p.stat().st_size - 1),
    lambda p: os.truncate(p, 57600),
    lambda p: os.truncate(p, 0),
    lambda p: p.unlink(),
    lambda p: p.write_bytes(bytes(p.stat().st_size)),
    lambda p: p.write_bytes(b'\1' + p.read_bytes()[1:]),
    lambda p: p.with_suffix('.json').write_text('{'),
    lambda p: p.with_suffix('.json').unlink(),
    lambda p: [x.write_text('[]') for x in p.parent.glob('*.json')],
])
def test_a_damaged_cache_is_made_again(tub, cache, harm):
    expected = np.array(load_recording(tub, cache=cache, bar=False).frames)
    harm(frames_file(cache))
    for _ in range(2):
        assert (load_recording(tub, cache=cache, bar=False).frames == expected).all()


def test_the_environment_names_the_cache(tub, cache, monkeypatch):
    monkeypatch.setenv('EDGECAR_CACHE', str(cache))
    load_recording(tub, bar=False)
    assert frames_file(cache)


def test_two_processes_at_once(tub, cache):
    code = ('import sys; from edgecar.data.frames import load_recording; '
            'r = load_recording(sys.argv[1], cache=sys.argv[2], bar=False); '
            'print(r.key, int(r.frames.sum()))')
    with ThreadPoolExecutor(4) as pool:
        command = [sys.executable, '-c', code, tub, cache]
        def run(_):
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results = set(pool.map(run, range(4)))
    assert len(results) == 1 and len(list(cache.iterdir())) == 3


def test_threads_do_not_matter(tub, tmp_path):
    one, five = (load_recording(tub, cache=tmp_path/str(n), workers=n, bar=False) for n in (1, 5))
    assert one.key == five.key and (one.frames == five.frames).all()


def test_ctrl_c_leaves_no_piece(tmp_path, cache):
    tub = synthetic_tub(tmp_path/'t', n=30)
    with TubWriter(tub, sync_s=None) as w:
        data = image(tub, 0).read_bytes()
        for _ in range(600):
            w.write({'cam/image_array': data, 'user/angle': 0., 'user/throttle': 0.})
    code = ('import sys; from edgecar.data.frames import load_recording; '
            'load_recording(8 * [sys.argv[1]], cache=sys.argv[2], bar=False)')   # half a second of decoding
    with subprocess.Popen(['env', '--default-signal=INT', sys.executable, '-c', code, tub, cache],
                          stderr=subprocess.PIPE, text=True) as p:
        try:
            while p.poll() is None and not list(cache.glob('.*.tmp')):
                time.sleep(.001)   # until it has begun
            p.send_signal(signal.SIGINT)
            _, errors = p.communicate(timeout=60)
        finally:
            p.kill()
    assert p.returncode != 0 and 'KeyboardInterrupt' in errors
    assert list(cache.iterdir()) == []
    assert len(load_recording(tub, cache=cache, bar=False)) == 630


FULL = '''
import sys
from pathlib import Path
from edgecar.core import EdgecarError
from edgecar.data.frames import TubSource, fit_frame, load_recording
try:
    load_recording(sys.argv[1], cache=sys.argv[2], bar=False)
except EdgecarError as e:
    print(e)
print(len(list(Path(sys.argv[2]).iterdir())))
'''


def told_no_room(done):
    message, left = done.stdout.splitlines()
    assert 'no room left' in message and 'free some disk space' in message and left == '0', done.stdout


def test_a_full_disk(tub, cache):
    "A real file system of 1 MB, where 40 frames need 2.3."
    cache.mkdir()
    mount = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c',
             'mount -t tmpfs -o size=1m tmpfs "$2" && exec "$0" -c "$3" "$1" "$2"']
    if not shutil.which('unshare') or subprocess.run(
            [*mount[:4], 'sh', '-c', 'mount -t tmpfs -o size=1m tmpfs "$0"', cache],
            capture_output=True).returncode:
        # no such right here: a limit of 1 MB a file (in blocks of 512 bytes) instead
        mount = ['sh', '-c', 'ulimit -f 2048; exec "$0" -c "$3" "$1" "$2"']
    told_no_room(subprocess.run([*mount, sys.executable, tub, cache, FULL], capture_output=True, text=True,
                                check=True))
    assert len(load_recording(tub, cache=cache, bar=False)) == 40


def test_a_file_too_large(tub, cache):
    code = ('import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, resource.RLIM_INFINITY))'
            + FULL)
    told_no_room(subprocess.run([sys.executable, '-c', code, tub, cache], capture_output=True, text=True,
                                check=True))
