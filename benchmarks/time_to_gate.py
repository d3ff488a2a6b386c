"""Seconds from the starter recording to a pilot that has passed the gate: our recipe, and DonkeyCar's own
train() with its default `linear`.

    .venv/bin/python benchmarks/time_to_gate.py     # half an hour on 2 cores, nearly all of it DonkeyCar's

Ours is what `dvc repro` does, on clocks that begin with JPEGs on disk: load, train, drive in rounds with
corrections, rehearse the gate, export every format, sit the gate's exam. Theirs is stopped every few epochs;
its best checkpoint so far, converted by DonkeyCar, sits the same exam through the same runtime, on the same
tracks and at the same latencies. An exam ends when its verdict is sure, ours as theirs; a look at its first
tracks ends most of theirs in seconds. Their clock stands still meanwhile, but for the one exam that is
passed. It may take six times as long as ours, or end by itself. If it has not passed by then, the ratio is
the least that it can be, and `peer_epochs` says at which epoch it was stopped.
"""
import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

from support import ROOT, alone, examined, parameters, split_of, trained

from edgecar.core import EdgecarError
from edgecar.data.frames import load_recording
from edgecar.data.tub import find_tubs_in

CAP = 6        # times our seconds
EVERY = 4      # of DonkeyCar's epochs between two exams
LOOK = 80      # of the exam's tracks at first; only where they leave the verdict open it drives the others


def ours(tubs, out):
    "Seconds, passed, seconds of the exam, what was found: our recipe of params.yaml."
    from edgecar.pilot.export import choose_format, export_formats, parity
    params, start = parameters(), time.perf_counter()
    # nothing is decoded before the clock starts
    rec = load_recording(tubs, cache=f'{out}/frames', bar=False)
    split, e = split_of(rec, params), params['export']
    net, kind, history = trained(rec, split, params)
    some = split.train[::max(1, len(split.train)//e['calibrate'])]
    files = export_formats(net, kind, rec.frames[some], out)
    agree = parity(net, kind, files, rec.frames[split.test])
    ships = choose_format(agree, e['prefer'].split(','), e['bound'])
    verdict = examined(files[ships], params, agree[ships]['steering_mean'])
    return dict(seconds=time.perf_counter() - start, passed=verdict.passed, gate_s=verdict.seconds,
                rounds=history[-1]['round'], rollouts=verdict.rollouts, found=verdict.found)


def looked_at(pilot, params):
    "Examine a pilot, on its first tracks alone when they are enough to be sure that it fails."
    look = examined(pilot, params, tracks=LOOK)
    return look if look.sure and not look.passed else examined(pilot, params)


def examining(checkpoint, run, model, cap):
    "DonkeyCar's own checkpoint of the best validation loss, a class, which is driven every few epochs."
    from donkeycar.parts.interpreter import keras_model_to_tflite
    params, start, paused = parameters(), time.perf_counter(), 0.
    tflite = Path(model).with_suffix('.tflite')

    class Examined(checkpoint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            run.update(epochs=epoch + 1, seconds=time.perf_counter() - start - paused)
            if run['epochs'] % EVERY == 0 or run['seconds'] >= cap:
                self.sit()
            if run['passed'] or run['seconds'] >= cap:
                self.model.stop_training = True   # its own early stop stands

        def on_train_end(self, logs=None):
            super().on_train_end(logs)
            if run['exams'][-1:] and run['exams'][-1]['epoch'] == run['epochs']:
                return
            self.sit()

        def sit(self):
            nonlocal paused
            here = time.perf_counter()
            keras_model_to_tflite(model, str(tflite))
            verdict = looked_at(tflite, params)
            paused += time.perf_counter() - here - verdict.passed*verdict.seconds
            run.update(passed=verdict.passed, seconds=time.perf_counter() - start - paused)
            exam = dict(epoch=run['epochs'], seconds=round(run['seconds'], 1), rollouts=verdict.rollouts,
                        **verdict.found)
            run['exams'].append(exam)
            print(exam, file=sys.stderr)
    return Examined


def theirs(tubs, out, cap):
    """Seconds, passed, epochs, what was found at each exam:
    donkeycar.pipeline.training.train() with its default configuration."""
    import donkeycar.parts.keras as parts
    import donkeycar.templates.cfg_complete as defaults
    from donkeycar.config import Config
    from donkeycar.pipeline.training import train
    cfg, model = Config(), f'{out}/linear.h5'
    cfg.from_object(defaults)
    cfg.MODELS_PATH, cfg.SHOW_PLOT, cfg.PRINT_MODEL_SUMMARY, cfg.VERBOSE_TRAIN = out, False, False, 0
    run = dict(passed=False, epochs=0, seconds=0., exams=[])
    parts.ModelCheckpoint = examining(parts.ModelCheckpoint, run, model, cap)
    train(cfg, ','.join(map(str, tubs)), model=model, model_type='linear')
    return run


def main(cap):
    tubs = [str(t) for t in find_tubs_in([ROOT/'data'])]
    with tempfile.TemporaryDirectory() as d:
        mine = alone(__file__, what='ours', tubs=tubs, out=d)
        print('ours', mine, file=sys.stderr)
        peer = alone(__file__, what='theirs', tubs=tubs, out=d, cap=cap*mine['seconds'])
    print(json.dumps(dict(
        ours_s=round(mine['seconds'], 1), ours_passed=mine['passed'], gate_s=round(mine['gate_s'], 1),
        ours_rounds=mine['rounds'], peer_s=round(peer['seconds'], 1), peer_passed=peer['passed'],
        peer_epochs=peer['epochs'],
        peer_best_off_track_per_km=min((e['off_track_per_km'] for e in peer['exams']), default=None),
        ratio=round(peer['seconds']/mine['seconds'], 2) if mine['passed'] else None)))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--cap', type=float, default=CAP, help='times our seconds that theirs may take')
    ask.add_argument('--job', type=json.loads, help=argparse.SUPPRESS)
    args = ask.parse_args()
    try:
        if args.job:
            print(json.dumps(dict(ours=ours, theirs=theirs)[args.job.pop('what')](**args.job)))
        else:
            main(args.cap)
    except EdgecarError as e:
        sys.exit(f'benchmarks/time_to_gate.py: {e}')
