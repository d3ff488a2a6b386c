"""The gap between the twin and a real car: pilots trained on the twin, on the real tub, and on both, each on
the frames of both and at the wheel of the twin.

    .venv/bin/python benchmarks/joint.py     # about 12 minutes on 2 cores

By params.yaml and params/joint.yaml; the real tub alone is a tenth as large, and takes benchmarks/pilot.py's
recipe for such. Frames are the last fifth of every session, which no training saw; tracks are those of
`try_out`, at the gate's latencies, which no training, choice of a checkpoint or gate uses. The pilots stay in
.cache/joint; what came of them goes beside the guide that reads it.
"""
import argparse
import json
import os
import sys

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np

from support import ROOT, parameters, real_tub, small_tub, split_of, trained

from edgecar.core import atomic_write, progress_bar, write_json
from edgecar.data.frames import load_recording
from edgecar.data.tub import find_tubs_in
from edgecar.pilot import score
from edgecar.pilot.exam import rollout_suite, mean_of, driving_summary
from edgecar.pilot.rollout import run_rollouts
from edgecar.pilot.runtime import Pilot

KEPT, FOUND = ROOT/'.cache/joint', ROOT/'nbs/guides/domain_gap.json'
SHOWN = 100   # frames whose steering is kept for a plot
SECOND = 20   # frames: neighbours err alike, so an interval is taken over seconds


def made(name, tubs, params, seed):
    "Return the .tflite of one training, made once."
    from edgecar.pilot.export import convert_to_tflite
    path = KEPT/f'{name}-{seed}.tflite'
    if not path.is_file():
        rec = load_recording(tubs, bar=False)
        net, kind, _ = trained(rec, split_of(rec, params), params, seed=seed)
        with atomic_write(path) as f:
            f.write(convert_to_tflite(kind.whole(net)))
    return path


def on_frames(path, rec, split):
    "Steering errors on the test frames, beside a constant's."
    test, teach = split.test, split.train
    y = rec.steering[test]
    pred = Pilot(path).drive(rec.frames[test], rec.latency_s[test], rec.session[test])[:, 0]
    off, few = np.abs(pred - y), np.linspace(0, len(y) - 1, min(SHOWN, len(y))).astype(int)
    seconds = [off[i:i + SECOND].mean() for i in range(0, len(off), SECOND)]
    constant = float(np.abs(np.median(rec.steering[teach]) - y).mean())
    return score.prediction_errors(y, pred) | dict(frames=len(y), mae=mean_of(seconds), constant=constant,
                                                   driver=y[few], pilot=pred[few])


def main(seeds, tracks):
    twin, real = find_tubs_in([ROOT/'data']), [real_tub()]
    params = parameters()
    recs = dict(twin=load_recording(twin, bar=False), real=load_recording(real, bar=False))
    trainings = dict(twin=(twin, params), real=(real, small_tub(params)),
                     joint=([*twin, *real], parameters('joint')))
    drives = rollout_suite('try_out', tracks)
    expert, results = run_rollouts(drives, bar=False), []
    for seed in seeds:
        for name, (tubs, recipe) in progress_bar(trainings.items(), f'seed {seed}'):
            path = made(name, tubs, recipe, seed)
            errors = {k: on_frames(path, rec, split_of(rec, params)) for k, rec in recs.items()}
            results.append(dict(trained_on=name, seed=seed, frames=errors,
                                driving=driving_summary(run_rollouts(drives, path, bar=False), expert)))
            off_track = results[-1]['driving']['off_track_per_km']
            print(name, {k: round(x['mae']['value'], 3) for k, x in errors.items()}, off_track,
                  file=sys.stderr, flush=True)
    write_json(FOUND, dict(tracks=tracks, pilots=results), digits=3)
    print(json.dumps({f"{p['trained_on']}_{p['seed']}": line(p) for p in results}))


def line(p):
    "Return what is printed of a pilot."
    def error(on):
        return round(p['frames'][on]['mae']['value'], 3)
    driving = p['driving']
    return dict(steering_mae_twin=error('twin'), steering_mae_real=error('real'),
                off_track_per_km=round(driving['off_track_per_km']['value'], 2),
                clean=driving['clean']['value'])


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--seeds', type=int, nargs='+', default=[1])
    ask.add_argument('--tracks', type=int, default=20)
    args = ask.parse_args()
    main(args.seeds, args.tracks)
