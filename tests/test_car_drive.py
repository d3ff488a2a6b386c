"The whole loop as processes: whatever is killed, the wheels are in neutral after the bound."
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from support.recording import children, outputs, sound
from support.twin import SERVE

BOUND_S = .3
DRIVE = '''
import sys
from edgecar.car.drive import Profile, compose, run_vehicle
port, wheels, folder, remote = int(sys.argv[1]), *sys.argv[2:]
vehicle = compose(Profile('twin', 'twin:' + wheels, port=port, mode='local', arm=True, page=dict(port=0),
                          record=dict(folder=folder, reserve_mb=0, frames=50), remote=remote))
vehicle.inference.take(lambda frame: (.1, .3))
vehicle.page.wheel.asked['recording'] = True
run_vehicle(vehicle)
'''


def end(process):
    if process:
        process.kill()
        process.wait()


class Rig:
    "A simulator, and a car that drives in it, records and uploads."
    def __init__(self, folder):
        self.folder, self.sim, self.car, self.log = folder, None, None, folder/'wheels'

    def drive(self):
        "Get it to drive; one that stood still for a second, on a machine that is busy, is disarmed for good."
        for _ in range(3):
            self.start()
            until = time.monotonic() + 30
            while time.monotonic() < until and self.car.poll() is None:
                if self.rolls():
                    return
                time.sleep(.005)
            end(self.car)
            self.car = None
        raise AssertionError('it does not drive')

    def start(self):
        if not self.sim:
            self.sim = subprocess.Popen([sys.executable, '-c', SERVE], stdout=subprocess.PIPE, text=True)
            self.port = int(self.sim.stdout.readline())
        if not self.car:
            self.log.unlink(missing_ok=True)
            self.car = subprocess.Popen([sys.executable, '-c', DRIVE, str(self.port), self.log,
                                         self.folder/'tubs', self.folder/'remote'],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rolls(self):
        return any(out[2] for out in outputs(self.log)[-1:])

    def helper(self, room):
        return children(self.car.pid, room)

    def wait(self, true, seconds=60):
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until and self.car.poll() is None
            time.sleep(.005)

    def neutral(self, died):
        "It is, so soon after that, and stays so."
        until = time.monotonic() + 30
        while self.rolls():
            assert time.monotonic() < until
            time.sleep(.005)
        time.sleep(.05)
        out = outputs(self.log)
        assert not out[-1][2]
        first = next((b[0] for a, b in zip(out[::-1][1:], out[::-1]) if a[2]), died)
        assert first - died < BOUND_S


def trial(rig, victim, chance):
    rig.drive()
    if victim in ('record', 'upload'):
        rig.wait(lambda: rig.helper(victim))
        for pid in rig.helper(victim):
            os.kill(pid, chance.choice([signal.SIGKILL, signal.SIGSEGV]))
        turns = len(outputs(rig.log))
        return rig.wait(lambda: len(outputs(rig.log)) > turns + 20)   # the loop goes on
    time.sleep(chance.uniform(0, .1))
    process, died = getattr(rig, victim), time.monotonic()
    process.send_signal(
        chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGINT]))
    rig.neutral(died)
    end(process)
    if victim == 'sim':
        rig.sim.stdout.close()
        rig.sim = None
    end(rig.car)
    rig.car = None


SLOW = [pytest.mark.slow, pytest.mark.timed, pytest.mark.timeout(3600)]


MANY = [pytest.param(seed, 50, marks=SLOW) for seed in (1, 2, 3, 4)]


@pytest.mark.parametrize('seed, kills', [(0, 5), *MANY])
def test_random_kills_of_everything_but_the_owner(tmp_path, seed, kills):
    chance, rig = random.Random(seed), Rig(tmp_path)
    (tmp_path/'remote').mkdir()
    try:
        for n in range(kills):
            trial(rig, ['car', 'record', 'upload', 'car', 'sim'][n % 5], chance)
    finally:
        for process in (rig.car, rig.sim):
            end(process)
        if rig.sim:
            rig.sim.stdout.close()
    sound(tmp_path/'tubs')
