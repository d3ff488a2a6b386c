"""What makes a pilot drive: the recipe of params.yaml with one thing changed at a time.

    .venv/bin/python benchmarks/ablations.py     # about two hours on 2 cores; `rounds past` names
                                                 # groups, --seeds 1 saves half

Every row trains from the same seeds and drives the same tracks of `select` at four latencies, through the
runtime that ships. The rehearsals are left out, and with them the further rounds that they may ask for: they
would train every row until it drives well, and hide what its change does. So nothing has seen the tracks of a
row before it is measured. What is done is kept in .cache/ablations, and an interrupted run goes on where it
was; the table beside the guide that reads it holds whatever is kept.
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
from unittest.mock import patch

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np

from support import ROOT, parameters, settings, split_of

from edgecar.core import EdgecarError, atomic_write, progress_bar, read_json, write_json
from edgecar.data.frames import load_recording
from edgecar.data.tub import find_tubs, find_tubs_in
from edgecar.pilot.exam import LATENCIES_MS, rollout_suite, driving_summary
from edgecar.pilot.rollout import run_rollouts
from edgecar.pilot.runtime import Pilot
from edgecar.sim.record import RecordingRecipe, record_tubs

KEPT, TABLE = ROOT/'.cache/ablations', ROOT/'nbs/guides/ablations.csv'
TRACKS, STEPS = 16, 600   # at each latency; commands on each


def remembering(past_steering):
    "Return a `make_kind` whose nets know so many past commands; with none, they know the image alone."
    from edgecar.pilot.model import make_kind
    return lambda name, size, **options: make_kind(name, size, **options | dict(past_steering=past_steering))


def brain(times):
    "Return a `backbone` with `times` as many filters and units in each layer."
    from edgecar.pilot.model import keras, backbone

    def clone(layer):
        c = layer.get_config()
        return layer.from_config(
            c | {k: round(c[k]*times) for k in ('filters', 'units') if k in c and c[k] > 1})
    return lambda *args, **more: keras.models.clone_model(backbone(*args, **more), clone_function=clone)


def constant(value):
    "Return the value that a constant of the library is to have."
    return value


def familiar():
    "Return a `round_recipe` whose rounds drive the recording's own tracks."
    from edgecar.pilot.correction import round_recipe
    return lambda like, *rest: replace(round_recipe(like, *rest), tracks=like.tracks)


def plain():
    "Return a `round_recipe` whose rounds drive tracks like the recording's: few cones, begun on a straight."
    from edgecar.pilot.correction import round_recipe

    def recipe(*args):
        with_cones = round_recipe(*args)
        return replace(with_cones, tracks=with_cones.tracks.replace('cones:', 'seed:'))
    return recipe


@dataclass(frozen=True)
class Row:
    "One change."
    group:str
    change:str
    train:dict = field(default_factory=dict)   # of the section `train`
    data:dict = field(default_factory=dict)    # of the section `data`
    instead:tuple = ()                         # (name, function that makes what stands for it, its arguments)


KIND, BACKBONE, DENSE = ('edgecar.pilot.train.make_kind', 'edgecar.pilot.model.backbone',
                        'edgecar.pilot.model.DENSE_WIDTH')
ROUND, LATEST, EPISODE = ('edgecar.pilot.correction.round_recipe',
                          'edgecar.pilot.correction.CORRECTION_LATENCY_HIGH_S',
                          'edgecar.pilot.correction.EPISODE_FRAMES')
ROWS = [
    Row('recipe', 'as it is'),
    Row('rounds', 'none, as many epochs', train=dict(rounds=0)),
    Row('rounds', 'one', train=dict(rounds=1)),
    Row('rounds', 'two', train=dict(rounds=2)),
    Row('rounds', 'on the recording\'s own tracks', instead=((ROUND, familiar, dict()),)),
    Row('rounds', 'few cones, begun on a straight', instead=((ROUND, plain, dict()),)),
    Row('rounds', '165 ms at most, not 190', instead=((LATEST, constant, dict(value=.165)),)),
    Row('rounds', 'episodes of 75 frames, not 150', instead=((EPISODE, constant, dict(value=75)),)),
    Row('past', 'the image alone', instead=((KIND, remembering, dict(past_steering=0)),)),
    Row('past', '3 commands', instead=((KIND, remembering, dict(past_steering=3)),)),
    Row('past', '5 commands', instead=((KIND, remembering, dict(past_steering=5)),)),
    Row('past', 'never hidden', train=dict(hide=0.)),
    Row('past', 'hidden half of the time', train=dict(hide=.5)),
    Row('data', '25 ms only', data=dict(latency_low_s=.025, latency_high_s=.025)),
    Row('data', 'no pushes', data=dict(pushes=0.)),
    Row('capacity', 'a head half as wide', instead=((DENSE, constant, dict(value=32)),)),
    Row('capacity', 'half as wide', instead=((BACKBONE, brain, dict(times=.5)),)),
    Row('capacity', 'twice as wide', instead=((BACKBONE, brain, dict(times=2)),)),
    Row('schedule', '18 epochs, not 13', train=dict(epochs=6, round_epochs=4)),
    Row('schedule', '10,000 frames an epoch, not 8,000', train=dict(epoch_frames=10000)),
    Row('schedule', 'batches of 32', train=dict(batch=32)),
    Row('schedule', 'no averaged weights', train=dict(average=0.)),
]


def changed(row):
    """Return the sections of params.yaml as a row has them;
    a training without rounds has the epochs of one with all of them."""
    params = parameters()
    planned, fewer = settings(params).planned, row.train.get('rounds') == 0
    params['train'] |= dict(more_rounds=0) | row.train | (dict(epochs=planned) if fewer else {})
    params['data'] |= row.data
    return params


def recorded(row):
    "Return the tubs of a changed recording, made once; those of the starter if nothing is changed."
    if not row.data:
        return find_tubs_in([ROOT/'data'])
    recipe = RecordingRecipe(**changed(row)['data'])
    to = KEPT/('data-' + hashlib.sha256(repr(recipe).encode()).hexdigest()[:12])
    return find_tubs(to if to.is_dir() else record_tubs(to, recipe, bar=False))


def tried(row, seed):
    "(path of the pilot, seconds of training) of one row and seed."
    from edgecar.pilot.correction import record_corrections
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.train import train
    params = changed(row)
    rec, path = load_recording(recorded(row), bar=False), KEPT/'driving.tflite'
    cfg = replace(settings(params), seed=seed)
    with ExitStack() as stack:
        for name, stand_in in [(name, make(**how)) for name, make, how in row.instead]:
            stack.enter_context(patch(name, stand_in))
        start = time.perf_counter()
        correct = record_corrections(RecordingRecipe(**params['data']), seed,
                                     params['train']['round_frames'], bar=False)
        net, kind, _ = train(rec, split_of(rec, params), cfg, bar=False, correct=correct)
        with atomic_write(path) as f:
            f.write(convert_to_tflite(kind.whole(net)))
    return path, time.perf_counter() - start


def drives():
    "Return the drives of an examination: the same tracks at each latency."
    return [d for ms in LATENCIES_MS for d in rollout_suite('select', TRACKS,
                                                            latencies_ms=(ms,), steps=STEPS)]


def file_of(row, seed):
    "Where the result of one row and seed is kept: another name when a parameter has changed since."
    stand_ins = [(name, how) for name, _, how in row.instead]
    identity = [asdict(replace(row, instead=())), stand_ins, seed, changed(row), LATENCIES_MS, TRACKS, STEPS]
    words = json.dumps(identity, sort_keys=True)
    return KEPT/f'{hashlib.sha256(words.encode()).hexdigest()[:16]}.json'


def measure(row, seed, starter, test):
    """Train and drive one row and seed, and keep what came of it: rollouts,
    steering MAE on the starter's last fifth, seconds."""
    path, seconds = tried(row, seed)
    pred = Pilot(path).drive(starter.frames[test], starter.latency_s[test], starter.session[test])[:, 0]
    mae = float(np.abs(pred - starter.steering[test]).mean())
    runs = run_rollouts(drives(), path, bar=False)
    write_json(file_of(row, seed), dict(change=row.change, seed=seed, seconds=seconds, mae=mae, runs=runs))


def line(row, name, some, expert):
    "Return a line of the table, pooled over the results that it is given."
    s = driving_summary([r for f in some for r in f['runs']], expert*len(some))
    def ends(key, x):
        return {f'{key}{end and "_" + end}': round(x[end or 'value'], 4)
                for end in ('', 'low', 'high')}
    spans = ends('off_track_per_km', s['off_track_per_km']) | ends('speed_ratio', s['speed_ratio'])
    for ms, x in s['by_latency'].items():
        for key in ('off_track_per_km', 'cte_p95_m'):
            spans |= ends(f'{key}_{ms}ms', x[key])
    def mean(key):
        return float(np.mean([f[key] for f in some]))
    head = dict(group=row.group, change=row.change, seed=name, trainings=len(some),
                clean=round(s['clean']['value'], 3))
    return head | spans | dict(steering_mae=round(mean('mae'), 4), train_s=round(mean('seconds'), 1))


def table(expert):
    "Return the lines of all rows that are kept for these parameters, pooled over seeds and seed by seed."
    lines = []
    for row in ROWS:
        kept = [read_json(f) for seed in range(1, 100) if (f := file_of(row, seed)).is_file()]
        if kept:
            lines += [line(row, name, some, expert)
                      for name, some in [('all', kept), *((f['seed'], [f]) for f in kept)]]
    return lines


def write(lines):
    with atomic_write(TABLE, 'w') as f:
        (w := csv.DictWriter(f, lines[0], lineterminator='\n')).writeheader()
        w.writerows(lines)


def main(groups, seeds, kept_only):
    KEPT.mkdir(parents=True, exist_ok=True)
    if unknown := set(groups) - {r.group for r in ROWS}:
        raise EdgecarError(f'there is no group {min(unknown)!r}',
                           hint=f'name some of {", ".join(dict.fromkeys(r.group for r in ROWS))}')
    starter = load_recording(find_tubs_in([ROOT/'data']), bar=False)
    expert = run_rollouts(drives(), bar=False)
    test = split_of(starter, parameters()).test
    rows = [r for r in ROWS if r.group in (*groups, 'recipe') or not groups]
    todo = [(r, s) for s in seeds for r in rows if not kept_only and not file_of(r, s).is_file()]
    for row, seed in progress_bar(todo, 'trainings'):
        measure(row, seed, starter, test)
        print(line(row, seed, [read_json(file_of(row, seed))], expert), file=sys.stderr, flush=True)
    if lines := table(expert):
        write(lines)
    rates = {f"{x['group']}: {x['change']}": x['off_track_per_km'] for x in lines if x['seed'] == 'all'}
    print(json.dumps(dict(tracks=TRACKS, latencies_ms=LATENCIES_MS, seeds=seeds, off_track_per_km=rates)))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('groups', nargs='*', help='all if none is named')
    ask.add_argument('--seeds', type=int, nargs='+', default=[1, 2])
    ask.add_argument('--kept', action='store_true', help='the table of what there is; trains nothing')
    args = ask.parse_args()
    try:
        main(args.groups, args.seeds, args.kept)
    except EdgecarError as e:
        sys.exit(f'benchmarks/ablations.py: {e}')
