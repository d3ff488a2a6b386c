"""What a car remembers of a stop: the frames before it, after kills at any moment, on a full disk, and in a
tub without a fault."""
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from support.recording import children, outputs
from support.waiting import wait

from edgecar.car.blackbox import box_number, kept_boxes
from edgecar.car.upload import is_uploaded
from edgecar.data.check import find_faults
from edgecar.data.training import BOX_MARK, is_black_box, training_tubs
from edgecar.data.tub import Tub, find_tubs

BEFORE_S, AFTER_S = 2., 1.
DRIVE = f'''
import resource, sys, threading
from edgecar.car.drive import Profile, compose, run_vehicle
folder, wheels, most, remote = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
vehicle = compose(Profile(actuator='mock:' + wheels, mode='local', arm=True, boxes=4, page=dict(port=0),
                          record=dict(folder=folder, reserve_mb=0), remote=remote,
                          box=dict(before_s={BEFORE_S}, after_s={AFTER_S})))
vehicle.inference.take(lambda frame: (.1, .5))
if most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

def listen():
    for line in sys.stdin:
        vehicle.page.wheel.buttons[line.strip()] = True

threading.Thread(target=listen, daemon=True).start()
run_vehicle(vehicle, lambda text: print(vehicle.page.port, flush=True))
'''


class Drive:
    "A mock that drives by its pilot, and remembers."
    def __init__(self, folder, most=0, remote=''):
        self.tubs, self.wheels = Path(folder)/'tubs', Path(folder)/'wheels.log'
        self.process = subprocess.Popen(
            [sys.executable, '-c', DRIVE, self.tubs, self.wheels, str(most), str(remote)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline())
        self.keepers = []

    def press(self, button):
        "Press a button of the page; return when, monotonic s."
        self.process.stdin.write(button + '\n')
        self.process.stdin.flush()
        return time.monotonic()

    def drives_again(self):
        "Release a stop and arm; wait until it drives."
        time.sleep(.6)
        for button in ('release', 'arm'):
            self.press(button)
            time.sleep(.1)
        wait(self.drives)

    def drives(self):
        return bool(written := outputs(self.wheels)) and written[-1][1:] == (.1, .5)

    def metric(self, name):
        text = urllib.request.urlopen(f'http://127.0.0.1:{self.port}/metrics', timeout=10).read().decode()
        return next((float(line.split()[1]) for line in text.splitlines()
                     if line.startswith(f'edgecar_{name} ')), float('nan'))

    def keeper(self):
        "Return the process that keeps the boxes, as soon as it is there."
        wait(lambda: children(self.process.pid, 'blackbox'), 20)
        self.keepers += (pids := children(self.process.pid, 'blackbox'))
        return pids[0]

    def remembers(self):
        "Wait until it drives, and the ring holds what a box wants of the time before a stop."
        wait(self.drives, 20)
        self.keeper()
        wait(lambda: [*self.tubs.glob('.blackbox/*.seg')], 20)
        time.sleep(BEFORE_S + .5)

    def boxes(self):
        return kept_boxes(self.tubs/'blackbox')

    def ended(self):
        "Whether each process that kept boxes has ended."
        return not any(Path(f'/proc/{pid}').exists() for pid in self.keepers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        wait(self.ended, 30)


def whole(box):
    "Records of a box that `edgecar tub verify` finds faultless."
    done = subprocess.run([sys.executable, '-c', 'from edgecar.cli import app; app()', 'tub', 'verify', box],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_black_box(box)
    return Tub(box).records()


def reasons(drive):
    return [Tub(box).metadata[BOX_MARK] for box in drive.boxes()]


def test_a_box_has_the_frames_before_a_stop_and_what_was_done(tmp_path):
    remote = tmp_path/'remote'
    remote.mkdir()
    with Drive(tmp_path, remote=remote) as car:
        car.remembers()
        stopped_s = car.press('estop')
        wait(car.boxes, 30)
        records = whole(car.boxes()[0])
        wait(lambda: car.metric('blackbox_kept') == 1)
        assert car.metric('blackbox_dropped_total') == 0
        wait(lambda: is_uploaded(car.boxes()[0]), 60)
        assert is_black_box(car.boxes()[0])   # still, after the upload
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    assert reasons(car) == ['page']
    at_s = np.array([r['time/turn_s'] for r in records]) - stopped_s
    assert abs(at_s[0] + BEFORE_S) < .3 and abs(at_s[-1] - AFTER_S) < .3
    assert np.diff(at_s).max() < .5
    frames_s = np.unique([r['time/frame_s'] for r in records]) - stopped_s
    assert len(frames_s) > 15*BEFORE_S and (np.diff(frames_s) < .5).all()
    assert np.median(np.diff(frames_s)) < .06   # the camera gives 20 a second
    before = [r for r, s in zip(records, at_s) if -BEFORE_S + .3 < s < -.1]
    after = [r for r, s in zip(records, at_s) if s > .3]
    def seen(rows, name):
        return {(r['car/throttle'], r['car/state'], r[name]) for r in rows}
    assert seen(before, 'pilot/throttle') == {(.5, 'armed-pilot', .5)}
    assert seen(after, 'car/stopped') == {(0, 'stopped', 'page')}
    with pytest.raises(Exception, match='black boxes only'):
        training_tubs([car.tubs])
    assert not [*car.tubs.glob('.blackbox/*')]


def test_a_stop_within_a_stop_joins_it_and_one_five_seconds_later_has_a_box_of_its_own(tmp_path):
    with Drive(tmp_path) as car:
        car.remembers()
        first_s = car.press('estop')
        time.sleep(.4)
        car.process.send_signal(signal.SIGUSR1)
        car.drives_again()
        wait(car.boxes, 30)
        time.sleep(max(first_s + 5 - time.monotonic(), 0))
        second_s = car.press('estop')
        wait(lambda: len(car.boxes()) == 2, 30)
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    assert reasons(car) == ['page, signal', 'page']
    one, two = ([r['time/turn_s'] for r in whole(box)] for box in car.boxes())
    assert abs(one[-1] - first_s - .4 - AFTER_S) < .5 and abs(two[0] - second_s + BEFORE_S) < .5
    stops = Tub(car.boxes()[0]).metadata[f'{BOX_MARK}/stops']
    assert [cause for _, cause in stops] == ['page', 'signal'] and .2 < stops[1][0] - stops[0][0] < 1


def test_a_loop_that_is_killed_leaves_a_box(tmp_path):
    with Drive(tmp_path) as car:
        car.remembers()
        killed_s = time.monotonic()
        car.process.kill()
        car.process.wait()
        wait(car.ended, 30)
    assert reasons(car) == ['loop']
    at_s = np.array([r['time/turn_s'] for r in whole(car.boxes()[0])]) - killed_s
    assert -BEFORE_S - 1 < at_s[0] < -BEFORE_S + .5 and -.5 < at_s[-1] < .1


def test_a_keeper_that_is_killed_again_and_again_forgets_little_and_the_car_drives_on(tmp_path):
    chance = random.Random(0)
    with Drive(tmp_path) as car:
        car.remembers()
        for _ in range(3):
            os.kill(car.keeper(), signal.SIGKILL)
            time.sleep(chance.uniform(.1, .5))
            car.keeper()
        driven = outputs(car.wheels)
        time.sleep(2)
        stopped_s = car.press('estop')
        wait(lambda: 'page' in reasons(car), 30)
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    assert reasons(car) == ['page']   # the death of a keeper is no stop
    at_s = np.array([r['time/turn_s'] for r in whole(car.boxes()[0])]) - stopped_s
    assert at_s[0] < -BEFORE_S + .5 and at_s[-1] > AFTER_S - .3
    assert len(driven) > 100 and {out[1:] for out in driven[len(driven)//2:]} == {(.1, .5)}


@pytest.mark.parametrize('kills', [2, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timed])])
def test_a_kill_at_any_moment_after_a_stop_leaves_nothing_or_a_whole_box(tmp_path, kills):
    "Loop and keeper are killed while it pins and builds; the next start makes the box that is missing."
    chance = random.Random(kills)
    for n in range(kills):
        folder = tmp_path/str(n)
        folder.mkdir()
        with Drive(folder) as car:
            car.remembers()
            keeper = car.keeper()
            car.press('estop')
            time.sleep(chance.uniform(0, AFTER_S + 1.5))
            os.kill(keeper, signal.SIGKILL)
            car.process.kill()
        for box in find_tubs(car.tubs):
            assert find_faults(box) == []
        with Drive(folder) as car:
            wait(car.drives, 20)
            car.keeper()
            wait(car.boxes, 30)
            car.process.send_signal(signal.SIGTERM)
            assert car.process.wait(20) == 0
        assert len(car.boxes()) == 1 and reasons(car)[0] in ('page', 'cut')
        records = whole(car.boxes()[0])
        assert len(records) > 15*BEFORE_S*.8
        assert not [*car.tubs.glob('.blackbox/*')]


def test_a_full_disk_costs_the_box_and_not_the_drive(tmp_path):
    with Drive(tmp_path, most=25_000) as car:   # less than a picture of noise takes
        wait(car.drives, 20)
        car.keeper()
        wait(lambda: car.metric('blackbox_dropped_total') > 30, 30)
        first = len(outputs(car.wheels))
        wait(lambda: len(outputs(car.wheels)) > first + 60, 60)
        assert {out[1:] for out in outputs(car.wheels)[first:]} == {(.1, .5)}
        car.press('estop')
        wait(lambda: outputs(car.wheels)[-1][1:] == (0., 0.))
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    assert [f for tub in (find_tubs(car.tubs) if car.tubs.is_dir() else []) for f in find_faults(tub)] == []


@pytest.mark.slow
def test_only_so_many_boxes_are_kept(tmp_path):
    with Drive(tmp_path) as car:
        car.remembers()
        for n in range(6):
            car.press('estop')
            wait(lambda: [box_number(box) for box in car.boxes()] == [*range(max(n - 2, 1), n + 2)], 30)
            car.drives_again()
        wait(lambda: car.metric('blackbox_kept') == 4)
