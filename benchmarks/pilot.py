"""Our pilot beside DonkeyCar's own `linear`, trained by DonkeyCar's own train(), on the same frames in the same run.

    .venv/bin/python benchmarks/pilot.py        # about 14 minutes on 2 cores; --quick: one seed, no folds

Steering errors are means of |steering error|, on frames that no training saw. Training times are wall clock, one process each, alternating
ours and theirs. Latencies are medians of single calls, one thread, LiteRT, alternating, from the raw frame to the numbers.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np
import yaml

from edgecar.core import EdgecarError, progress, root
from edgecar.data.augment import Augment
from edgecar.data.frames import load
from edgecar.data.public import get
from edgecar.data.split import Split, folds, tail
from edgecar.data.tub import Tub, TubWriter, named_tubs
from edgecar.params import changes

ROOT = root(Path(__file__).parent)


def settings(name=None):
    "The settings of params.yaml, or of a named set of parameters."
    from edgecar.pilot.train import Training
    changed = changes(name, ROOT) if name else {}
    p = yaml.safe_load((ROOT/'params.yaml').read_text())['train'] | {k.removeprefix('train.'): x for k, x in changed.items() if k.startswith('train.')}
    amounts = {k: p.pop(k) for k in list(p) if k in asdict(Augment())}
    return replace(Training(**p), augment=Augment(**amounts))


def recipe():
    "The same, with the epochs, the dropout and the shift that suit a tub a tenth as large as the starter, without recoveries, and no twin to pick the checkpoint."
    return replace(s := settings(), epochs=30, dropout=.3, drive=0, augment=replace(s.augment, shift=.075))


def train_ours(tub, seed, split, out=None):
    "Seconds, test MAE, constant's MAE of one training of our recipe; exports to `out`."
    from edgecar.pilot.export import export, tflite
    from edgecar.pilot.train import as_float, train
    start = time.perf_counter()
    rec = load([tub], bar=False)
    net, kind, _ = train(rec, split, replace(recipe(), seed=seed), bar=False)
    if out: Path(out, 'shipped.tflite').write_bytes(tflite(kind.whole(net)))   # theirs converts one file as well
    seconds = time.perf_counter() - start
    files = export(net, kind, rec.frames[split.train[::4]], out) if out else {}
    pred = kind.decode([o.numpy() for o in net(as_float(kind.prepare(rec.frames[split.test])))])[:, 0]
    y = rec.steering
    return dict(seconds=seconds, mae=float(np.abs(pred - y[split.test]).mean()), constant=float(np.abs(np.median(y[split.train]) - y[split.test]).mean()), files={k: str(v) for k, v in files.items()})


def train_joint(tub, seed, split, out):
    "MAE on the real tub's last fifth, and whether the gate is passed, of one file trained on the starter and the real tub together, by the set `joint`."
    from edgecar.pilot.export import tflite
    from edgecar.pilot.gate import judge
    from edgecar.pilot.rollout import exam, score
    from edgecar.pilot.runtime import Pilot
    from edgecar.pilot.select import candidates
    from edgecar.pilot.train import train
    params, cfg = yaml.safe_load((ROOT/'params.yaml').read_text()), replace(settings('joint'), seed=seed)
    rec, real = load([*named_tubs([ROOT/'data']), tub], bar=False), load([tub], bar=False)
    net, kind, _ = train(rec, tail(rec.session), cfg, bar=False, drive=candidates(cfg.drive))
    (path := Path(out)/'joint.tflite').write_bytes(tflite(kind.whole(net)))
    e = params['evaluate']
    driving, _ = score(path, exam('gate', e['tracks'], steps=e['steps'], random=e['random'], late_s=e['late_s']), e['trouble'], bar=False)
    verdicts = judge(dict(driving=driving, parity=0.), params['gate'])   # a float32 file has the net's own numbers
    return dict(mae=float(np.abs(Pilot(path).drive(real.frames[split.test])[:, 0] - real.steering[split.test]).mean()),
        passed=all(v.kept for v in verdicts), found={v.rule: round(v.found, 3) for v in verdicts})


def train_theirs(tub, seed, split, out):
    "The same of donkeycar.pipeline.training.train() with its default configuration, on a tub of the training and validation frames."
    import random
    import donkeycar.templates.cfg_complete as defaults
    from donkeycar.config import Config
    cfg = Config()
    cfg.from_object(defaults)
    cfg.MODELS_PATH, cfg.SHOW_PLOT, cfg.PRINT_MODEL_SUMMARY, cfg.VERBOSE_TRAIN = out, False, False, 0
    random.seed(seed)
    np.random.seed(seed)
    import tensorflow as tf
    tf.random.set_seed(seed)
    from donkeycar.pipeline.training import train
    part = Path(out)/'tub'
    copy(tub, part, np.concatenate([split.train, split.val]))
    start = time.perf_counter()
    history = train(cfg, str(part), model=f'{out}/linear.h5', model_type='linear')
    seconds = time.perf_counter() - start
    from edgecar.pilot.runtime import Pilot
    rec = load([tub], bar=False)
    pred = Pilot(f'{out}/linear.tflite').drive(rec.frames[split.test])[:, 0]
    return dict(seconds=seconds, epochs=len(history['loss']), mae=float(np.abs(pred - rec.steering[split.test]).mean()), files=dict(float32=f'{out}/linear.tflite'))


def copy(tub, to, keep):
    "Some records of a tub as a tub of their own, pictures unchanged."
    source, keep = Tub(tub), set(keep.tolist())
    with TubWriter(to, source.inputs, source.types) as w:
        for i, record in enumerate(source):
            if i in keep:
                name = record['cam/image_array']
                from PIL import Image
                w.write({**record, 'cam/image_array': np.asarray(Image.open(Path(tub)/'images'/name))})
    for i, number in enumerate(sorted(keep)):   # the writer's new JPEGs give way to the recorded ones
        shutil.copyfile(Path(tub)/'images'/f'{number}_cam_image_array_.jpg', Path(to)/'images'/f'{i}_cam_image_array_.jpg')


def alone(what, tub, seed, split, out):
    "One training in a process of its own, so that neither side inherits the other's threads or caches."
    job = dict(what=what, tub=str(tub), seed=seed, split=[p.tolist() for p in (split.train, split.val, split.test)], out=out and str(out))
    done = subprocess.run([sys.executable, __file__, '--job', '-'], input=json.dumps(job), text=True, capture_output=True)
    if done.returncode: sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def linear_int8(h5, out, frames):
    "DonkeyCar's trained linear as full-integer int8, by our exporter, for the ratio at equal precision."
    from edgecar.pilot.export import export
    from edgecar.pilot.model import of
    from edgecar.pilot.train import open_model
    return str(export(*of(open_model(h5)), frames, out)['int8'])


def latencies(files, frames, rounds=9, calls=100):
    "name -> ms from a raw uint8 frame to the outputs: medians over alternating rounds, LiteRT, one thread, each with the least conversion it needs."
    from ai_edge_litert.interpreter import Interpreter
    nets, times = {}, {name: [] for name in files}
    for name, path in files.items():
        net = Interpreter(model_path=path, num_threads=1)
        net.allocate_tensors()
        detail, scale = net.get_input_details()[0], np.float32(1/255)
        ready = ((lambda f: f) if detail['dtype'] == np.uint8 else (lambda f: f.astype(np.float32)) if name.startswith('ours')
                 else (lambda f: f.astype(np.float32)*scale))
        nets[name] = net, detail['index'], [o['index'] for o in net.get_output_details()], ready
    for _ in progress(range(rounds), 'latency'):
        for name, (net, i, outs, ready) in nets.items():
            for n in range(calls):
                start = time.perf_counter()
                net.set_tensor(i, ready(frames[n % len(frames)])[None])
                net.invoke()
                for o in outs: net.get_tensor(o)
                times[name].append((time.perf_counter() - start)*1e3)
    return {name: statistics.median(t) for name, t in times.items()}


def main(quick):
    named_tubs([ROOT/'data'])   # what is missing is said now, not after ten minutes
    tub = kept if (kept := ROOT/'.cache/donkeycar-test-tub').is_dir() else get('donkeycar-test-tub', kept)
    rec, seeds = load([tub], bar=False), (1,) if quick else (1, 2, 3)
    split = tail(rec.session)
    with tempfile.TemporaryDirectory() as d:
        ours, theirs = [], []
        for seed in progress(seeds, 'ours and theirs, end to end'):
            for what, runs in (('ours', ours), ('theirs', theirs)):
                (out := Path(d)/f'{what}{seed}').mkdir()
                runs.append(alone(what, tub, seed, split, out))
                print(what, {k: round(v, 3) for k, v in runs[-1].items() if k != 'files'}, file=sys.stderr)
        joint = alone('joint', tub, 1, split, d)
        print('joint', joint, file=sys.stderr)
        ratios = []
        for fold in progress([] if quick else folds(len(rec)), 'folds'):
            runs = [alone('ours', tub, seed, fold, None) for seed in seeds]
            ratios.append(statistics.median(r['mae'] for r in runs)/runs[0]['constant'])
        frames = rec.frames[split.train[::4]]
        files = {'ours_int8': ours[0]['files']['int8'], 'ours_float32': ours[0]['files']['float32'], 'linear_float32': theirs[0]['files']['float32'],
                 'linear_int8': linear_int8(f'{d}/theirs{seeds[0]}/linear.h5', Path(d)/'int8', frames)}
        ms = latencies(files, rec.frames[split.test])
    shipped = 'ours_' + yaml.safe_load((ROOT/'params.yaml').read_text())['export']['prefer'].split(',')[0]
    med = lambda runs, key: round(statistics.median(r[key] for r in runs), 4)
    print(json.dumps(dict(
        steering_mae_tail=med(ours, 'mae'), blocked_ratio=round(statistics.mean(ratios), 4) if ratios else None, blocked_ratios=[round(r, 3) for r in ratios],
        peer_tail=med(theirs, 'mae'), constant_tail=med(ours, 'constant'), train_s=med(ours, 'seconds'), peer_train_s=med(theirs, 'seconds'), peer_epochs=med(theirs, 'epochs'),
        train_time_ratio=round(statistics.median(t['seconds']/o['seconds'] for o, t in zip(ours, theirs)), 2), shipped=shipped,
        latency_ms={k: round(v, 4) for k, v in ms.items()}, latency_ratio=round(ms['linear_float32']/ms[shipped], 2),
        joint_gate_passed=joint['passed'], joint_steering_mae_tail=round(joint['mae'], 4),
        latency_ratio_float32=round(ms['linear_float32']/ms['ours_float32'], 2), latency_ratio_int8=round(ms['linear_int8']/ms['ours_int8'], 2))))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--quick', action='store_true')
    ask.add_argument('--job', help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.job:
        job = json.load(sys.stdin)
        run = dict(ours=train_ours, theirs=train_theirs, joint=train_joint)[job['what']]
        print(json.dumps(run(job['tub'], job['seed'], Split(*(np.array(p) for p in job['split'])), job['out'])))
    else:
        try: main(args.quick)
        except EdgecarError as e: sys.exit(f'benchmarks/pilot.py: {e}')
