"""Our pilot beside DonkeyCar's own `linear`, trained by DonkeyCar's own train(), on the same frames in the
same run.

    .venv/bin/python benchmarks/pilot.py        # about 20 minutes on 2 cores; --quick: one seed, no folds

Steering errors are means of |steering error|, on frames that no training saw. Training times are wall clock,
one process each, alternating ours and theirs, on the real tub alone, which has no twin to be corrected in.
`joint` is one pilot of the starter and the real tub together, by params/joint.yaml, with its rounds.
Latencies are medians of single calls, one thread, LiteRT, alternating, from the raw frame to the numbers, of
the joint pilot's files with all that they get beside the frame.
"""
import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import numpy as np

from support import ROOT, alone, examined, parameters, real_tub, small_tub, split_of, trained

from edgecar.core import EdgecarError, progress_bar
from edgecar.data.frames import load_recording
from edgecar.data.split import blocked_folds
from edgecar.data.tub import Tub, TubWriter, find_tubs_in


def part(rec, fold):
    "One of five folds, or the split of params.yaml."
    return split_of(rec, parameters()) if fold is None else blocked_folds(len(rec))[fold]


def mae(pred, steering):
    return float(np.abs(pred - steering).mean())


def train_ours(tub, seed, fold=None, out=None):
    """Seconds, test MAE, constant's MAE of one training of our recipe for a small tub;
    the clock stops with a file that ships, if there is `out`."""
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.train import as_float_frames
    start = time.perf_counter()
    rec = load_recording([tub], bar=False)
    split, y = part(rec, fold), rec.steering
    net, kind, _ = trained(rec, split, small_tub(parameters()), seed=seed)
    if out:
        # theirs converts one file as well
        Path(out, 'shipped.tflite').write_bytes(convert_to_tflite(kind.whole(net)))
    seconds = time.perf_counter() - start
    pred = kind.decode([o.numpy() for o in net(as_float_frames(kind.prepare(rec.frames[split.test])))])[:, 0]
    return dict(seconds=seconds, mae=mae(pred, y[split.test]),
                constant=mae(np.median(y[split.train]), y[split.test]))


def train_joint(tub, seed, out):
    """MAE on the real tub's last fifth, and whether the gate is passed,
    of one file trained on the starter and the real tub together, by the set `joint`."""
    from edgecar.pilot.export import export_formats
    from edgecar.pilot.runtime import Pilot
    params, start = parameters('joint'), time.perf_counter()
    rec, real = load_recording([*find_tubs_in([ROOT/'data']), tub], bar=False), load_recording([tub],
                                                                                               bar=False)
    split = split_of(rec, params)
    net, kind, _ = trained(rec, split, params, seed=seed)
    seconds = time.perf_counter() - start
    files = export_formats(net, kind, rec.frames[split.train[::40]], out)
    test = split_of(real, params).test
    # what it said is what it gets as its past
    pred = Pilot(files['float32']).drive(real.frames[test], real.latency_s[test], real.session[test])[:, 0]
    verdict = examined(files['float32'], params)   # a float32 file has the net's own numbers: its parity is 0
    return dict(mae=mae(pred, real.steering[test]), passed=verdict.passed, seconds=seconds,
                found=verdict.found, files={k: str(v) for k, v in files.items()})


def train_theirs(tub, seed, out):
    """Do the same with donkeycar.pipeline.training.train() and its default configuration,
    on a tub of the training and validation frames."""
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
    rec, taught = load_recording([tub], bar=False), Path(out)/'tub'
    split = part(rec, None)
    copy(tub, taught, np.concatenate([split.train, split.val]))
    start = time.perf_counter()
    history = train(cfg, str(taught), model=f'{out}/linear.h5', model_type='linear')
    seconds = time.perf_counter() - start
    from edgecar.pilot.runtime import Pilot
    pred = Pilot(f'{out}/linear.tflite').drive(rec.frames[split.test])[:, 0]
    return dict(seconds=seconds, epochs=len(history['loss']), mae=mae(pred, rec.steering[split.test]),
                files=dict(float32=f'{out}/linear.tflite'))


def copy(tub, to, keep):
    "Copy some records of a tub to a tub of their own, pictures unchanged."
    source, keep = Tub(tub), set(keep.tolist())
    with TubWriter(to, source.inputs, source.types) as w:
        for i, record in enumerate(source):
            if i in keep:
                name = record['cam/image_array']
                from PIL import Image
                w.write({**record, 'cam/image_array': np.asarray(Image.open(Path(tub)/'images'/name))})
    for i, number in enumerate(sorted(keep)):   # the writer's new JPEGs give way to the recorded ones
        shutil.copyfile(Path(tub)/'images'/f'{number}_cam_image_array_.jpg',
                        Path(to)/'images'/f'{i}_cam_image_array_.jpg')


def linear_int8(h5, out, frames):
    "DonkeyCar's trained linear as full-integer int8, by our exporter, for the ratio at equal precision."
    from edgecar.pilot.export import export_formats
    from edgecar.pilot.model import net_and_kind
    from edgecar.pilot.train import open_model
    return str(export_formats(*net_and_kind(open_model(h5)), frames, out)['int8'])


def ready_net(path, ours):
    """Return a function, frame -> outputs of one file, with the least conversion that it needs;
    what comes beside the frame is set to zero."""
    from ai_edge_litert.interpreter import Interpreter
    net, scale = Interpreter(model_path=path, num_threads=1), np.float32(1/255)
    net.allocate_tensors()
    inputs, outputs = net.get_input_details(), [o['index'] for o in net.get_output_details()]
    frame = next(d for d in inputs if len(d['shape']) == 4)
    beside = [(d['index'], np.zeros(d['shape'], d['dtype'])) for d in inputs if d is not frame]

    def call(x):
        if frame['dtype'] != np.uint8:
            x = x.astype(np.float32) if ours else x.astype(np.float32)*scale
        net.set_tensor(frame['index'], x[None])
        for index, zeros in beside:
            net.set_tensor(index, zeros)
        net.invoke()
        for o in outputs:
            net.get_tensor(o)
    return call


def latencies(files, frames, rounds=9, calls=100):
    "name -> ms from a raw uint8 frame to the outputs: medians over alternating rounds, LiteRT, one thread."
    nets = {name: ready_net(path, name.startswith('ours')) for name, path in files.items()}
    times = {name: [] for name in files}
    for _ in progress_bar(range(rounds), 'latency'):
        for name, call in nets.items():
            for n in range(calls):
                start = time.perf_counter()
                call(frames[n % len(frames)])
                times[name].append((time.perf_counter() - start)*1e3)
    return {name: statistics.median(t) for name, t in times.items()}


def blocked(tub, seeds):
    "Our MAE over a constant's, in each of five blocks of time."
    ratios = []
    for fold in progress_bar(range(5), 'folds'):
        runs = [job('ours', tub=tub, seed=seed, fold=fold) for seed in seeds]
        ratios.append(statistics.median(r['mae'] for r in runs)/runs[0]['constant'])
    return ratios


def job(what, tub, **more):
    return alone(__file__, what=what, tub=str(tub), **more)


def main(quick):
    find_tubs_in([ROOT/'data'])   # what is missing is said now, not after ten minutes
    tub = real_tub()
    rec, seeds = load_recording([tub], bar=False), (1,) if quick else (1, 2, 3)
    split = part(rec, None)
    with tempfile.TemporaryDirectory() as d:
        runs = dict(ours=[], theirs=[])
        for seed in progress_bar(seeds, 'ours and theirs, end to end'):
            for what in runs:
                (out := Path(d)/f'{what}{seed}').mkdir()
                runs[what].append(job(what, tub, seed=seed, out=str(out)))
                print(what, {k: round(v, 3) for k, v in runs[what][-1].items() if k != 'files'},
                      file=sys.stderr)
        joint = job('joint', tub, seed=parameters('joint')['train']['seed'], out=d)
        print('joint', joint, file=sys.stderr)
        ratios = [] if quick else blocked(tub, seeds[:2])
        linear = f'{d}/theirs{seeds[0]}/linear'
        files = {'ours_int8': joint['files']['int8'],
                 'ours_float32': joint['files']['float32'],
                 'linear_float32': f'{linear}.tflite',
                 'linear_int8': linear_int8(f'{linear}.h5', Path(d)/'int8', rec.frames[split.train[::4]])}
        ms = latencies(files, rec.frames[split.test])
    print(json.dumps(report(joint=joint, ratios=ratios, ms=ms, **runs)))


def report(ours, theirs, joint, ratios, ms):
    "Return what is printed."
    shipped = 'ours_' + parameters()['export']['prefer'].split(',')[0]
    def med(runs, key):
        return round(statistics.median(r[key] for r in runs), 4)
    return dict(
        steering_mae_tail=med(ours, 'mae'), peer_tail=med(theirs, 'mae'), constant_tail=med(ours, 'constant'),
        blocked_ratio=round(statistics.mean(ratios), 4) if ratios else None,
        blocked_ratios=[round(r, 3) for r in ratios], train_s=med(ours, 'seconds'),
        peer_train_s=med(theirs, 'seconds'), peer_epochs=med(theirs, 'epochs'),
        train_time_ratio=round(statistics.median(t['seconds']/o['seconds'] for o, t in zip(ours, theirs)), 2),
        shipped=shipped, latency_ms={k: round(v, 4) for k, v in ms.items()},
        latency_ratio=round(ms['linear_float32']/ms[shipped], 2), joint_gate_passed=joint['passed'],
        joint_steering_mae_tail=round(joint['mae'], 4), joint_train_s=round(joint['seconds'], 1),
        latency_ratio_float32=round(ms['linear_float32']/ms['ours_float32'], 2),
        latency_ratio_int8=round(ms['linear_int8']/ms['ours_int8'], 2))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--quick', action='store_true')
    ask.add_argument('--job', type=json.loads, help=argparse.SUPPRESS)
    args = ask.parse_args()
    try:
        if args.job:
            jobs = dict(ours=train_ours, theirs=train_theirs, joint=train_joint)
            print(json.dumps(jobs[args.job.pop('what')](**args.job)))
        else:
            main(args.quick)
    except EdgecarError as e:
        sys.exit(f'benchmarks/pilot.py: {e}')
