"""Whether the loop passes on other machines: `train` to `gate`, as twenty of them would run it.

    .venv/bin/python benchmarks/robust.py     # 20 runs, an hour on 2 quiet cores; --runs 4 for a look

TensorFlow picks its kernels by the instruction set and adds up by the number of threads, so other machines
get other weights from the same seed. Each run has a seed, a number of threads and an instruction set of its
own, and does what `dvc repro` does, with the same commands, in a copy of the repository. One run at a time.
The peer is one epoch of DonkeyCar's `linear` on the same recording, with the same instruction set. What is
done is kept in .cache/robust until the code or the parameters change.
"""
import argparse
import csv
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

from edgecar.core import progress_bar, read_json, repo_root, sha256_file, write_json
from edgecar.pilot.exam import LATENCIES_MS, per_km
from edgecar.pilot.gate import judge_metrics

ROOT = repo_root(Path(__file__).parent)
KEPT = ROOT/'.cache/robust'
COPY = KEPT/'copy'
BIN = Path(sys.executable).parent
STAGES = 'train', 'export', 'evaluate', 'gate'
THREADS = 2, 1, 4
MACHINES = [   # what TensorFlow sees of the processor
    {},                                    # as it is
    {'ONEDNN_MAX_CPU_ISA': 'AVX2'},
    {'ONEDNN_MAX_CPU_ISA': 'AVX'},
    {'ONEDNN_MAX_CPU_ISA': 'SSE41'},
    {'TF_ENABLE_ONEDNN_OPTS': '0'},
]


def settings(number):
    "Seed, threads and environment of a run."
    threads, machine = THREADS[number % len(THREADS)], MACHINES[number % len(MACHINES)]
    return dict(seed=number + 1, threads=threads, machine=machine)


def tracked():
    "Return the names of the repository's files, as they are now."
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True)
    return [n for n in listed.stdout.split('\0') if n and (ROOT/n).is_file()]


def digest_of_code():
    "Return a digest of all that decides what a run does: code, commands, parameters, recording, packages."
    stages = yaml.safe_load((ROOT/'dvc.yaml').read_text())['stages']
    deps = {d for stage in ('prepare', *STAGES) for d in stages[stage]['deps']}
    code = {d for d in deps if d.endswith(('.py', '.ipynb'))}
    parts = sorted(code | {'params.yaml', 'dvc.yaml', 'data.dvc', 'Pipfile.lock'})
    return hashlib.sha256(json.dumps([[n, sha256_file(ROOT/n)] for n in parts]).encode()).hexdigest()[:16]


def make_copy():
    "Copy the repository as it is now, with its recording, for the runs to work in."
    if not (ROOT/'data').is_dir():
        sys.exit('robust: data/ is not there -> edgecar data get')
    shutil.rmtree(COPY, ignore_errors=True)
    subprocess.run(['git', 'clone', '--quiet', '--local', '--shared', ROOT, COPY], check=True)
    for name in tracked():
        (COPY/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT/name, COPY/name)
    shutil.copytree(ROOT/'data', COPY/'data', copy_function=os.link)


def dvc(*args, machine=None):
    "Run DVC in the copy, with its modules first; seconds and exit code."
    path = f'{BIN}:{os.environ["PATH"]}'
    ours = dict(PATH=path, PYTHONPATH=str(COPY), EDGECAR_CACHE=str(KEPT/'frames'))
    env, start = os.environ | ours | (machine or {}), time.perf_counter()
    with open(KEPT/'log.txt', 'a') as log:
        done = subprocess.run(['dvc', *args], cwd=COPY, env=env, stdout=log, stderr=log)
    return time.perf_counter() - start, done.returncode


def set_params(seed, threads):
    params = yaml.safe_load((ROOT/'params.yaml').read_text())
    params['train'] |= dict(seed=seed, threads=threads)
    (COPY/'params.yaml').write_text(yaml.safe_dump(params, sort_keys=False))
    return params


def trained_s():
    "Seconds of the cell that trains: rounds and rehearsals included, the start of TensorFlow not."
    cells = read_json(COPY/'runs/2_train.ipynb')['cells']
    trains = [c for c in cells if 'training.train(' in ''.join(c['source'])]
    return trains[0]['metadata']['papermill']['duration']


def run(number):
    "One loop from `train` to `gate`, as a dict of numbers."
    how = settings(number)
    params, seconds = set_params(how['seed'], how['threads']), {}
    for stage in STAGES:
        again = 'repro', '--single-item', '--force', '--no-run-cache', stage
        seconds[stage], code = dvc(*again, machine=how['machine'])
        if code and stage != 'gate':
            sys.exit(f'robust: {stage} of run {number} failed, see {KEPT/"log.txt"}')
    evaluated, trained = read_json(COPY/'metrics/evaluate.json'), read_json(COPY/'metrics/train.json')
    verdicts = judge_metrics(evaluated, params['gate'])
    rows = list(csv.DictReader(open(COPY/'build/evaluate/rollouts.csv')))
    carried = [sum(int(r[k]) for k in ('off_track', 'hit', 'stuck')) for r in rows]
    rollouts = [[float(r['latency_ms']), n, float(r['metres'])] for r, n in zip(rows, carried)]
    each = evaluated['driving']['by_latency']
    return how | dict(
        passed=not code and all(v.kept for v in verdicts), seconds=seconds, train_s=trained_s(),
        rounds=trained['rounds'], rehearsed=trained['passed'],
        pilot=evaluated['pilot'], rollouts=rollouts,
        verdicts={v.rule: [v.kind, v.bound, v.found] for v in verdicts},
        speed={ms: x['speed_ratio']['value'] for ms, x in each.items()},
        by_latency={ms: x['off_track_per_km'] for ms, x in each.items()})


PEER = '''
import sys, time
import donkeycar.templates.cfg_complete as defaults
from donkeycar.config import Config
import tensorflow as tf
cfg = Config()
cfg.from_object(defaults)
cfg.MAX_EPOCHS, cfg.MODELS_PATH, cfg.VERBOSE_TRAIN = 1, sys.argv[1], 0
cfg.SHOW_PLOT = cfg.PRINT_MODEL_SUMMARY = cfg.CREATE_TF_LITE = False
fit = tf.keras.Model.fit
def timed(*args, **more):
    start = time.perf_counter()
    try:
        return fit(*args, **more)
    finally:
        print('seconds', time.perf_counter() - start)
tf.keras.Model.fit = timed
from donkeycar.pipeline.training import train
train(cfg, sys.argv[2], model=sys.argv[1] + '/linear.h5', model_type='linear')
'''


def peer_epoch_s(machine):
    "Seconds of one epoch of donkeycar's own train(), its default `linear`, on the starter."
    from edgecar.data.tub import find_tubs
    to = KEPT/'peer'
    to.mkdir(parents=True, exist_ok=True)
    tubs = ','.join(map(str, find_tubs(ROOT/'data')))
    env = os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'} | machine
    done = subprocess.run([sys.executable, '-c', PEER, to, tubs], env=env, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('seconds ')]
    if done.returncode or not lines:
        sys.exit(f'robust: DonkeyCar did not train\n{done.stderr[-3000:]}')
    return float(lines[0].split()[1])


def pooled(runs):
    "Upper end of events/km at each latency, of all rollouts of all pilots."
    upper_ends = {}
    for ms in LATENCIES_MS:
        rollouts = [r for one in runs for r in one['rollouts'] if r[0] == ms]
        upper_ends[str(ms)] = round(per_km([r[1] for r in rollouts], [r[2] for r in rollouts])['high'], 3)
    return upper_ends


def margins(runs):
    "How far the worst run keeps each rule, as a share of the bound; negative where it is broken."
    worst = {}
    for rule in runs[0]['verdicts']:
        numbers = [r['verdicts'][rule] for r in runs]
        kept = [(bound - value)/bound*(1 if kind == 'most' else -1) for kind, bound, value in numbers]
        worst[rule] = round(min(kept), 3)
    return worst


def main(count):
    code, runs, peers = digest_of_code(), [], {}
    KEPT.mkdir(parents=True, exist_ok=True)
    make_copy()
    dvc('repro', 'prepare')
    for number in progress_bar(range(count), 'loops'):
        kept = KEPT/f'{code}-{number}.json'
        which = number % len(MACHINES)
        if not kept.is_file():
            peer_s = peers.get(which) or peer_epoch_s(MACHINES[which])
            write_json(kept, run(number) | dict(peer_epoch_s=peer_s))
        runs.append(read_json(kept))
        peers[which] = runs[-1]['peer_epoch_s']
        last = runs[-1]
        shown = 'seed', 'threads', 'machine', 'passed', 'rounds', 'rehearsed', 'train_s', 'peer_epoch_s'
        numbers = {rule: x[2] for rule, x in last['verdicts'].items()}
        print(json.dumps({k: last[k] for k in shown} | numbers), file=sys.stderr, flush=True)
    train_s = [r['train_s'] for r in runs]
    peer_epochs = [r['train_s']/r['peer_epoch_s'] for r in runs]
    worst = {str(ms): round(max(r['by_latency'][str(ms)]['value'] for r in runs), 3) for ms in LATENCIES_MS}
    print(json.dumps(dict(
        passed=sum(r['passed'] for r in runs), runs=len(runs), digests=len({r['pilot'] for r in runs}),
        rehearsals_passed=int(sum(r['rehearsed'] for r in runs)),
        train_s_median=round(statistics.median(train_s), 1),
        train_s_max=round(max(train_s), 1), peer_epochs_s=[round(s, 1) for s in peers.values()],
        train_peer_epochs=round(statistics.median(peer_epochs), 2), margins=margins(runs),
        by_latency=pooled(runs), by_latency_worst=worst,
        speed_worst={str(ms): round(min(r['speed'][str(ms)] for r in runs), 3) for ms in LATENCIES_MS},
        gate_s_median=round(statistics.median(r['seconds']['evaluate'] for r in runs), 1))))


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--runs', type=int, default=20)
    main(ask.parse_args().runs)
