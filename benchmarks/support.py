"What the benchmarks share: a training and an exam as the flows hold them, from params.yaml."
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import yaml

from edgecar.core import repo_root
from edgecar.data.augment import Augment
from edgecar.data.public import install_tub
from edgecar.data.split import split_by_time
from edgecar.params import parameter_changes
from edgecar.pilot.exam import rollout_suite, score_driving
from edgecar.pilot.gate import is_sure, judge_metrics
from edgecar.pilot.rollout import RolloutWorkers

ROOT = repo_root(Path(__file__).parent)


def parameters(name=None):
    "Return the sections of params.yaml, with what a named set of parameters changes."
    sections = yaml.safe_load((ROOT/'params.yaml').read_text())
    for key, value in (parameter_changes(name, ROOT) if name else {}).items():
        section, key = key.split('.')
        sections[section][key] = value
    return sections


def settings(params):
    "Return the section `train` as a Training."
    from edgecar.pilot.train import Training
    p = params['train']
    def pick(kind):
        return {f.name: p[f.name] for f in fields(kind) if f.name in p}
    return Training(**pick(Training), augment=Augment(**pick(Augment)))


def small_tub(params):
    """Return the parameters with what suits a tub a tenth as large as the starter, without recoveries,
    and no twin to be corrected in."""
    small = dict(epochs=20, lr=.009, dropout=.3, batch=32, shift=.075, rounds=0)
    return params | dict(train=params['train'] | small)


def split_of(rec, params):
    "Return the parts of a recording, as the section `prepare` has them."
    p = params['prepare']
    return split_by_time(rec.session, p['test'], p['val'], p['gap'])


def trained(rec, split, params, **more):
    """(net, kind, history) of a training as the flow `train` does it, with its rounds and rehearsals;
    `more` are fields of Training."""
    from edgecar.pilot.correction import record_corrections
    from edgecar.pilot.rehearsal import rehearsal
    from edgecar.pilot.train import train
    from edgecar.sim.record import RecordingRecipe
    cfg = replace(settings(params), **more)
    frames, margin = params['train']['round_frames'], params['train']['margin']
    with RolloutWorkers() as drivers:
        rounds = dict()
        if cfg.rounds:
            rounds['correct'] = record_corrections(RecordingRecipe(**params['data']), cfg.seed,
                                                   frames, bar=False)
            rounds['rehearse'] = rehearsal(params['gate'], drivers, margin=margin)
        return train(rec, split, cfg, bar=False, **rounds)


@dataclass(frozen=True)
class Examined:
    "The gate's exam of one pilot."
    passed:bool
    seconds:float
    found:dict      # rule -> number
    rollouts:int    # that were driven
    sure:bool       # whether the verdict was sure before the end


def examined(pilot, params, parity=0., tracks=None):
    "Hold the exam of the flow `evaluate`, which ends when the verdict is sure, and judge as the gate does."
    e, start = params['evaluate'], time.perf_counter()
    drives = rollout_suite('gate', tracks or e['tracks'], steps=e['steps'], random=e['random'])
    sure = partial(is_sure, bounds=params['gate'])
    driving, _ = score_driving(str(pilot), drives, min(e['trouble'], len(drives)), sure=sure, bar=False)
    verdicts = judge_metrics(dict(driving=driving, parity=parity), params['gate'])
    found = {v.rule: round(v.found, 3) for v in verdicts}
    seconds, rollouts = time.perf_counter() - start, driving['rollouts']
    return Examined(all(v.kept for v in verdicts), seconds, found, rollouts, rollouts < len(drives))


def real_tub():
    "DonkeyCar's test tub, fetched once."
    kept = ROOT/'.cache/donkeycar-test-tub'
    return kept if kept.is_dir() else install_tub('donkeycar-test-tub', kept)


def alone(file, **job):
    """Run a job of a benchmark in a process of its own, and return what it prints,
    so that no side inherits another's threads or caches."""
    done = subprocess.run([sys.executable, file, '--job', json.dumps(job)], text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])
