"""A stock car's drivers against a kernel's answers in C, made from the kernel's own headers:
what is on the wheels, what the camera saw."""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.kernel import LOOK

from edgecar.car import hardware
from edgecar.car.owner import ActuatorProcess

pytestmark = pytest.mark.skipif(not shutil.which('cc') and 'CI' not in os.environ,
                                reason='no C compiler (Debian: apt-get install gcc libc6-dev)')
STOPPED, AHEAD, STRAIGHT = 370, 435, 375   # ticks of throttle 0 and 0.5, of steering 0
PULSES = '?left=460&right=290&forward=500&stopped=370&reverse=220'   # a car without them cannot be armed


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'too long'
        time.sleep(.002)


class Board:
    "A PCA9685, by its registers in a file."
    def __init__(self, path):
        self.path = path
        self.path.write_bytes(bytes(512))
        self.set(2)

    def set(self, what):   # 1: it does not answer, 2: its power was away, 0: all is well
        with open(self.path, 'r+b') as f:
            f.seek(257)
            f.write(bytes([what]))

    def __getitem__(self, register):
        return self.path.read_bytes()[register]

    def ticks(self, channel):
        has = self.path.read_bytes()
        on, off = (int.from_bytes(has[6 + 4*channel + n:8 + 4*channel + n], 'little') for n in (0, 2))
        return None if has[0] & 0x10 or off & 0x1000 else off - on


@pytest.fixture
def board(tmp_path, kernel, monkeypatch):
    monkeypatch.setenv('LD_PRELOAD', str(kernel))
    return Board(tmp_path/'i2c-1')


@pytest.fixture
def owner(board):
    owner = ActuatorProcess(f'pca9685:{board.path}')
    yield owner
    owner.process.send_signal(signal.SIGCONT)
    owner.shutdown()
    assert owner.process.wait(5) is not None


def rolls(owner, board):
    owner.send('release')
    until(lambda: (owner.send('arm'), owner.run(0., .5), board.ticks(0) == AHEAD)[-1])


def test_an_owner_begins_in_neutral_at_60_hz(board, owner):
    assert (board.ticks(0), board.ticks(1)) == (STOPPED, STRAIGHT)
    assert (board[0xfe], board[0], board[1]) == (101, 0x20, 4)
    assert not any(board.ticks(n) for n in range(2, 16))


def test_commands_become_pulses_that_end_with_them(board, owner):
    rolls(owner, board)
    last = time.monotonic()
    until(lambda: board.ticks(0) == STOPPED)
    assert time.monotonic() - last < .25
    rolls(owner, board)
    owner.run(-1., 1.)
    until(lambda: (board.ticks(1), board.ticks(0)) == (460, 500))
    owner.shutdown()
    assert (board.ticks(0), board.ticks(1)) == (STOPPED, STRAIGHT)


def test_what_was_held_when_an_owner_was_killed_ends_with_the_next(board):
    one = ActuatorProcess(f'pca9685:{board.path}')
    rolls(one, board)
    one.process.kill()
    one.process.wait()
    assert board.ticks(0) == AHEAD   # what software cannot do
    other = ActuatorProcess(f'pca9685:{board.path}')
    assert board.ticks(0) == STOPPED
    other.shutdown()


@pytest.mark.parametrize('fault', [1, 2])
def test_a_bus_that_fails_or_a_chip_that_was_reset_disarms(board, owner, fault):
    rolls(owner, board)
    board.set(fault)
    until(lambda: (owner.run(0., .5), 'bus' in owner.state['counts'])[-1])
    if fault == 1:
        assert owner.state['causes'] == ['bus'] and board.ticks(0) == AHEAD   # nobody can tell it
        board.set(0)
    until(lambda: board.ticks(0) == STOPPED)
    for _ in range(20):
        owner.run(0., .5)
    assert board.ticks(0) == STOPPED and board[0xfe] == 101
    until(lambda: (owner.send(), owner.state)[-1]['causes'] == [])
    assert not owner.state['armed']
    rolls(owner, board)


def test_a_chip_that_answers_later_and_ones_that_cannot(board, tmp_path):
    from edgecar.core import EdgecarError
    board.set(1)
    owner = ActuatorProcess(f'pca9685:{board.path}')  # it may answer later
    assert owner.state['causes'] == ['bus']
    board.set(2)
    until(lambda: board.ticks(0) == STOPPED)
    owner.shutdown()
    for spec in (f'pca9685:{tmp_path}/no-bus', 'pca9685:?adress=1', 'pca9685:?steering=0',
                 f'pca9685:{board.path}?forward=300&reverse=300'):
        with pytest.raises(EdgecarError, match='cannot be opened'):
            ActuatorProcess(spec)


def look(kernel, path, gives, seconds=1., **env):
    path.touch()
    return subprocess.Popen([sys.executable, '-c', LOOK, f'v4l2:{path}', str(seconds)],
                            env={**os.environ, 'LD_PRELOAD': str(kernel), 'CAMERA': gives, **env},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines_of(looks):
    out, err = looks.communicate(timeout=30)
    assert looks.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_camera_of_raw_pictures(kernel, tmp_path):
    frames = lines_of(look(kernel, tmp_path/'video0', 'YUYV', 1.5))
    assert len(frames) > 30   # 50 a second are made, of which one in seven is damaged
    # grey, and nothing of what fills the rows
    assert all(f[2:6] == [120, 160, 3, 'uint8'] and len(set(f[6])) == 1 and f[6] == f[7] for f in frames)
    numbers, moments = [f[6][0] for f in frames], [f[0] for f in frames]
    assert numbers == sorted(set(numbers)) and moments == sorted(moments)
    assert np.median([f[1] for f in frames]) < .03


def test_a_camera_of_jpegs_in_another_shape(kernel, tmp_path):
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[:] = 40, 80, 200   # blue, green, red
    cv2.imwrite(str(tmp_path/'one.jpg'), picture)
    frames = lines_of(look(kernel, tmp_path/'video0', 'MJPG', CAMERA_JPEG=str(tmp_path/'one.jpg')))
    assert len(frames) > 20 and all(f[2:5] == [120, 160, 3] and np.allclose(f[6], (200, 80, 40), atol=6)
                                    for f in frames)
    (tmp_path/'one.jpg').write_bytes((tmp_path/'one.jpg').read_bytes()[:100])
    # damaged ones are none
    assert lines_of(look(kernel, tmp_path/'video0', 'MJPG', CAMERA_JPEG=str(tmp_path/'one.jpg'))) == []


def test_a_camera_of_something_else_is_refused(kernel, tmp_path):
    looks = look(kernel, tmp_path/'video0', 'GREY')
    assert ('it gives GREY, neither YUYV nor MJPG' in looks.communicate(timeout=30)[1]
            and looks.returncode == 1)


def test_a_camera_whose_plug_comes_out_is_found_again(kernel, tmp_path):
    looks = look(kernel, tmp_path/'video0', 'YUYV', 5)
    for _ in range(5):
        first = json.loads(looks.stdout.readline())
    (tmp_path/'video0').unlink()
    gone = time.monotonic()
    until(lambda: time.monotonic() - gone > .6)   # the last picture grows old
    (tmp_path/'video0').touch()
    back = time.monotonic()
    frames = lines_of(looks)
    assert (any(f[0] > back for f in frames) and not any(gone + .1 < f[0] < back for f in frames)
            and first[0] < gone)


def cli(kernel, *words, **kw):
    return subprocess.Popen([Path(sys.executable).parent/'edgecar', *map(str, words)],
                            env={**os.environ, 'LD_PRELOAD': str(kernel), 'CAMERA': 'YUYV'}, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def test_calibrate_asks_for_pulses_and_leaves_none(kernel, board):
    asks = cli(kernel, 'calibrate', 1, '--bus', board.path)
    asks.stdin.write('460\nleft\n290\n')
    asks.stdin.flush()
    until(lambda: board.ticks(1) == 290)
    out, err = asks.communicate('right\n', timeout=30)
    assert (asks.returncode == 0
            and out.splitlines()[-2:] == ['STEERING_LEFT_PWM = 460', 'STEERING_RIGHT_PWM = 290']
            and board.ticks(1) is None)
    once = cli(kernel, 'calibrate', 0, '--pulse', 400, '--seconds', 30, '--bus', board.path)
    until(lambda: board.ticks(0) == 400)
    once.terminate()
    once.communicate(timeout=30)
    assert once.returncode and board.ticks(0) is None
    board.set(1)
    dead = cli(kernel, 'calibrate', 0, '--bus', board.path)
    assert 'no PCA9685 answers' in dead.communicate('400\n', timeout=30)[1] and dead.returncode == 1


class Hand:
    "Somebody with a gamepad, which is a pipe."
    def __init__(self, path):
        os.mkfifo(path)
        self.pipe = os.open(path, os.O_RDWR)

    def does(self, kind, number, value):
        os.write(self.pipe, struct.pack('=IhBB', 0, value, kind, number))

    def presses(self, number):
        self.does(1, number, 1)
        self.does(1, number, 0)

    def throttles(self, x):
        self.does(2, 4, int(-32767*x))


@pytest.fixture
def car(kernel, board, tmp_path):
    "`edgecar drive --profile car`, as it is, on devices of ours, and a hand on its gamepad."
    (tmp_path/'video0').touch()
    (tmp_path/'myconfig.py').write_text('DRIVE_LOOP_HZ = 50\nMAX_EPOCHS = 3\n')
    hand = Hand(tmp_path/'js0')
    drives = cli(kernel, 'drive', '--profile', 'car', '--config', tmp_path/'myconfig.py',
                 '--camera', f"v4l2:{tmp_path/'video0'}", '--actuator', f'pca9685:{board.path}{PULSES}',
                 '--gamepad', f"js:{tmp_path/'js0'}", '--allow', 'fast', '--limit', 1, '--page-port', 0,
                 '--tubs', tmp_path/'tubs',
                 start_new_session=True)
    hand.drives = drives
    try:
        assert '/drive' in drives.stdout.readline()
        yield hand
    finally:
        drives.kill()
        drives.communicate(timeout=30)
        os.close(hand.pipe)
    until(lambda: board.ticks(0) in (STOPPED, None))


def goes(hand, board):
    "Arm it, and half throttle, again and again until it goes: the first pictures are black."
    def again():
        for act in (lambda: hand.throttles(0), lambda: hand.presses(7), lambda: hand.throttles(.5)):
            act()
            time.sleep(.05)   # two turns: it is armed with the stick in neutral, or not at all
        return board.ticks(0) in (AHEAD, AHEAD - 1)
    until(again, 30)


@pytest.mark.parametrize('end', ['stick', 'stop', 'quiet', 'SIGKILL', 'SIGTERM', 'SIGSTOP', 'camera', 'pad'])
def test_a_whole_car_drives_by_its_gamepad_and_stops(car, board, tmp_path, end):
    time.sleep(.2)
    assert board.ticks(0) == STOPPED   # nobody has armed it
    car.throttles(.5)
    goes(car, board)
    car.throttles(.5)
    began, bound = time.monotonic(), .35
    if end == 'stick':
        car.throttles(0)
    elif end == 'stop':
        car.presses(3)
    elif end == 'quiet':
        bound = 1.5   # a hand that never moves
    elif end == 'camera':
        (tmp_path/'video0').unlink()
    elif end == 'pad':
        (tmp_path/'js0').unlink()
        os.close(car.pipe)
        car.pipe = os.open(os.devnull, os.O_RDONLY)
    else:
        car.drives.send_signal(getattr(signal, end))
    until(lambda: board.ticks(0) == STOPPED)
    assert time.monotonic() - began < bound
    if end == 'stop':   # latched: armed only after a release
        for _ in range(5):
            car.presses(7)
            car.throttles(.5)
            time.sleep(.05)
        assert board.ticks(0) == STOPPED
        until(lambda: (car.throttles(0), time.sleep(.1), car.presses(6), time.sleep(.1), car.presses(7),
                       time.sleep(.1), car.throttles(.5), time.sleep(.1), board.ticks(0) != STOPPED)[-1])


@pytest.mark.parametrize('wrong', [ValueError('mmap closed'), KeyError('n'), OSError('it has gone')])
def test_a_camera_is_opened_again_after_any_failure(wrong):
    "A stream that cannot be closed either was kept, and failed for ever."
    camera = hardware.V4l2Camera.__new__(hardware.V4l2Camera)
    camera.over, camera.seen, camera.size, camera.flip, camera.frame_size = False, None, (8, 8), '', (8, 8)

    class Broken:
        def read(self):
            raise wrong

        def close(self):
            raise OSError('it has gone')

    class Good:
        kind, width, height, stride = b'YUYV', 8, 8, 16

        def read(self):
            camera.over = True
            return bytes(128), 10.

        def close(self):
            pass

    camera.video, camera.open = Broken(), Good
    camera.update()
    assert camera.seen[1] == 10.


def test_a_stick_of_before_does_not_count_after_any_failure(monkeypatch):
    "Only what the system said was caught; a part that began anew believed the stick of before."
    pad = hardware.Gamepad('/dev/no-pad')
    pad.sticks, pad.touched, seen = {hardware.THROTTLE_AXIS: -1.}, True, []

    def read(pad):
        seen.append(pad.command()[1])
        pad.over = len(seen) > 1
        raise KeyError('an axis that nobody knows')

    monkeypatch.setattr(hardware, 'read_gamepad', read)
    pad.update()
    assert seen == [1., 0.] and pad.seen_s == 0.
