"""The owner of the actuator: what reaches the wheels when commands stop, make no sense,
or everybody else has died."""
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgecar.car.owner import ActuatorProcess
from edgecar.core import EdgecarError

HOLD_S = .1
SLACK_S = .15   # of a machine that does other things, too


def lines(log):
    return [tuple(map(float, line.split())) for line in log.read_text().splitlines()]


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'too long'
        time.sleep(.002)


@pytest.fixture
def log(tmp_path):
    return tmp_path/'wheels.log'


@pytest.fixture
def owner(log):
    owner = ActuatorProcess(f'mock:{log}')
    yield owner
    owner.shutdown()
    assert owner.process.wait(5) is not None


def rolls(owner, log):
    owner.run(.1, .5)   # a good command: nobody can arm it while a fault holds
    owner.send('release')
    owner.send('arm')
    until(lambda: (owner.run(.1, .5), lines(log)[-1][2] == .5)[1])


def test_it_starts_at_once_and_in_neutral(log):
    def seconds():
        began = time.monotonic()
        ActuatorProcess(f'mock:{log}').shutdown()
        return time.monotonic() - began
    assert min(seconds() for _ in range(5)) < .3
    assert {line[1:] for line in lines(log)} == {(0., 0.)}


def test_it_imports_nothing_heavy():
    heavy = "{'numpy', 'cv2', 'donkeycar', 'tornado', 'tensorflow', 'edgecar.core'}"
    subprocess.run([sys.executable, '-c',
                    f'import sys, edgecar.car.owner; assert not {heavy} & set(sys.modules)'], check=True)


def test_it_holds_no_longer_than_it_may(owner, log):
    rolls(owner, log)
    for _ in range(10):
        rolls(owner, log)
        last = time.monotonic()
        owner.run(.1, .5)
        until(lambda: lines(log)[-1][2] == 0)
        assert lines(log)[-1][0] - last < HOLD_S + SLACK_S


def test_nothing_moves_before_it_is_armed_or_while_it_is_stopped(owner, log):
    for _ in range(20):
        owner.run(1., 1.)
    owner.send('stop', cause='page')
    owner.send('arm')
    for _ in range(20):
        owner.run(1., 1.)
    owner.send('release')
    for _ in range(20):
        owner.run(1., 1.)
    until(lambda: (owner.send(), owner.state['counts'].get('page') == 1 and owner.state['stopped'] == [])[1])
    assert {line[1:] for line in lines(log)} == {(0., 0.)} and len(lines(log)) > 40


def test_a_stop_is_latched_while_commands_go_on(owner, log):
    rolls(owner, log)
    owner.process.send_signal(signal.SIGUSR1)
    until(lambda: (owner.run(.1, .5), owner.state['stopped'] == ['signal'])[1])
    n = len(lines(log))
    for _ in range(20):
        owner.run(.1, .5)
        time.sleep(.005)
    assert {line[1:] for line in lines(log)[n:]} == {(0., 0.)}


def test_silence_disarms(owner, log):
    rolls(owner, log)
    until(lambda: (owner.send(), not owner.state['armed'])[1])
    assert lines(log)[-1][1:] == (0., 0.)


@pytest.mark.parametrize('how', [signal.SIGTERM, None], ids=['SIGTERM', 'the line ends'])
def test_its_end_leaves_neutral(log, how):
    owner = ActuatorProcess(f'mock:{log}')
    rolls(owner, log)
    owner.process.send_signal(how) if how else owner.channel.close()
    assert owner.process.wait(5) == 0 and lines(log)[-1][1:] == (0., 0.)
    owner.shutdown()


def test_a_broken_bus_is_tried_until_it_answers(owner, log, tmp_path):
    rolls(owner, log)
    broken = tmp_path/'wheels.log.fail'
    broken.touch()
    until(lambda: (owner.run(.1, .5), 'bus' in owner.state['causes'])[1])
    broken.unlink()
    until(lambda: lines(log)[-1][1:] == (0., 0.))
    until(lambda: (owner.run(.1, .5), owner.state['causes'] == [])[1])
    assert not owner.state['armed'] and owner.state['counts']['bus'] == 1


def test_nonsense_changes_nothing_and_does_not_end_it(owner, log):
    noise = random.Random(0)
    for _ in range(2000):
        raw = noise.choice([
            noise.randbytes(noise.randrange(1, 300)),
            json.dumps(noise.choice([
                [], 1, None, dict(do='drive', steering=9, throttle=1e999, until=1), dict(do='__init__'),
                dict(do='say'), dict(do='drive', steering=0, throttle='1', until=time.monotonic() + 9),
                dict(do='stop', cause={}, more=1)])).encode()])
        owner.channel.setblocking(True)
        owner.channel.send(raw)
        owner.channel.setblocking(False)
        owner.receive()
    assert {line[1:] for line in lines(log)} == {(0., 0.)} and owner.alive
    rolls(owner, log)


def test_lines_that_are_handed_over_are_not_kept(owner):
    r, w = os.pipe()
    for _ in range(50):
        owner.send(lines=[r])
    until(lambda: len(os.listdir(f'/proc/{owner.process.pid}/fd')) < 12)
    os.close(r), os.close(w)


def test_many_threads_may_speak(owner, log):
    rolls(owner, log)
    threads = [threading.Thread(target=lambda: [owner.run(.1, .5) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line[1:] for line in lines(log)} == {(0., 0.), (.1, .5)} and owner.alive


def test_what_does_not_exist_is_said(tmp_path):
    with pytest.raises(EdgecarError, match='steam'):
        ActuatorProcess('steam:1')
    with pytest.raises(EdgecarError, match='No such file'):
        ActuatorProcess(f'mock:{tmp_path}/no/such/folder')


LOOP = '''
import sys, time
from edgecar.car.owner import ActuatorProcess
owner = ActuatorProcess('mock:' + sys.argv[1])
owner.send('arm')
print(owner.process.pid, flush=True)
while True:
    owner.run(.1, .5)
    time.sleep(1/60)
'''

@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV],
                         ids=lambda s: s.name)
def test_a_loop_that_dies_or_stands(log, how):
    loop = subprocess.Popen([sys.executable, '-c', LOOP, log], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    try:
        owner = int(loop.stdout.readline())
        until(lambda: lines(log)[-1][2] == .5)
        died = time.monotonic()
        loop.send_signal(how)
        until(lambda: lines(log)[-1][2] == 0)
        assert next(t for t, *out in lines(log)[::-1] if out == [0., 0.]) - died < HOLD_S + SLACK_S
        if how != signal.SIGSTOP:
            until(lambda: not os.path.exists(f'/proc/{owner}'))   # and it does not stay for ever
    finally:
        loop.kill()
        loop.wait()
        loop.stdout.close()


def test_four_threads_may_speak_to_the_owner(tmp_path):
    owner, failed = ActuatorProcess(f'mock:{tmp_path}/wheels'), []

    def ask():
        try:
            for _ in range(5000):
                owner.send()
        except RuntimeError as e:
            failed.append(e)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    owner.shutdown()
    assert not failed
