"""A server among clients that mean harm, or are broken: it goes on, forgets them,
and no car drives on without its driver."""
import ctypes
import gc
import contextlib
import json
import os
import random
import socket
import struct
import time

import pytest

import edgecar.sim.server
from edgecar.sim.client import Simulator
from edgecar.sim.protocol import HALT, ControlMessage, pack_message
from edgecar.sim.server import HANDLERS, ServerLimits, SimServer, serve_in_thread

FIELDS = ['steering', 'throttle', 'brake', 'scene_name', 'body_style', 'body_r', 'car_name', 'img_w', 'img_h',
          'img_enc', 'fov', 'offset_y', 'degPerSweepInc', 'numSweepsLevels', 'maxRange', 'pos_x', 'pos_z',
          'Qx', 'Qw', 'index', 'private_key', 'step_mode', 'time_step', 'msg_type']
VALUES = [None, True, [], {}, [[]], '', 'nan', '-inf', '1e999', '1e-320', '0x10', '٣', '1,5', '\ud800', '\0',
          'a'*3000, '"}{"', -1, 0, 1, 2**70, 1e308, -1e308, .5, 'generated_track', '../../x',
          'seed:99999999', '{}']
KINDS = [*HANDLERS.keys() - {'quit_app'}, 'telemetry', 'car_loaded', 'aborted', '', '__class__', 'drop table']
BROKEN = [
    b'{"msg_type": "control", "steering": NaN}',
    b'{"msg_type": "control", "throttle": Infinity, "steering": 1}',
    b'{"msg_type": "\xff\xfe"}',
    b'{"msg_type": "control",}',
    b'{}',
    b'{"a": ' + b'['*4000 + b'}',
    b'{"msg_type": ' + b'9'*5000 + b'}',
    b'{' + b'"a":{'*1500 + b'}'*1501,
    b"{'msg_type': 'control'}",
    b'{"msg_type": "control" "steering"}',
    b'{"\\u0000": 1}',
]


def message(g):
    "One message that nobody should send."
    if g.random() < .2:
        return g.choice(BROKEN)
    fields = {g.choice(FIELDS): g.choice(VALUES) for _ in range(g.randrange(6))}
    return json.dumps({
        **fields, 'msg_type': g.choice(KINDS) if g.random() < .9 else g.choice(VALUES)}).encode()


def connect(port):
    line = socket.create_connection(('127.0.0.1', port), timeout=20)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))   # closing is a reset
    return line


def wait(true, seconds=20):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, 'too long'
        time.sleep(.005)


def closed(line):
    "Read until the server has had enough."
    with contextlib.suppress(ConnectionError):
        while line.recv(1 << 16):
            pass
    return True


def memory():
    "MB that are in use: garbage, and what the allocator only keeps for later, are given back first."
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(open('/proc/self/statm').read().split()[1])*os.sysconf('SC_PAGESIZE')/1e6


@pytest.mark.parametrize('many', [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_messages(many, monkeypatch, caplog):
    g, heard, handle = random.Random(0), [0], edgecar.sim.server.handle_client_message
    def counted(client, raw):
        heard[0] += 1
        handle(client, raw)
    monkeypatch.setattr(edgecar.sim.server, 'handle_client_message', counted)
    limits = ServerLimits(wrong=10**9, rate_hz=10**6)   # so that each of them is heard
    with (serve_in_thread(SimServer(port=0, limits=limits)) as server,
          Simulator(port=server.port, watchdog_s=None) as honest):
        began, frames, rounds, files = time.monotonic(), 0, 0, None
        while heard[0] < many:
            line = connect(server.port)
            line.sendall(pack_message('load_scene', scene_name=g.choice(['generated_track', 'oval'])))
            blob = b''.join(message(g) for _ in range(1000))
            blob += g.choice([b'', b'{"msg_type": "contr', b'{"a": "' + b'x'*20000, b'GET / HTTP/1.1\r\n\r\n',
                              b'}', b'\x00\x01\x02'])
            while blob:
                n = g.choice([1, 7, 100, 5000, 50000])
                with contextlib.suppress(ConnectionError, TimeoutError):
                    line.sendall(blob[:n])
                blob = blob[n:]
                line.setblocking(False)
                with contextlib.suppress(OSError):
                    while line.recv(1 << 20):
                        pass
                line.settimeout(20)
            line.close()
            frame, info = honest.step(0., 0.)
            frames, rounds = frames + (frame.shape == (120, 160, 3)), rounds + 1
            if rounds == max(many//5000, 1):
                grown, files = memory(), len(os.listdir('/proc/self/fd'))
        wait(lambda: len(server.clients) == 1)
        assert [*server.scenes] == ['generated_track'] and len(server.scenes['generated_track'].slots) == 1
        assert frames == rounds > many//5000 and not server.tasks[0].done() and not server.tasks[1].done()
        assert memory() - grown < 40 and len(os.listdir('/proc/self/fd')) - files <= 3
        assert not [r for r in caplog.records if r.levelname == 'ERROR']
        assert honest.step(0., .5)[1]['time'] > .5*(time.monotonic() - began) > 0


@pytest.mark.parametrize('words', [b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', b'\x16\x03\x01\x02\x00',
                                   b'{"a": "' + b'x'*20000, b'}', b'[1, 2]', b'{} ' * 60],
                         ids=['http', 'tls', 'endless', 'brace', 'list', 'nothing'])
def test_what_is_no_protocol_is_told_goodbye_at_once(words):
    with serve_in_thread(SimServer(port=0)) as server:
        line = connect(server.port)
        line.sendall(words)
        assert closed(line)
        wait(lambda: not server.clients)


def test_a_message_without_end_a_reader_that_does_not_read_and_silence_time_out():
    with serve_in_thread(SimServer(port=0, rate_hz=100,
                                   limits=ServerLimits(partial_s=.3, idle_s=.6,
                                                       unread_bytes=1 << 14))) as server:
        slow, deaf, mute = (connect(server.port) for _ in range(3))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(pack_message('load_scene', scene_name='oval')
                     + pack_message('cam_config', img_w=512, img_h=512, img_enc='TGA'))
        began = time.monotonic()
        slow.sendall(b'{"msg_type": ')
        assert closed(slow) and time.monotonic() - began < 3
        assert closed(mute) and time.monotonic() - began < 4
        wait(lambda: not server.clients)
        assert not server.scenes


def test_a_flood_is_slowed_to_its_rate_and_others_drive_on():
    with (serve_in_thread(SimServer(port=0, limits=ServerLimits(rate_hz=200))) as server,
          Simulator(port=server.port, scene='oval') as honest):
        flood = connect(server.port)
        flood.sendall(pack_message('load_scene', scene_name='club')
                      + pack_message('control', steering=0, throttle=0)*3000)
        before = honest.step(0., 0.)[1]['time']
        for _ in range(20):
            info = honest.step(0., 0.)[1]
        assert info['time'] - before >= .9
        [waiting] = [len(c.waiting) for c in server.clients if c.waiting]
        assert waiting > 2000
        flood.close()
        wait(lambda: [*server.scenes] == ['oval'])


def test_no_throttle_outlives_its_driver():
    with serve_in_thread(SimServer(port=0, limits=ServerLimits(stale_s=.3))) as server:
        line = connect(server.port)
        line.sendall(pack_message('load_scene', scene_name='oval')
                     + pack_message('control', steering=0, throttle=1))
        wait(lambda: server.scenes and server.scenes['oval'].slots)   # a scene is there before its first car
        [slot] = server.scenes['oval'].slots
        wait(lambda: slot.control == ControlMessage(0, 1))
        wait(lambda: slot.control == HALT)                     # the line is open, and silent
        wait(lambda: slot.car.course.time > .5 and abs(slot.car.state[3]) < .01)
        line.sendall(pack_message('control', steering=0, throttle=1) + b'{"msg_type": "contr')
        wait(lambda: slot.control.throttle == 1)
        line.close()                                           # in the middle of a message
        wait(lambda: not server.scenes and not server.clients)
        place = list(slot.car.state)
        time.sleep(.1)
        assert slot.car.state == place


def test_a_paced_scene_does_not_wait_for_ever():
    with serve_in_thread(SimServer(port=0, paced=True, scene='oval',
                                   limits=ServerLimits(patience_s=.4))) as server:
        silent = connect(server.port)
        wait(lambda: server.scenes)
        with Simulator(port=server.port, watchdog_s=None) as car:
            for _ in range(5):
                info = car.step(0., .2)[1]
        assert info['time'] == pytest.approx(.25)
        silent.close()


def test_a_token_is_asked_for_before_anything_else():
    with serve_in_thread(SimServer(port=0, token='a long secret',
                                   limits=ServerLimits(partial_s=.3, wrong=5))) as server:
        stranger, guesser = connect(server.port), connect(server.port)
        stranger.sendall(pack_message('load_scene', scene_name='oval'))
        guesser.sendall(pack_message('verify', private_key='a long secreT')*9)
        assert closed(stranger) and closed(guesser) and not server.scenes
        with Simulator(port=server.port, token='a long secret') as car:
            assert car.step(0., 0.)[1]['hit'] == 'none'
