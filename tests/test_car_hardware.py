"""A stock car's drivers against a kernel's answers in C, made from the kernel's own headers: what is on the wheels, what the camera saw."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.car.owner import Owner

pytestmark = pytest.mark.skipif(not shutil.which('cc') and 'CI' not in os.environ, reason='no C compiler (Debian: apt-get install gcc libc6-dev)')
STOPPED, AHEAD, STRAIGHT = 370, 435, 375   # ticks of throttle 0 and 0.5, of steering 0


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'too long'
        time.sleep(.002)


@pytest.fixture(scope='session')
def kernel(tmp_path_factory):
    "A library that goes before the C library and has devices."
    made = tmp_path_factory.mktemp('kernel')/'devices.so'
    subprocess.run(['cc', '-Wall', '-Werror', '-shared', '-fPIC', '-O1', '-o', made, Path(__file__).parent/'kernel/devices.c', '-ldl'], check=True)
    return made


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

    def __getitem__(self, register): return self.path.read_bytes()[register]

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
    owner = Owner(f'pca9685:{board.path}')
    yield owner
    owner.process.send_signal(signal.SIGCONT)
    owner.shutdown()
    assert owner.process.wait(5) is not None


def rolls(owner, board):
    owner.say('release')
    until(lambda: (owner.say('arm'), owner.run(0., .5), board.ticks(0) == AHEAD)[-1])


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
    one = Owner(f'pca9685:{board.path}')
    rolls(one, board)
    one.process.kill()
    one.process.wait()
    assert board.ticks(0) == AHEAD   # what software cannot do
    other = Owner(f'pca9685:{board.path}')
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
    for _ in range(20): owner.run(0., .5)
    assert board.ticks(0) == STOPPED and board[0xfe] == 101
    until(lambda: (owner.say(), owner.state)[-1]['causes'] == [])
    assert not owner.state['armed']
    rolls(owner, board)


def test_no_chip_no_owner(board, tmp_path):
    from edgecar.core import EdgecarError
    board.set(1)
    owner = Owner(f'pca9685:{board.path}')   # it may answer later
    assert owner.state['causes'] == ['bus']
    board.set(2)
    until(lambda: board.ticks(0) == STOPPED)
    owner.shutdown()
    for spec in (f'pca9685:{tmp_path}/no-bus', 'pca9685:?adress=1', 'pca9685:?steering=0', f'pca9685:{board.path}?forward=300&reverse=300'):
        with pytest.raises(EdgecarError, match='cannot be had'): Owner(spec)


LOOK = '''
import json, sys, threading, time
from edgecar.car.hardware import camera
part = camera(sys.argv[1])
thread = threading.Thread(target=part.update); thread.start()
told, end = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    frame, seen_s, info = part.run_threaded()
    if frame is not None and (not told or told[-1][0] != seen_s):
        told.append([seen_s, time.monotonic() - seen_s, *frame.shape, str(frame.dtype), frame[60, 20].tolist(), frame[10, 80].tolist()])
        print(json.dumps(told[-1]), flush=True)
    time.sleep(.001)
part.shutdown(); thread.join()
'''


def look(kernel, path, gives, seconds=1., **env):
    path.touch()
    return subprocess.Popen([sys.executable, '-c', LOOK, f'v4l2:{path}', str(seconds)], env={**os.environ, 'LD_PRELOAD': str(kernel), 'CAMERA': gives, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(looks):
    out, err = looks.communicate(timeout=30)
    assert looks.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_camera_of_raw_pictures(kernel, tmp_path):
    frames = told(look(kernel, tmp_path/'video0', 'YUYV', 1.5))
    assert len(frames) > 30   # 50 a second are made, of which one in seven is damaged
    assert all(f[2:6] == [120, 160, 3, 'uint8'] and len(set(f[6])) == 1 and f[6] == f[7] for f in frames)   # grey, and nothing of what fills the rows
    numbers, moments = [f[6][0] for f in frames], [f[0] for f in frames]
    assert numbers == sorted(set(numbers)) and moments == sorted(moments)
    assert np.median([f[1] for f in frames]) < .03


def test_a_camera_of_jpegs_in_another_shape(kernel, tmp_path):
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[:] = 40, 80, 200   # blue, green, red
    cv2.imwrite(str(tmp_path/'one.jpg'), picture)
    frames = told(look(kernel, tmp_path/'video0', 'MJPG', CAMERA_JPEG=str(tmp_path/'one.jpg')))
    assert len(frames) > 20 and all(f[2:5] == [120, 160, 3] and np.allclose(f[6], (200, 80, 40), atol=6) for f in frames)
    (tmp_path/'one.jpg').write_bytes((tmp_path/'one.jpg').read_bytes()[:100])
    assert told(look(kernel, tmp_path/'video0', 'MJPG', CAMERA_JPEG=str(tmp_path/'one.jpg'))) == []   # damaged ones are none


def test_a_camera_of_something_else_is_refused(kernel, tmp_path):
    looks = look(kernel, tmp_path/'video0', 'GREY')
    assert 'it gives GREY, neither YUYV nor MJPG' in looks.communicate(timeout=30)[1] and looks.returncode == 1


def test_a_camera_whose_plug_comes_out_is_found_again(kernel, tmp_path):
    looks = look(kernel, tmp_path/'video0', 'YUYV', 5)
    for _ in range(5): first = json.loads(looks.stdout.readline())
    (tmp_path/'video0').unlink()
    gone = time.monotonic()
    until(lambda: time.monotonic() - gone > .6)   # the last picture grows old
    (tmp_path/'video0').touch()
    back = time.monotonic()
    frames = told(looks)
    assert any(f[0] > back for f in frames) and not any(gone + .1 < f[0] < back for f in frames) and first[0] < gone
