"""The steering that a pilot is told it gave: in the real loop, on the twin,
beside what was answered and what reached the wheels."""
import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path

import pytest
from support.twin import LENGTH, LateCamera, Loop

from edgecar.car import drive
from edgecar.car.guard import GuardBounds
from edgecar.core import repo_root

STEP_S = .05
PILOT = repo_root(Path(__file__).parent)/'build/export/pilot.tflite'


class LossyCamera(LateCamera):
    "Loses two frames of each seven."
    read = 0

    def _read(self):
        newest = self.seen
        super()._read()
        self.read += 1
        if self.read % 7 in (3, 4):
            self.coming.pop()
            self.seen = newest


def expected(turns, n):
    """What the training would have for turn n: the answers to the frames 50, 100, ... ms before,
    each held until the next."""
    frames = [frame_s for frame_s, *_ in turns]
    indexes = [bisect_right(frames, frames[n] - ago*STEP_S + STEP_S/2, hi=n) - 1
               for ago in range(LENGTH, 0, -1)]
    return [turns[i][2] for i in indexes]


def off_by(turns, settled):
    "By how many answers the past is off, of each steering of each turn from `settled` on."
    return [round(abs(a - b)*1e4) for n in range(settled, len(turns))
            for a, b in zip(turns[n][1], expected(turns, n))]


RIGS = {   # camera, its delay, the pilot's time, the loop's rate
    'of 20 Hz': (LateCamera, 0, 0, 20),
    'of 60 Hz': (LateCamera, 0, 0, 60),
    'of 30 Hz': (LateCamera, 0, 0, 30),
    'of 10 Hz': (LateCamera, 0, 0, 10),
    'late camera': (LateCamera, .11, 0, 60),
    'slow pilot': (LateCamera, 0, .06, 60),
    'lost frames': (LossyCamera, .05, 0, 60),
}


@pytest.mark.parametrize('camera, late_s, slow_s, rate_hz', RIGS.values(), ids=RIGS)
def test_a_pilot_is_told_its_own_answers(
        camera, late_s, slow_s, rate_hz, simulator, tmp_path, monkeypatch):   # noqa: F811
    patient = GuardBounds(frame_s=.6, answer_s=.5)  # with neutral now and then there is less to compare
    rig = dict(camera=camera, late_s=late_s, slow_s=slow_s, rate_hz=rate_hz, mode='local', bounds=patient)
    with Loop(simulator, tmp_path/'wheels', monkeypatch, **rig) as loop:
        time.sleep(6)
    turns = loop.pilot.turns
    off = off_by(turns, len(turns)//3)
    assert len(off) > 100
    assert off.count(0) > .7*len(off), Counter(off)   # on an idle machine it is nearly all of them
    assert sum(by <= 1 for by in off) > .9*len(off), Counter(off)


def test_a_driver_s_steering_is_the_past_when_the_pilot_takes_over(
        simulator, tmp_path, monkeypatch):   # noqa: F811
    rig = dict(late_s=.05, mode='user', bounds=GuardBounds(frame_s=.6, answer_s=.5, link_s=.6))
    with Loop(simulator, tmp_path/'wheels', monkeypatch, **rig) as loop:
        loop.hold(2, angle=-.4, throttle=.2, drive_mode='user')
        taken_over = len(loop.pilot.turns)
        loop.hold(1, drive_mode='local')
        taken_back = len(loop.pilot.turns)
        loop.hold(1, angle=.3, throttle=.2, drive_mode='user')
        stopped = len(loop.pilot.turns)
        loop.vehicle.owner.send('stop', cause='page')
        time.sleep(1.2)
    pasts = [tuple(past) for _, past, _ in loop.pilot.turns]
    assert pasts[:taken_over].count((-.4,)*LENGTH) > 5, 'the pilot watches'
    both = [past for past in pasts[taken_over:taken_back] if -.4 in past and max(past) > 0 and 0 not in past]
    assert both, 'the first commands of the pilot come after the driver\'s'
    assert all(sorted(past) == list(past) for past in both), both
    assert sum(0 < min(past) and max(past) < .2 for past in pasts[taken_over:taken_back]) > 5, (
        'then it is its own')
    assert pasts[taken_back:stopped].count((.3,)*LENGTH) > 5
    assert pasts[-1] == (0.,)*LENGTH, 'a car that was stopped was given neutral'


def test_what_came_before_is_neutral_when_it_is_armed(simulator, tmp_path, monkeypatch):   # noqa: F811
    with Loop(simulator, tmp_path/'wheels', monkeypatch, mode='local',
              bounds=GuardBounds(frame_s=.6, answer_s=.5)) as loop:
        parts = [entry['part'] for entry in loop.vehicle.parts]
        next(part for part in parts if isinstance(part, drive.ButtonHandler)).arms_itself = False
        time.sleep(1.5)
        disarmed = len(loop.pilot.turns)
        loop.vehicle.owner.send('disarm')
        time.sleep(1.2)
        before = len(loop.pilot.turns)
        loop.vehicle.page.wheel.buttons['arm'] = True
        time.sleep(1)
    pasts = [past for _, past, _ in loop.pilot.turns]
    assert disarmed > LENGTH and set(pasts[before - 1]) == {0.}, 'what it said was not given'
    first = next(past for past in pasts[before:] if set(past) != {0.})
    assert first[:3] == [0.]*3 and min(pasts[-1]) > 0


class Laps(LateCamera):
    "Notes where the car is."
    def _read(self):
        super()._read()
        self.road = [*getattr(self, 'road', []), self.seen[2]]


@pytest.mark.slow
@pytest.mark.skipif(not PILOT.is_file(), reason='no pilot: make repro')
def test_a_pilot_drives_a_lap_with_a_late_camera(simulator, tmp_path, monkeypatch):   # noqa: F811
    from edgecar.pilot.runtime import Pilot
    rig = dict(camera=Laps, late_s=.12, pilot=lambda *_: Pilot(PILOT), mode='local', scene='club', limit=1.)
    with Loop(simulator, tmp_path/'wheels', monkeypatch, **rig) as loop:
        until_s = time.monotonic() + 60
        while loop.status.get('laps', 0) < 1 and time.monotonic() < until_s:
            time.sleep(.1)
    status, road = loop.status, loop.camera.road
    cte_m = [abs(info['cte']) for info in road if 'cte' in info]
    assert status['laps'] >= 1 and max(cte_m) < .4, (status['laps'], max(cte_m))
    assert .12 < status['latency_p50_ms']/1e3 < .16
    assert sum(status['faults'].get(cause, 0) for cause in ('frame', 'delayed', 'slow')) < 6, status['faults']
