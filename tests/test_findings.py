"""What a reviewer broke, each by its number in the review: how it was broken, and that it is mended."""
import io
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
from PIL import Image

from edgecar.car.drive import ButtonHandler, Profile, TwinCamera, compose, supervised
from edgecar.car.guard import StopRequests
from edgecar.car.owner import ActuatorProcess
from edgecar.core import EdgecarError
from edgecar.data.fields import InvalidRecordError
from edgecar.data.picture import decode_image
from edgecar.sim.client import Simulator
from edgecar.sim.server import ServerLimits, SimServer, serve_in_thread


class Owner:
    "The actuator's process, as far as buttons are concerned."
    def __init__(self):
        self.said = []

    def send(self, do, **words):
        self.said.append(do)


@pytest.mark.parametrize('profile', ['twin', 'mock', 'anything'])
def test_finding_4_safety_belongs_to_the_actuator(profile):
    "A car is driven with somebody there, by a released pilot, at half throttle, whatever its camera is."
    p = Profile('twin' if profile == 'twin' else 'mock', 'pca9685:/dev/i2c-9', limit=1.)
    assert (p.needs_driver, p.needs_release, p.first_limit) == (True, True, .5)
    every = Profile(p.camera, p.actuator, limit=1., allow='unattended,unreleased,fast')
    assert (every.needs_driver, every.needs_release, every.first_limit) == (False, False, 1.)


def test_finding_4_reaches_the_parts():
    "The parts that decide get what the actuator asks for: here a twin's, whose profile asks for it."
    vehicle = compose(Profile(actuator='mock:', attended=True, limit=.7))
    try:
        parts = {type(entry['part']).__name__: entry['part'] for entry in vehicle.parts}
        assert parts['DriverHeartbeat'].attended and parts['ButtonHandler'].limit == .7
    finally:
        vehicle.stop()


@pytest.mark.parametrize('source', ['keyboard', 'gamepad', 'signal', 'page'])
def test_finding_7_a_stop_is_not_undone_in_its_turn_nor_soon_after(source):
    owner, stops, now = Owner(), StopRequests(), [0.]
    panel = ButtonHandler(owner, None, stops, clock=lambda: now[0])
    if source != 'page':
        stops.push(source)
    panel.run(dict(release=True, arm=True, estop=source == 'page'))
    now[0] = .3
    panel.run(dict(release=True, arm=True))
    assert owner.said == ['stop']
    now[0] = .6
    panel.run(dict(release=True, arm=True))
    assert owner.said == ['stop', 'release', 'arm']


@pytest.mark.parametrize('typed', [b'\n', b'\xff\n', b'\x00', b''])
def test_finding_8_whatever_a_terminal_sends_is_a_stop_and_so_is_its_end(typed):
    "A byte that is no UTF-8 ended the thread that listens, without a word."
    stops, gone = StopRequests(), []
    end, terminal = os.pipe()
    listening = threading.Thread(target=stops.listen, args=(end, lambda *words: gone.append(words)))
    listening.start()
    if typed:
        os.write(terminal, typed)
        until = time.monotonic() + 20
        while not (said := stops.run()) and time.monotonic() < until:
            time.sleep(.005)
        assert said == ('keyboard',) and listening.is_alive()
    os.close(terminal)
    listening.join(20)
    os.close(end)
    assert stops.run() == ('keyboard',) and gone[0][0] == 'keyboard'


@pytest.mark.parametrize('module', ['select', 'json', 'signal'])
def test_finding_12_no_code_runs_from_the_working_directory(tmp_path, monkeypatch, module):
    ran = tmp_path/'ran'
    (tmp_path/f'{module}.py').write_text(f'open({str(ran)!r}, "w").close()\n')
    monkeypatch.chdir(tmp_path)
    owner = ActuatorProcess(f'mock:{tmp_path/"wheels"}')
    try:
        owner.run(0., 0.)
        assert owner.alive and not ran.exists()
    finally:
        owner.shutdown()


def test_finding_13_an_odd_message_does_not_end_a_camera():
    "A message without a time, or with a list as its picture, raises what nobody catches."
    camera, noted = TwinCamera.__new__(TwinCamera), []
    camera.over, camera.seen = False, None

    class Line:
        line = True

    camera.sim, odd = Line(), [KeyError('timeStamp'), TypeError('a list'), RecursionError()]

    def read():
        if odd:
            raise odd.pop(0)
        camera.seen, camera.over = 'a frame', True

    camera._read = read
    supervised(camera, lambda *words: noted.append(words), 0).update()
    assert camera.seen == 'a frame' and [cause for cause, _ in noted] == ['part']*3


def claiming(height, width):
    "Return a JPEG of a few hundred bytes whose header claims another size."
    Image.new('RGB', (16, 8)).save(out := io.BytesIO(), 'JPEG')
    size = (8).to_bytes(2, 'big') + (16).to_bytes(2, 'big')
    assert out.getvalue().count(size) == 1
    return out.getvalue().replace(size, height.to_bytes(2, 'big') + width.to_bytes(2, 'big'))


def test_finding_14_a_picture_is_as_large_as_its_header_says_before_it_is_decoded(tmp_path):
    (tmp_path/'small.jpg').write_bytes(claiming(17_000, 17_000))
    script = ('import resource, sys; from edgecar.data.picture import decode_image\n'
              'data = open(sys.argv[1], "rb").read()\n'
              'was = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
              'try: decode_image(data)\n'
              'except ValueError as e: print(e)\n'
              'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - was)')
    command = [sys.executable, '-c', script, tmp_path/'small.jpg']
    done = subprocess.run(command, capture_output=True, text=True)
    why, kb = done.stdout.splitlines()
    assert 'image too large' in why and int(kb) < 50_000, done.stdout + done.stderr


@pytest.mark.parametrize('hidden', [b'\xff\xc0\x00\x11\x08\x00\x08\x00\x10\x03', b''])
def test_finding_14_a_header_in_a_comment_hides_no_other(hidden):
    "The size is the frame's own, not that of the first bytes which look like one."
    data = claiming(20_000, 20_000)
    comment = b'\xff\xfe' + (len(hidden) + 2).to_bytes(2, 'big') + hidden
    with pytest.raises(InvalidRecordError, match='image too large'):
        decode_image(data[:2] + comment + data[2:])


def test_finding_15_silent_strangers_keep_nobody_out():
    "They filled all seats of a simulator before one of them had to show its token."
    limits = ServerLimits(strangers=4, clients=2, partial_s=60.)
    with serve_in_thread(SimServer(port=0, token='a long secret', limits=limits)) as server, ExitStack() as open_:
        def connect():
            return open_.enter_context(socket.create_connection(('127.0.0.1', server.port)))

        strangers = [connect() for _ in range(12)]
        for _ in range(2):
            open_.enter_context(Simulator(port=server.port, token='a long secret'))
        with pytest.raises(EdgecarError):   # the third of two
            open_.enter_context(Simulator(port=server.port, token='a long secret', patience_s=3.))
        assert sum(not client.verified for client in [*server.clients]) <= 4
        strangers[0].settimeout(20)
        assert strangers[0].recv(10) == b''   # the oldest was sent away
