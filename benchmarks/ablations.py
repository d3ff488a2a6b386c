"""What makes a pilot drive: the recipe of params.yaml in a shortened form, with one thing changed at a time.

    .venv/bin/python benchmarks/ablations.py     # about 50 minutes on 2 cores; `data crop` names groups, --seeds 1 saves half

Every row trains from the same seeds and drives the tracks that are kept for choosing (`select`; never the gate's), through the runtime that ships. Its
validation block picks the checkpoint, so that nothing but the row's own change has seen a track before. What is done is kept in .cache/ablations, and an interrupted
run goes on where it was; the table goes beside the guide that reads it.
"""
import argparse
import csv
import hashlib
import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np
import yaml

from pilot import settings

from edgecar.core import atomic, progress, read_json, rng, root, write_json
from edgecar.data.frames import Recording, load
from edgecar.data.split import Split, tail
from edgecar.data.tub import find_tubs, named_tubs
from edgecar.pilot.rollout import MUST_STAND, TROUBLES, drive_all, exam, summary
from edgecar.pilot.runtime import Pilot
from edgecar.sim.env import Twin
from edgecar.sim.expert import Expert
from edgecar.sim.record import record, starter_recipe

ROOT = root(Path(__file__).parent)
KEPT, TABLE = ROOT/'.cache/ablations', ROOT/'nbs/guides/ablations.csv'
EPOCHS, TRACKS, STEPS = 6, 20, 750
TROUBLED = 6  # tracks that are driven again with noise, lost frames, a turned camera
ROUND = 250   # frames a track, in each round of DAgger


def eye(top=1/3, pool=2):
    "What stands for `squint`: another crop, another size."
    from edgecar.pilot.model import keras, squint
    def clone(layer): return layer.from_config(layer.get_config() | (dict(pool_size=(pool, pool), strides=(pool, pool)) if layer.name == 'halve' else {}))
    return lambda size, _, name='frame': keras.models.clone_model(squint(size, top, name), clone_function=clone)


def brain(times):
    "What stands for `think`: more or fewer of everything."
    from edgecar.pilot.model import keras, think
    def clone(layer):
        c = layer.get_config()
        return layer.from_config(c | {k: round(c[k]*times) for k in ('filters', 'units') if k in c and c[k] > 1})
    return lambda *args: keras.models.clone_model(think(*args), clone_function=clone)


def squared():
    "What stands for Edge.loss."
    from edgecar.pilot.model import tf
    return lambda self, y, out: tf.reduce_mean((tf.concat(out, 1) - y)**2*[1., .2])


MODEL, RATE = 'edgecar.pilot.model', 'edgecar.pilot.train.keras.optimizers.schedules.CosineDecay'

@dataclass(frozen=True)
class Row:
    "One change."
    group:str
    change:str
    train:dict = field(default_factory=dict)     # of Training
    augment:dict = field(default_factory=dict)   # of Augment
    data:dict = field(default_factory=dict)      # of the recording's Recipe
    rounds:int = 0                               # of DAgger
    instead:tuple = ()                           # (name, function that makes what stands for it, its arguments)


TAME = dict(pushes=0., right_m=0., turned_rad=0.)
ROWS = [
    Row('recipe', f'as it is, {EPOCHS} epochs, and shift'),
    Row('crop', 'nothing cut off', instead=((f'{MODEL}.squint', eye, dict(top=0)),)),
    Row('crop', 'upper half cut off', instead=((f'{MODEL}.squint', eye, dict(top=1/2)),)),
    Row('size', 'a third of the camera\'s', instead=((f'{MODEL}.squint', eye, dict(pool=3)),)),
    Row('size', 'the camera\'s own', instead=((f'{MODEL}.squint', eye, dict(pool=1)),)),
    Row('augmentation', 'no flip', augment=dict(flip=0.)),
    Row('augmentation', 'no shift', augment=dict(shift=0.)),
    Row('augmentation', 'no change of light', augment=dict(brightness=0., contrast=0., colour=0., noise=0.)),
    Row('augmentation', 'none', augment=dict(flip=0., shift=0., brightness=0., contrast=0., colour=0., noise=0.)),
    Row('data', 'no pushes', data=dict(pushes=0.)),
    Row('data', 'no pushes, starts on the line', data=TAME),
    Row('data', 'the same, and no shift', data=TAME, augment=dict(shift=0.)),
    Row('data', 'one hall, one lens, one car', data=dict(random=0.)),
    Row('data', '3 tracks instead of 10', data=dict(tracks='oval,donkey,club', frames=3333)),
    Row('DAgger', 'one round', rounds=1),
    Row('DAgger', 'starts on the line, no shift, one round', data=TAME, augment=dict(shift=0.), rounds=1),
    Row('loss', 'squared error', instead=((f'{MODEL}.Edge.loss', squared, dict()),)),
    Row('capacity', 'half as wide', instead=((f'{MODEL}.think', brain, dict(times=.5)),)),
    Row('capacity', 'twice as wide', instead=((f'{MODEL}.think', brain, dict(times=2)),)),
    Row('capacity', 'no dropout', train=dict(dropout=0.)),
    Row('schedule', 'the same rate throughout', instead=((RATE, lambda lr: lambda *_, **__: lr, dict(lr=1e-3)),)),
    Row('schedule', 'no averaged weights', train=dict(average=0.)),
    Row('schedule', '20 epochs', train=dict(epochs=20)),
    Row('schedule', '12 epochs', train=dict(epochs=12)),
    Row('schedule', '12 epochs, no shift', train=dict(epochs=12), augment=dict(shift=0.)),
]


def recipe():
    "That of params.yaml with shifted frames, which it had until these rows spoke against them."
    return replace(s := settings(), augment=replace(s.augment, shift=.075))


def recorded(changes):
    "The tubs of a changed recording, made once; the starter if nothing is changed."
    if not changes: return named_tubs([ROOT/'data'])
    recipe = replace(starter_recipe(), **changes)
    to = KEPT/('data-' + hashlib.sha256(repr(recipe).encode()).hexdigest()[:12])
    return find_tubs(to if to.is_dir() else record(to, recipe, bar=False))


def corrected(pilot, recipe, seed):
    "Frames, steering and throttle, where a pilot drives and the expert says what it would do: DAgger (Ross, Gordon and Bagnell 2011, arXiv:1011.0686)."
    frames, commands = [], []
    for number, name in enumerate(recipe.names):
        g, env, end = rng(11, seed, number), Twin(name, direction=0, random=recipe.random), True
        for _ in range(ROUND):
            if end:
                frame, _ = env.reset(seed=int(g.integers(2**31)), options=dict(station=g.random()))
                expert = Expert(env.car.track, env.car.vehicle, recipe.pace)
            frames.append(frame.copy())
            commands.append(expert(env.car.row))
            frame, _, end, _, _ = env.step(pilot(frame))
    return np.array(frames), *np.array(commands, np.float32).T


def joined(rec, more):
    "A recording with frames at its end that belong to no session of it."
    frames, steering, throttle = more
    add = lambda a, b: np.concatenate([a, np.asarray(b, a.dtype)])
    last = np.full(len(frames), rec.session.max() + 1)
    return Recording(add(rec.frames, frames), add(rec.steering, steering), add(rec.throttle, throttle), add(rec.index, 0*last), add(rec.session, last), add(rec.time_ms, 0*last), rec.skipped, rec.key)


def tried(row, seed):
    "(bytes of the pilot, seconds of training) of one row and seed."
    from edgecar.pilot.export import tflite
    from edgecar.pilot.train import train
    base, share = recipe(), yaml.safe_load((ROOT/'params.yaml').read_text())['prepare']
    cfg = replace(base, **dict(epochs=EPOCHS, drive=0, seed=seed) | row.train, augment=replace(base.augment, **row.augment))
    rec = load(recorded(row.data), bar=False)
    split, tracks, path = tail(rec.session, share['test'], share['val'], share['gap']), replace(starter_recipe(), **row.data), KEPT/'driving.tflite'
    with ExitStack() as stack:
        for name, stand_in in [(name, make(**how)) for name, make, how in row.instead]: stack.enter_context(patch(name, stand_in))
        start = time.perf_counter()
        for n in range(row.rounds + 1):
            if n:
                new = np.arange(len(rec), len(rec) + ROUND*len(tracks.names))
                rec, split = joined(rec, corrected(Pilot(path), tracks, 100*seed + n)), Split(np.concatenate([split.train, new]), split.val, split.test)
            net, kind, _ = train(rec, split, cfg, bar=False)
            with atomic(path) as f: f.write(tflite(kind.whole(net)))
    return path, time.perf_counter() - start


def result(row, seed, drives, starter, test, kept_only=False):
    "What one row and seed came to, kept on disk: rollouts, some in trouble, steering MAE on the starter's last fifth, seconds; None when it is not there and must not be made."
    words = json.dumps([asdict(replace(row, instead=())), [(n, h) for n, _, h in row.instead], seed, EPOCHS, STEPS, len(drives), asdict(recipe())], sort_keys=True)
    kept = KEPT/f'{hashlib.sha256(words.encode()).hexdigest()[:16]}.json'
    if kept.is_file() and 'troubled' in (found := read_json(kept)): return found
    if kept_only: return None
    path, seconds = tried(row, seed)
    mae = float(np.abs(Pilot(path).drive(starter.frames[test])[:, 0] - starter.steering[test]).mean())
    runs = drive_all([*drives, *(replace(d, **TROUBLES[name]) for name in MUST_STAND for d in drives[:TROUBLED])], path, bar=False)
    write_json(kept, dict(change=row.change, seed=seed, seconds=seconds, mae=mae, runs=runs[:len(drives)], troubled=runs[len(drives):]))
    return read_json(kept)


def line(row, seed, found, expert):
    "A line of the table: pooled over the results it is given."
    s = summary([r for f in found for r in f['runs']], expert*len(found))
    s['troubled_per_km'] = summary([r for f in found for r in f['troubled']], expert[:TROUBLED]*len(MUST_STAND)*len(found))['off_track_per_km']
    spans = {f'{k}{end and "_" + end}': round(s[k][end or 'value'], 4) for k in ('off_track_per_km', 'troubled_per_km', 'cte_p95_m', 'speed_ratio') for end in ('', 'low', 'high')}
    mean = lambda k: float(np.mean([f[k] for f in found]))
    return dict(group=row.group, change=row.change, seed=seed, clean=round(s['clean']['value'], 3), **spans, steering_mae=round(mean('mae'), 4), train_s=round(mean('seconds'), 1))


def main(groups, seeds, kept_only):
    KEPT.mkdir(parents=True, exist_ok=True)
    starter, drives = load(named_tubs([ROOT/'data']), bar=False), exam('select', TRACKS, steps=STEPS)
    test, expert, found = tail(starter.session).test[::4], drive_all(drives, bar=False), {}
    rows = [ROWS[0], *(r for g in groups or dict.fromkeys(r.group for r in ROWS) for r in ROWS[1:] if r.group == g)]
    for seed, row in progress([(s, r) for s in seeds for r in rows], 'trainings'):
        if (new := result(row, seed, drives, starter, test, kept_only)) is None: continue
        found.setdefault((row.group, row.change), []).append(new)
        print(line(row, seed, [new], expert), file=sys.stderr, flush=True)
    table = [line(row, name, some, expert) for row in rows if (all_ := found.get((row.group, row.change))) for name, some in [('all', all_), *((f['seed'], [f]) for f in all_)]]
    if not groups:
        with atomic(TABLE, 'w') as f:
            (w := csv.DictWriter(f, table[0], lineterminator='\n')).writeheader()
            w.writerows(table)
    print(json.dumps(dict(epochs=EPOCHS, tracks=TRACKS, seeds=list(seeds), off_track_per_km={f"{t['group']}: {t['change']}": t['off_track_per_km'] for t in table if t['seed'] == 'all'})))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('groups', nargs='*', help='all if none is named')
    ask.add_argument('--seeds', type=int, nargs='+', default=[1, 2])
    ask.add_argument('--kept', action='store_true', help='the table of what there is; trains nothing')
    args = ask.parse_args()
    main(args.groups, args.seeds, args.kept)
