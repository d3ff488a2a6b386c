"The gate lets a pilot through that drives, and none that does not: constant, mirrored, undertrained, wrongly quantised. Each drives the twin as the file it is."
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from edgecar.data.frames import load
from edgecar.data.split import tail
from edgecar.data.tub import find_tubs
from edgecar.pilot.gate import judge
from edgecar.pilot.rollout import drive_all, exam, rollout, score
from edgecar.pilot.runtime import Pilot
from edgecar.sim.record import Recipe, record

BOUNDS = dict(off_track_per_km=20., clean=.75, speed_ratio=.8, cte_p95_m=.2, troubled_per_km=40., parity=.02)   # a small exam cannot prove as much as that of params.yaml
DRIVES = exam('select', 6, steps=500)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A recording, what was trained on it, and the same after a moment."
    from edgecar.pilot.train import Training, train
    folder = tmp_path_factory.mktemp('gate')
    rec = load(find_tubs(record(folder/'tubs', Recipe('donkey,club,seed:1,seed:2', frames=1000, episode=200), bar=False)), cache=folder/'cache', bar=False)
    split = tail(rec.session, val=.08)
    cfg = Training(epochs=12, dropout=.1)
    return folder, rec, split, train(rec, split, cfg, bar=False)[:2], train(rec, replace(split, train=split.train[:64]), replace(cfg, epochs=1), bar=False)[:2]


def ship(folder, name, model, calibrate=None):
    from edgecar.pilot.export import tflite
    path = folder/f'{name}.tflite'
    path.write_bytes(tflite(model, calibrate))
    return path


def steered(whole, by):
    "The pilot, its steering multiplied."
    from edgecar.pilot.export import keras, named
    frame = keras.Input(whole.input_shape[1:], name=whole.input_names[0])
    steering, throttle = whole(frame)
    return keras.Model(frame, named([steering*by, throttle], whole.output_names))


def broken(path, parity=0.):
    driving, _ = score(path, DRIVES, trouble=3, bar=False)
    return [v.rule for v in judge(dict(driving=driving, parity=parity), BOUNDS) if not v.kept], driving


def test_a_pilot_that_drives_passes(trained):
    folder, _, _, (net, kind), _ = trained
    rules, driving = broken(ship(folder, 'good', kind.whole(net)))
    assert rules == [], driving
    assert driving['laps'] >= 6


@pytest.mark.parametrize('name', ['constant', 'mirrored', 'undertrained', 'wrongly quantised'])
def test_a_bad_pilot_fails(trained, name):
    folder, rec, split, (net, kind), (moment, _) = trained
    model, calibrate = kind.whole(moment if name == 'undertrained' else net), None
    if name in ('constant', 'mirrored'): model = steered(model, dict(constant=0, mirrored=-1)[name])
    if name == 'wrongly quantised': calibrate = np.repeat(np.float32([0, 255]), 10)[:, None, None, None]*np.ones(rec.frames.shape[1:], np.float32)   # ranges from blank frames
    rules, driving = broken(ship(folder, name.split()[0], model, calibrate))
    assert 'off_track_per_km' in rules and 'clean' in rules, driving


def test_the_same_seed_gives_the_same_numbers(trained):
    folder, _, _, (net, kind), _ = trained
    path, drives = ship(folder, 'again', kind.whole(net)), exam('select', 3, steps=120, noise=5., dropped=.1)
    first = drive_all(drives, path, workers=2, bar=False)
    assert first == drive_all(drives, path, workers=1, bar=False) == [rollout(d, Pilot(path)) for d in drives]


def test_a_killed_process_is_said_and_none_stays():
    code = "from edgecar.pilot.rollout import drive_all, exam; drive_all(exam('select', 500), workers=2, bar=False)"
    with subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True) as p:
        until, children = time.monotonic() + 60, []
        while len(children) < 2 and time.monotonic() < until: children = psutil.Process(p.pid).children()
        children[0].kill()
        said = p.communicate(timeout=60)[1]
    assert p.returncode == 1 and 'a process that drives was ended' in said
    assert not any(c.is_running() for c in children)
