"""How old a picture and how slow an answer may be: what is late but steady drives,
what stops or becomes later is in neutral in time."""
import statistics
import threading
import time

import pytest
from support.twin import LateCamera, Loop

MEDIAN_S, MAX_S = .2, .3   # from the moment that it stops to neutral


class StoppingCamera(LateCamera):
    "A late camera which can stop, or become later."
    held = None

    def run_threaded(self):
        return self.held or super().run_threaded()

    def stop(self):
        self.held = super().run_threaded()
        return time.monotonic()


class HangingPilot:
    "A pilot that takes its time, and then does not come back."
    def __init__(self, camera, slow_s):
        self.slow_s, self.hangs, self.over, self.began_s = slow_s, False, threading.Event(), None

    def __call__(self, frame):
        if self.hangs:
            self.began_s = time.monotonic()
            self.over.wait(30)
        time.sleep(self.slow_s)
        return .1, .3


def outputs(wheels, since_s, until_s=1e99):
    "(moment, whether it is neutral) of each write."
    lines = [tuple(map(float, line.split())) for line in wheels.read_text().splitlines()]
    return [(s, steering == 0 == throttle) for s, steering, throttle in lines if since_s <= s < until_s]


def neutral_share(wheels, since_s):
    return statistics.mean(neutral for _, neutral in outputs(wheels, since_s))


def rolls(wheels):
    "Wait until it has driven for a moment."
    until_s = time.monotonic() + 20
    while not (last := outputs(wheels, time.monotonic() - .3)) or any(neutral for _, neutral in last):
        assert time.monotonic() < until_s, 'it does not drive'
        time.sleep(.05)


def neutral_after(wheels, began_s):
    "When it was neutral for good, s after a moment."
    time.sleep(max(began_s + .8 - time.monotonic(), 0))
    written = outputs(wheels, began_s)
    driving = [i for i, (_, neutral) in enumerate(written) if not neutral]
    return written[driving[-1] + 1][0] - began_s if driving else 0.


@pytest.mark.parametrize('late_s', [.02, .11, .14])
def test_a_late_camera_drives_and_is_in_neutral_in_time_when_it_stops(
        late_s, simulator, tmp_path, monkeypatch):   # noqa: F811
    wheels, took_s = tmp_path/'wheels', []
    rig = dict(camera=StoppingCamera, late_s=late_s, mode='local')
    with Loop(simulator, wheels, monkeypatch, **rig) as loop:
        rolls(wheels)
        time.sleep(1)
        began_s = time.monotonic()
        time.sleep(3)
        assert neutral_share(wheels, began_s) < .15
        for n in range(5):
            took_s.append(neutral_after(wheels, loop.camera.stop()))
            loop.camera.held = None
            rolls(wheels)
            time.sleep(.013*n)
    assert statistics.median(took_s) < MEDIAN_S and max(took_s) < MAX_S, took_s
    assert loop.vehicle.fault_log.counts['frame'] >= 5


def test_a_camera_that_becomes_later_is_stopped_and_named(simulator, tmp_path, monkeypatch):   # noqa: F811
    wheels = tmp_path/'wheels'
    with Loop(simulator, wheels, monkeypatch, camera=StoppingCamera, mode='local') as loop:
        rolls(wheels)
        began_s = time.monotonic()
        while (late_s := .05*(time.monotonic() - began_s)) < .45:
            loop.camera.late_s = late_s
            time.sleep(.01)
        status = loop.vehicle.mem['status']
    neutral_s = [s for s, neutral in outputs(wheels, began_s) if neutral]
    driven_s = [s for s, neutral in outputs(wheels, began_s) if not neutral]
    assert 'delayed' in status['stopped'] and status['faults']['delayed'] >= 1
    assert status['why']['delayed'] == 'the pictures come too late'
    assert .05*(max(driven_s) - began_s) < .28 and max(neutral_s) > max(driven_s)


EXAMINED = {'within it': ([5, 400], True), 'beyond it': ([5, 100], False),
            'of which nothing is known': (None, False)}


@pytest.mark.slow
@pytest.mark.parametrize('examined_ms, drives', EXAMINED.values(), ids=EXAMINED)
def test_a_slow_steady_pilot_drives_where_that_was_examined(
        examined_ms, drives, simulator, tmp_path, monkeypatch):   # noqa: F811
    wheels = tmp_path/'wheels'
    rig = dict(mode='local', pilot=HangingPilot, slow_s=.11, examined_ms=examined_ms)
    with Loop(simulator, wheels, monkeypatch, **rig) as loop:
        time.sleep(2.5)
        began_s = time.monotonic()
        time.sleep(2)
        share = neutral_share(wheels, began_s)
        if drives:
            rolls(wheels)
        loop.pilot.hangs = True
        while drives and loop.pilot.began_s is None:
            time.sleep(.001)
        took_s = neutral_after(wheels, loop.pilot.began_s) if drives else 0.
        loop.pilot.over.set()
    assert (share < .3) if drives else (share > .9), share
    assert took_s < MAX_S
    assert drives or loop.vehicle.fault_log.counts['slow'] >= 1
