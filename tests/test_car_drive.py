"The whole loop as processes: whatever is killed, the wheels are in neutral after the bound."
import random
import signal
import subprocess
import sys
import time

import pytest

BOUND_S = .3
DRIVE = '''
import sys
from edgecar.car.drive import Profile, compose, go
V = compose(Profile(actuator='mock:' + sys.argv[1], mode='local', arm=True, page=dict(port=0)))
V.copilot.take(lambda frame: (.1, .5))
go(V)
'''


def outputs(log): return [tuple(map(float, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize('kills', [10, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_random_kills(tmp_path, kills):
    chance = random.Random(0)
    for n in range(kills):
        log = tmp_path/f'{n}.log'
        car = subprocess.Popen([sys.executable, '-c', DRIVE, log], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 30
            while not any(out[2] for out in outputs(log)[-1:]): assert time.monotonic() < end and car.poll() is None; time.sleep(.005)
            time.sleep(chance.uniform(0, .1))
            died = time.monotonic()
            car.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGINT]))
            while (out := outputs(log)[-1])[2]: assert time.monotonic() < end; time.sleep(.005)
            first = next(b[0] for a, b in zip(outputs(log)[::-1][1:], outputs(log)[::-1]) if a[2])
            assert first - died < BOUND_S
        finally:
            car.kill()
            car.wait()
