"""The gap between the twin and a real car: pilots trained on the twin, on the real tub, and on both, each on the frames of both and at the wheel of the twin.

    .venv/bin/python benchmarks/domain_gap.py     # about 4 minutes on 2 cores

By params.yaml and params/joint.yaml; the real tub alone is a tenth as large, and takes benchmarks/pilot.py's recipe for such. Frames are the last fifth of every session, which no training
saw; tracks are those of `try_out`, which no training, choice of a checkpoint or gate uses. The pilots stay in .cache/domain_gap; what came of them goes beside the guide that reads it.
"""
import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np
import yaml

from pilot import recipe, settings

from edgecar.core import atomic, progress, root, write_json
from edgecar.data.frames import load
from edgecar.data.public import get
from edgecar.data.split import tail
from edgecar.data.tub import named_tubs
from edgecar.pilot import score
from edgecar.pilot.rollout import drive_all, exam, mean_of, summary
from edgecar.pilot.runtime import Pilot

ROOT = root(Path(__file__).parent)
KEPT, FOUND = ROOT/'.cache/domain_gap', ROOT/'nbs/guides/domain_gap.json'
SHOWN = 100   # frames whose steering is kept for a plot
SECOND = 20   # frames: neighbours err alike, so an interval is taken over seconds


def trained(name, tubs, seed, split_of):
    "The .tflite of one training, made once."
    from edgecar.pilot.export import tflite
    from edgecar.pilot.select import candidates
    from edgecar.pilot.train import train
    path = KEPT/f'{name}-{seed}.tflite'
    if not path.is_file():
        rec, cfg = load(tubs, bar=False), replace(recipe() if name == 'real' else settings('joint' if name == 'joint' else None), seed=seed)
        net, kind, _ = train(rec, split_of(rec), cfg, bar=False, drive=candidates(cfg.drive) if cfg.drive else None)
        with atomic(path) as f: f.write(tflite(kind.whole(net)))
    return path


def on_frames(path, rec, split):
    "Steering errors on the test frames, beside a constant's."
    y, pred = rec.steering[split.test], Pilot(path).drive(rec.frames[split.test])[:, 0]
    off, few = np.abs(pred - y), np.linspace(0, len(y) - 1, min(SHOWN, len(y))).astype(int)
    constant = float(np.abs(np.median(rec.steering[split.train]) - y).mean())
    return score.errors(y, pred) | dict(frames=len(y), mae=mean_of([off[i:i + SECOND].mean() for i in range(0, len(off), SECOND)]), constant=constant,
        driver=y[few], pilot=pred[few])


def main(seeds, tracks):
    real, share = kept if (kept := ROOT/'.cache/donkeycar-test-tub').is_dir() else get('donkeycar-test-tub', kept), yaml.safe_load((ROOT/'params.yaml').read_text())['prepare']
    split_of = lambda rec: tail(rec.session, share['test'], share['val'], share['gap'])
    tubs = dict(twin=named_tubs([ROOT/'data']), real=[real])
    recs = {name: load(t, bar=False) for name, t in tubs.items()}
    drives = exam('try_out', tracks)
    expert, found = drive_all(drives, bar=False), []
    for seed in seeds:
        for name, on in progress(dict(twin=tubs['twin'], real=tubs['real'], joint=[*tubs['twin'], real]).items(), f'seed {seed}'):
            path = trained(name, on, seed, split_of)
            found.append(dict(trained_on=name, seed=seed, frames={k: on_frames(path, rec, split_of(rec)) for k, rec in recs.items()}, driving=summary(drive_all(drives, path, bar=False), expert)))
            print({k: round(x['mae']['value'], 3) for k, x in found[-1]['frames'].items()}, found[-1]['driving']['off_track_per_km'], file=sys.stderr, flush=True)
    write_json(FOUND, dict(tracks=tracks, pilots=found), digits=3)
    print(json.dumps({f"{p['trained_on']}_{p['seed']}": dict(steering_mae_twin=round(p['frames']['twin']['mae']['value'], 3), steering_mae_real=round(p['frames']['real']['mae']['value'], 3),
        off_track_per_km=round(p['driving']['off_track_per_km']['value'], 2), clean=p['driving']['clean']['value']) for p in found}))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--seeds', type=int, nargs='+', default=[1])
    ask.add_argument('--tracks', type=int, default=20)
    args = ask.parse_args()
    main(args.seeds, args.tracks)
