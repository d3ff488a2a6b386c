"""How fast frames come out of a tub, and records go in, beside donkeycar's own reader and writer.

Run `.venv/bin/python benchmarks/tub.py`; progress goes to stderr, the last line is JSON.
The tub is `data/`, else the real test tub from EDGECAR_MIRROR, else a drawn one of as many frames.

Reading: the files are warm, both sides start with fresh objects, and both end when every byte of every frame
has been added up. `first` loads into an empty cache, `cached` loads what `first` left.
"""
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edgecar.core import repo_root
from edgecar.data.frames import load_recording
from edgecar.data.public import install_tub
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import TubWriter, find_tubs

PAIRS, RECORDS = 7, 500
FIELDS = {'cam/image_array': 'image_array', 'user/angle': 'float', 'user/throttle': 'float',
          'user/mode': 'str'}


def timed(f, *args):
    start = time.perf_counter()
    x = f(*args)
    return x, 1e3 * (time.perf_counter() - start)


def touch(frames):
    "Return the sum of all bytes, eight at a time: the cheapest way to have seen each of them."
    return int(np.asarray(frames).reshape(-1).view(np.uint64).sum(dtype=np.uint64))


def donkey(tub):
    from donkeycar.pipeline.types import TubDataset
    data = TubDataset(SimpleNamespace(IMAGE_H=120, IMAGE_W=160, IMAGE_DEPTH=3), [str(tub)])
    total = sum(touch(record.image()) for record in data.get_records())
    data.close()
    return total % 2**64


def ours(tub, cache):
    return touch(load_recording(tub, cache=cache, bar=False).frames)


def reading(tub):
    donkey(tub)   # warms the files and the imports
    peer, first, cached = [], [], []
    for n in range(PAIRS):
        with tempfile.TemporaryDirectory() as cache:
            total, ms = timed(donkey, tub)
            peer.append(ms)
            for times in first, cached:
                same, ms = timed(ours, tub, cache)
                times.append(ms)
                assert same == total, 'the two sides have read different pixels'
        print(f'pair {n + 1}/{PAIRS}: donkeycar {peer[-1]:.0f} ms, ours {first[-1]:.0f} ms, '
              f'cached {cached[-1]:.0f} ms', file=sys.stderr)
    peer, first, cached = map(statistics.median, (peer, first, cached))
    return dict(first_load_ratio=peer / first, cached_load_ratio=peer / cached, donkeycar_ms=peer,
                first_ms=first, cached_ms=cached)


def writing(frames):
    "Return the records a second, each with its frame, of donkeycar's writer and of ours."
    from donkeycar.parts.tub_v2 import TubWriter as Donkey
    rates = {'donkeycar': [], 'ours': []}
    for _ in range(3):
        with tempfile.TemporaryDirectory() as d:
            theirs = Donkey(f'{d}/donkeycar', list(FIELDS), list(FIELDS.values()))
            _, ms = timed(
                lambda: [theirs.run(frames[i % len(frames)], .1, .2, 'user') for i in range(RECORDS)])
            theirs.close()
            rates['donkeycar'].append(RECORDS / ms * 1e3)
            with TubWriter(f'{d}/ours', FIELDS, FIELDS.values()) as w:
                _, ms = timed(lambda: [w.write(dict(zip(FIELDS, (frames[i % len(frames)], .1, .2, 'user'))))
                                       for i in range(RECORDS)])
            rates['ours'].append(RECORDS / ms * 1e3)
    return {f'{name}_writes_per_s': statistics.median(r) for name, r in rates.items()}


def main():
    logging.disable()
    with tempfile.TemporaryDirectory() as d:
        def there(name):
            return find_tubs(repo_root()/name) if (repo_root()/name).is_dir() else []
        if tubs := there('tubs/donkeycar-test-tub'):
            tub = tubs[0]
        elif os.environ.get('EDGECAR_MIRROR'):
            tub = install_tub('donkeycar-test-tub', to=Path(d)/'tub')
        elif tubs := there('data'):
            tub = tubs[0]
        else:
            tub = synthetic_tub(Path(d)/'toy', n=1000)
        recording = load_recording(tub, cache=f'{d}/cache', bar=False)
        print(f'{len(recording)} frames of {tub.name}', file=sys.stderr)
        result = {**reading(tub), **writing(np.array(recording.frames[:100]))}
    print(json.dumps({'frames': len(recording),
                      'tub': tub.name,
                      **{k: round(v, 2) for k, v in result.items()}}))


if __name__ == '__main__':
    main()
