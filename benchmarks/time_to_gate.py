"""Seconds from the starter recording to a pilot that has passed the gate: our recipe, and DonkeyCar's own train() with its default `linear`.

    .venv/bin/python benchmarks/time_to_gate.py     # about 20 minutes on 2 cores

Ours is what `dvc repro` does, on clocks that begin with JPEGs on disk: load, train, drive the candidates, export, drive the gate's tracks. Theirs is stopped
every few epochs; its best checkpoint so far, converted by DonkeyCar, drives the same tracks through the same runtime. Its clock stands still meanwhile, but for
the one exam that it passes. It may take ten times as long as ours, or end by itself; its ratio is then null if it never passed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import yaml

from edgecar.core import root
from edgecar.data.tub import named_tubs
from edgecar.pilot.gate import judge
from edgecar.pilot.rollout import exam, score

ROOT = root(Path(__file__).parent)
PARAMS = yaml.safe_load((ROOT/'params.yaml').read_text())
CAP = 10       # times our seconds
EVERY = 2      # of DonkeyCar's epochs between two exams


def driven(pilot, parity=0.):
    "(passed, seconds, what was found) of the gate for one .tflite."
    e, start = PARAMS['evaluate'], time.perf_counter()
    drives = exam('gate', e['tracks'], steps=e['steps'], random=e['random'], late_s=e['late_s'])
    found = dict(driving=score(pilot, drives, e['trouble'], bar=False)[0], parity=parity)
    verdicts = judge(found, PARAMS['gate'])
    return all(v.kept for v in verdicts), time.perf_counter() - start, {v.rule: round(v.found, 3) for v in verdicts}


def ours(tubs, out):
    "Seconds, passed, what was found: our recipe of params.yaml."
    from edgecar.data.augment import Augment
    from edgecar.data.frames import load
    from edgecar.data.split import tail
    from edgecar.pilot.export import parity, tflite
    from edgecar.pilot.select import candidates
    from edgecar.pilot.train import Training, train
    p, start = dict(PARAMS['train']), time.perf_counter()
    amounts = {k: p.pop(k) for k in list(p) if k in asdict(Augment())}
    cfg = Training(**p, augment=Augment(**amounts))
    rec = load(tubs, cache=f'{out}/frames', bar=False)   # nothing is decoded before the clock starts
    q = PARAMS['prepare']
    split = tail(rec.session, q['test'], q['val'], q['gap'])
    net, kind, _ = train(rec, split, cfg, bar=False, drive=candidates(cfg.drive))
    (file := Path(out)/'pilot.tflite').write_bytes(tflite(kind.whole(net)))   # the format that ships
    passed, _, found = driven(str(file), parity(net, kind, dict(float32=file), rec.frames[split.test[::10]])['float32']['steering_mean'])
    return dict(seconds=time.perf_counter() - start, passed=passed, found=found)


def theirs(tubs, out, cap):
    "Seconds, passed, epochs, what was found at each exam: donkeycar.pipeline.training.train() with its default configuration."
    import donkeycar.templates.cfg_complete as defaults
    import donkeycar.parts.keras as parts
    from donkeycar.config import Config
    from donkeycar.parts.interpreter import keras_model_to_tflite
    from donkeycar.pipeline.training import train
    cfg = Config()
    cfg.from_object(defaults)
    cfg.MODELS_PATH, cfg.SHOW_PLOT, cfg.PRINT_MODEL_SUMMARY, cfg.VERBOSE_TRAIN = out, False, False, 0
    run = dict(passed=False, epochs=0, exams=[])
    start, paused, model = time.perf_counter(), 0., f'{out}/linear.h5'

    class Examined(parts.ModelCheckpoint):
        "Its own checkpoint of the best validation loss, driven every few epochs."
        def on_epoch_end(self, epoch, logs=None):
            nonlocal paused
            super().on_epoch_end(epoch, logs)
            run['epochs'] = epoch + 1
            if run['epochs'] % EVERY: return
            here = time.perf_counter()
            keras_model_to_tflite(model, f'{out}/linear.tflite')
            run['passed'], seconds, found = driven(f'{out}/linear.tflite')
            paused += time.perf_counter() - here - run['passed']*seconds
            run['seconds'] = time.perf_counter() - start - paused
            run['exams'].append(dict(epoch=epoch + 1, seconds=round(run['seconds'], 1), **found))
            print(run['exams'][-1], file=sys.stderr)
            if run['passed'] or run['seconds'] > cap: self.model.stop_training = True   # its own early stop stands

    parts.ModelCheckpoint = Examined
    train(cfg, ','.join(map(str, tubs)), model=model, model_type='linear')
    if not run['passed']: run['seconds'] = time.perf_counter() - start - paused
    return run


def alone(job):
    "One side in a process of its own."
    done = subprocess.run([sys.executable, __file__, '--job', json.dumps(job)], text=True, stdout=subprocess.PIPE)
    if done.returncode: sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    tubs = [str(t) for t in named_tubs([ROOT/'data'])]
    with tempfile.TemporaryDirectory() as d:
        mine = alone(dict(what='ours', tubs=tubs, out=d))
        print('ours', mine, file=sys.stderr)
        peer = alone(dict(what='theirs', tubs=tubs, out=d, cap=CAP*mine['seconds']))
    print(json.dumps(dict(ours_s=round(mine['seconds'], 1), ours_passed=mine['passed'], peer_s=round(peer['seconds'], 1), peer_passed=peer['passed'], peer_epochs=peer['epochs'],
        peer_best_off_track_per_km=min(e['off_track_per_km'] for e in peer['exams']), ratio=round(peer['seconds']/mine['seconds'], 2) if peer['passed'] else None)))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--job', help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.job: print(json.dumps(dict(ours=ours, theirs=theirs)[(job := json.loads(args.job)).pop('what')](**job)))
    else: main()
