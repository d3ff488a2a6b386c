"From a frame's exposure to the write of its command: measured in the real loop, beside the wheels' own log."
import hashlib
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from support.twin import LateCamera
from support.waiting import wait

from edgecar.car import drive, health
from edgecar.car.drive import Profile, compose
from edgecar.latency import LatencyMonitor

SAME_S = .004   # two clocks' readings beside one write, on a machine that does other things, too


class Counting:
    "A pilot that takes its time, and whose steering says which of its frames it answers."
    def __init__(self, camera, slow_s=0.):
        self.camera, self.slow_s, self.frames = camera, slow_s, {}

    def __call__(self, frame):
        time.sleep(self.slow_s)
        steering = (len(self.frames) + 1)/1e4
        self.frames[f'{steering:.4f}'] = self.camera.taken[id(frame)][1]
        return steering, .1


def driven(simulator, wheels, monkeypatch, late_s=0., slow_s=0., examined_ms=None, pilot=Counting, turns=300):
    "Drive the twin: the last status, the pilot, and what was measured: when a frame was taken -> latency, s."
    def find(p, owner, size):
        return LateCamera(owner, p.host, p.port, p.scene, late_s=late_s)
    monkeypatch.setattr(drive, 'open_camera', find)
    vehicle = compose(Profile('twin', f'twin:{wheels}', port=simulator, mode='local', arm=True,
                              page=dict(port=0)))
    camera = next(entry['part'] for entry in vehicle.parts if isinstance(entry['part'], LateCamera))
    vehicle.inference.take(answers := pilot(camera, slow_s), examined_ms)
    samples = vehicle.inference.latency.window.samples   # its end begins anew
    vehicle.start(rate_hz=drive.NO_SLEEP_HZ, max_loop_count=turns)
    return vehicle.mem['status'], answers, {wrote_s - latency_s: latency_s for wrote_s, latency_s in samples}


def first_writes(wheels, frames):
    "Latency of each frame, as the wheels' log has it: (when its frame was taken) -> s."
    delays_s = {}
    for moment, steering, throttle in (line.split() for line in wheels.read_text().splitlines()):
        if float(throttle) and steering in frames:
            delays_s.setdefault(frames[steering], float(moment) - frames[steering])
    return delays_s


RIGS = {'quick': (0, 0), 'late camera': (.06, 0), 'slow pilot': (0, .06), 'both': (.04, .04)}


@pytest.mark.parametrize('late_s, slow_s', RIGS.values(), ids=RIGS)
def test_it_is_what_the_wheels_say(late_s, slow_s, simulator, tmp_path, monkeypatch):
    status, pilot, measured = driven(simulator, wheels := tmp_path/'wheels', monkeypatch, late_s, slow_s)
    logged = first_writes(wheels, pilot.frames)
    both = [(latency_s, logged[near]) for taken_s, latency_s in measured.items()
            if (near := min(logged, key=lambda t: abs(t - taken_s))) and abs(near - taken_s) < 1e-5]
    assert len(both) > 20, (len(logged), len(measured))   # a turn in neutral has no line of its own
    assert statistics.median(abs(a - b) for a, b in both) < SAME_S
    assert status['latency_p50_ms']/1e3 >= late_s + slow_s
    assert status['latency_p95_ms'] >= status['latency_p50_ms']
    assert abs(status['latency_p50_ms']/1e3 - statistics.median(measured.values())) < .01
    keys = 'latency_examined_ms', 'latency_outside', 'latency_warning'
    assert [status[k] for k in keys] == [None, None, '']
    assert status['latency_count'] >= len(measured) and status['latency_sum_s'] >= sum(measured.values())*.9


EXAMINED = [([0, 1000], False), ([0, 40], True), ([400, 900], False), (None, None)]   # sooner is no fault


@pytest.mark.parametrize('examined_ms, outside', EXAMINED)
def test_it_warns_when_it_is_later(examined_ms, outside, simulator, tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, 'edgecar'):
        rig = dict(slow_s=.05, examined_ms=examined_ms, turns=150)
        status, *_ = driven(simulator, tmp_path/'wheels', monkeypatch, **rig)
    warnings = [r.getMessage() for r in caplog.records if r.getMessage().startswith('latency: ')]
    assert (status['latency_outside'], status['latency_examined_ms']) == (outside, examined_ms)
    assert bool(status['latency_warning']) is bool(outside) and len(warnings) == bool(outside), warnings
    for text in [*warnings, *[status['latency_warning']]*bool(outside)]:
        assert f'the pilot was examined at {examined_ms[0]} to {examined_ms[1]} ms' in text
    text = health.prometheus_text(status)
    assert ('edgecar_latency_outside_examined' in text) is (outside is not None)
    if outside is not None:
        assert f'edgecar_latency_outside_examined {int(outside)}' in text
    assert f'edgecar_frame_to_actuator_seconds{{quantile="0.5"}} {status["latency_p50_ms"]/1e3:.10g}' in text
    assert set(status['stopped']) <= {'frame', 'slow'}, 'a warning is no reason to stop'


class Foresees(Counting):
    "A pilot that takes the latency as an input."
    latency_s = .1

    def __call__(self, frame):
        self.latencies_s = [*getattr(self, 'latencies_s', []), self.latency_s]
        return super().__call__(frame)


@pytest.mark.parametrize('examined_ms', [None, [0, 40], [300, 400]])
def test_a_pilot_is_told_what_is_measured(examined_ms, simulator, tmp_path, monkeypatch):
    rig = dict(slow_s=.05, examined_ms=examined_ms, pilot=Foresees, turns=150)
    status, pilot, _ = driven(simulator, tmp_path/'wheels', monkeypatch, **rig)
    low, high = examined_ms or (50, 300)
    assert pilot.latencies_s[0] == .1, 'nothing is measured yet'
    assert low/1e3 <= pilot.latencies_s[-1] <= high/1e3
    if examined_ms is None:
        assert abs(pilot.latencies_s[-1]*1e3 - status['latency_p50_ms']) < 20


def test_another_pilot_may_come_at_any_moment(caplog):
    caplog.set_level(logging.CRITICAL, 'edgecar.latency')
    latency, ended, interval = LatencyMonitor(), threading.Event(), sys.getswitchinterval()
    def exchange():
        while not ended.is_set():
            for examined_ms in None, [0, 1]:
                latency.expect(examined_ms)
    thread = threading.Thread(target=exchange)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for n in range(20_000):
            now = time.monotonic()
            latency.run(dict(written=[(now - .05, now)]*10))
            assert (told_s := latency.pilot_s) in (None, .001) or told_s > .04, n
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        thread.join()


@pytest.fixture(scope='module')
def model(tmp_path_factory, tf):
    "A pilot of a release, for frames that are smaller than the twin's, examined at 0 to 1 ms."
    keras, layers = tf.keras, tf.keras.layers
    frame = keras.Input((80, 96, 3), name='frame')
    x = layers.Flatten()(layers.AveragePooling2D(16)(frame))
    net = keras.Model(frame, [layers.Dense(1, name=name)(x) for name in ('n_outputs0', 'n_outputs1')])
    path = tmp_path_factory.mktemp('model')/'pilot.tflite'
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rules = [dict(rule='clean', kind='least', bound=.95, found=1.)]
    gate = dict(passed=True, rules=rules, examined_latency_ms=[0, 1])
    (path.parent/'manifest.json').write_text(json.dumps(dict(schema=1, pilot=dict(sha256=digest), gate=gate)))
    return path


@pytest.mark.slow
def test_the_command_line_reads_it_from_the_manifest_and_fits_the_frames(model, tmp_path):
    command = [Path(sys.prefix)/'bin/edgecar', 'drive', '--serve', '--page-port', '0', '--model', model]
    wheels = ['--actuator', f'twin:{tmp_path/"wheels"}', '--tubs', tmp_path/'tubs', '--reserve-mb', '0']
    env, pipe = {**os.environ, 'PYTHONUNBUFFERED': '1'}, subprocess.PIPE
    more = dict(stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=env)
    with subprocess.Popen([*command, *wheels], **more) as process:
        try:
            url = process.stdout.readline().split('/drive')[0]
            def sample(name):
                lines = urllib.request.urlopen(f'{url}/metrics', timeout=10).read().decode().splitlines()
                return next((float(x.split()[-1]) for x in lines if x.startswith(f'edgecar_{name} ')), 0)
            wait(lambda: sample('latency_outside_examined') == 1, 60)   # before anybody has armed it
            assert [sample(f'latency_examined_seconds{{bound="{b}"}}') for b in ('low', 'high')] == [0, .001]
            assert sample('frame_to_actuator_seconds_count') >= 10
            assert sample('frame_to_actuator_seconds{quantile="0.5"}') > .001
        finally:
            process.terminate()
            log = process.communicate(timeout=30)[1]
    assert 'latency: ' in log and 'the pilot was examined at 0 to 1 ms' in log
    assert 'frames for the pilot: 120x160 cropped to 120x144, resized to 80x96' in log
