"""The twin as a Donkey simulator: a client that speaks as gym-donkeycar does meets every message of the
protocol.

The facts: messages from the client end with nothing, those from the simulator with a newline; the client's
queue keeps only its last message; what it reads it searches for numbers with a comma; fields are strings; a
loaded car is sent its brake first, then its configuration; `reset` brakes, resets, brakes and takes the next
frame.
"""
import base64
import json
import re
import select
import socket
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from edgecar.sim.env import find_track
from edgecar.sim.server import ServerLimits, SimServer, serve_in_thread

SCENES = ['generated_road', 'warehouse', 'sparkfun_avc', 'generated_track', 'mountain_track',
          'roboracingleague_1', 'waveshare', 'mini_monaco', 'warren', 'thunderhill', 'circuit_launch']
COMMA = [re.compile(r'"[a-zA-Z_]+":(?P<num>[0-9,E-]+)' + end, re.M) for end in (',', '}')]


class Gym:
    "An environment on the other side of the line: a thread that reads and writes, and what it learned last."
    def __init__(self, port, level='generated_track', host='127.0.0.1', max_cte=8., lidar_config=None,
                 cam_config=None, cam_config_b=None, car_config=None):
        self.level, self.max_cte = level, max_cte
        self.configs = [c for c in (car_config, cam_config, cam_config_b, lidar_config) if c]
        self.lidar_step = float(lidar_config['degPerSweepInc']) if lidar_config else None
        self.message, self.loaded, self.over = None, False, False
        self.received, self.seen = 0, 0
        self.heard, self.telemetry = [], {}
        self.lap_began = self.last_lap_time = 0.
        self.line_index, self.lap_count, self.dq, self.missed = -1, 0, False, False
        self.socket, self.going = socket.create_connection((host, port)), True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        text = ''
        self.socket.setblocking(False)
        while self.going:
            time.sleep(.001)
            readable, writable, _ = select.select([self.socket], [self.socket], [])
            if readable:
                try:
                    data = self.socket.recv(1 << 18)
                except OSError:
                    return
                if not data:
                    return
                text += data.decode()
                if (last := text.rfind('}\n')) >= 0:
                    for line in text[text.find('{'):last + 1].split('\n'):
                        self.hear(line)
                    text = text[last + 2:]
            if writable and self.message is not None:
                self.socket.sendall(self.message.encode())
                self.message = None

    def hear(self, line):
        for pattern in COMMA:
            for match in pattern.finditer(line):
                line = line.replace(match['num'], match['num'].replace(',', '.'))
        message = json.loads(line)
        kind = message['msg_type']
        if kind != 'telemetry':
            self.heard.append(kind)
        getattr(self, f'on_{kind}', lambda m: None)(message)

    def queue(self, kind, **fields):
        self.message = json.dumps(dict(msg_type=kind, **fields))

    def send(self, kind, **fields):
        self.socket.sendall(json.dumps(dict(msg_type=kind, **fields)).encode())

    def control(self, steering, throttle, brake=0.):
        self.queue('control', steering=str(steering), throttle=str(throttle), brake=str(brake))

    def on_scene_selection_ready(self, m):
        self.queue('get_scene_names')

    def on_scene_names(self, m):
        assert self.level in m['scene_names']
        self.queue('load_scene', scene_name=self.level)

    def on_car_loaded(self, m):
        self.loaded = True
        self.control(0, 0, 1.)
        self.on_need_car_config(m)

    def on_need_car_config(self, m):
        for config in self.configs:
            self.send(**config)
            time.sleep(.01)

    def on_telemetry(self, m):
        self.image = np.asarray(Image.open(BytesIO(base64.b64decode(m['image']))))
        self.image_b = (np.asarray(Image.open(BytesIO(base64.b64decode(m['image_b']))))
                        if 'image_b' in m else None)
        if self.lidar_step and 'lidar' in m:
            self.lidar = np.full(int(360/self.lidar_step), -1.)
            for point in m['lidar']:
                self.lidar[round(abs(point['rx']/self.lidar_step))] = point['d']
        self.telemetry, self.received = m, self.received + 1
        cte = abs(m['cte'])
        self.over = (self.over or self.max_cte < cte <= 2*self.max_cte or m['hit'] != 'none'
                     or self.missed or self.dq)

    def on_collision_with_starting_line(self, m):
        if self.lap_began == 0:
            self.line_index = m['starting_line_index']
        elif self.line_index == m['starting_line_index']:
            self.last_lap_time, self.lap_count = m['timeStamp'] - self.lap_began, self.lap_count + 1
        self.lap_began = m['timeStamp']

    def on_DQ(self, m):   # noqa: N802 - named after the message, as gym-donkeycar does
        self.dq = True

    def on_missed_checkpoint(self, m):
        self.missed = True

    def observe(self):
        wait(lambda: self.received != self.seen, self)
        self.seen = self.received
        return self.image, self.telemetry

    def step(self, steering, throttle):
        self.control(steering, throttle)
        return self.observe()

    def reset(self):
        wait(lambda: self.loaded, self)
        self.control(0, 0, 1.)
        time.sleep(.02)
        self.queue('reset_car')
        time.sleep(.1)   # the original sleeps a second
        self.seen, self.over, self.lap_began, self.lap_count = self.received, False, 0., 0
        self.control(0, 0, 1.)
        return self.observe()

    def close(self):
        self.going = False
        self.thread.join()
        self.socket.close()


def wait(true, gym=None, seconds=30):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f'nothing came; heard {gym and gym.heard}'
        time.sleep(.0005)


@pytest.fixture(scope='module')
def paced():
    with serve_in_thread(SimServer(port=0, paced=True)) as server:
        yield server


@pytest.fixture
def connect():
    made = []
    yield lambda *args, **kw: made.append(Gym(*args, **kw)) or made[-1]
    for gym in made:
        gym.close()


def hand(telemetry, track):
    "Steering that holds the middle of the road, from what the client knows."
    here, yaw = np.array([telemetry['pos_x'], telemetry['pos_z']]), np.deg2rad(90 - telemetry['yaw'])
    tx, ty = track.tangent[np.argmin(((track.xy - here)**2).sum(1))]
    return float(np.clip(2*np.sin(yaw - np.arctan2(ty, tx)) - 2*telemetry['cte']/8, -1, 1))


@pytest.mark.parametrize('level', SCENES)
def test_every_environment_loads_drives_and_resets(paced, connect, level):
    gym = connect(paced.port, level)
    image, telemetry = gym.reset()
    assert gym.heard[:4] == ['scene_selection_ready', 'scene_names', 'scene_loaded', 'car_loaded']
    assert ((image.shape, image.dtype) == ((120, 160, 3), np.uint8) and abs(telemetry['speed']) < .01
            and abs(telemetry['cte']) < .2)
    for _ in range(20):
        image, telemetry = gym.step(0., .5)
    assert telemetry['speed'] > .5 and not gym.over
    assert telemetry['vel_z'] == pytest.approx(telemetry['speed'], rel=.05)
    start = gym.reset()[1]
    assert (start['speed'] < .01
            and abs(start['pos_x'] - telemetry['pos_x']) + abs(start['pos_z'] - telemetry['pos_z']) > .2)


def test_telemetry_has_every_field_as_a_number(paced, connect):
    gym = connect(paced.port)
    telemetry = gym.reset()[1]
    numbers = ['steering_angle', 'throttle', 'speed', 'time', 'cte', 'activeNode', 'totalNodes', 'pitch',
               'yaw', 'roll', 'gyro_w'] + [f'{k}_{a}' for k in ('pos', 'vel', 'accel', 'gyro') for a in 'xyz']
    assert all(isinstance(telemetry[k], (int, float)) for k in numbers) and telemetry['hit'] == 'none'
    assert set(telemetry) == {*numbers, 'msg_type', 'image', 'hit'}


def test_the_default_limit_of_the_cross_track_error_ends_an_episode_a_metre_off(paced, connect):
    gym = connect(paced.port, 'waveshare')
    gym.reset()
    while not gym.over:
        telemetry = gym.step(1., .5)[1]
    track = find_track('oval')
    off = abs(track.locate([[telemetry['pos_x'], telemetry['pos_z']]])[1][0])
    assert 1. < off < 1.3 and abs(telemetry['cte']) == pytest.approx(8*off, abs=1e-6)
    gym.reset()
    for _ in range(5):
        gym.step(0., .3)
    assert not gym.over


def test_laps_are_counted(paced, connect):
    gym, track = connect(paced.port, 'oval'), find_track('oval')
    telemetry = gym.reset()[1]
    while gym.lap_count < 2 and not gym.over:
        telemetry = gym.step(hand(telemetry, track), .5)[1]
    assert gym.lap_count == 2 and 3 < gym.last_lap_time < 30 and gym.heard.count('cross_start') == 2


@pytest.mark.parametrize('encoding', ['JPG', 'PNG', 'TGA'])
def test_images_come_in_the_size_and_encoding_asked_for(paced, connect, encoding):
    fields = dict.fromkeys(['fov', 'fish_eye_x', 'fish_eye_y', 'offset_x', 'offset_y', 'offset_z', 'rot_x',
                            'rot_y', 'rot_z'], '0')
    first = dict(fields, kind='cam_config', img_w='255', img_h='130', img_d='1', img_enc=encoding)
    second = dict(fields, kind='cam_config_b', img_w='64', img_h='48', img_d='3', img_enc=encoding, fov='120',
                  offset_y='3.0', rot_x='15')
    gym = connect(paced.port, cam_config=first, cam_config_b=second)
    time.sleep(.05)
    image, telemetry = gym.reset()
    assert image.shape == (130, 255, 3) and gym.image_b.shape == (48, 64, 3)
    assert (np.ptp(image.astype(int), axis=-1) <= (0 if encoding != 'JPG' else 2)).all()
    assert np.ptp(gym.image_b.astype(int), axis=-1).max() > 20
    begins = {'JPG': b'\xff\xd8', 'PNG': b'\x89P', 'TGA': b'\0\0'}
    assert base64.b64decode(telemetry['image'])[:2] == begins[encoding]


def test_lidar_answers_when_asked(paced, connect):
    gym = connect(paced.port, 'club', lidar_config=dict(
        kind='lidar_config', degPerSweepInc='2.0', degAngDown='0.0', degAngDelta='-1.0', numSweepsLevels='1',
        maxRange='50.0', noise='0.4', offset_x='0.0', offset_y='0.5', offset_z='0.5', rot_x='0.0'))
    time.sleep(.05)
    gym.reset()
    assert gym.lidar.shape == (180,) and (gym.lidar > 0).any() and gym.lidar.max() <= 50


def test_places_and_nodes_agree(paced, connect):
    gym, answers = connect(paced.port, 'oval'), []
    gym.on_node_position = answers.append
    gym.reset()
    gym.send('node_position', index='100')
    wait(lambda: answers, gym)
    place = 'pos_x', 'pos_y', 'pos_z', 'Qx', 'Qy', 'Qz', 'Qw'
    gym.send('set_position', **{k: str(answers[0][k]) for k in place})
    wait(lambda: abs(gym.telemetry['activeNode'] - 100) <= 1, gym)
    assert gym.telemetry['pos_x'] == pytest.approx(answers[0]['pos_x']/8, abs=1e-6)
    assert abs(gym.telemetry['cte']) < .01


def test_the_menu_and_the_rest(paced, connect):
    gym, version = connect(paced.port), []
    gym.on_protocol_version = version.append
    gym.reset()
    gym.send('get_protocol_version')
    wait(lambda: version, gym)
    assert version[0]['version'] == '2'
    gym.send('racer_info', racer_name='a', car_name='b', bio='c', country='d', guid='e')   # passed over
    gym.loaded = False
    gym.send('exit_scene')
    gym.reset()   # by way of the menu
    assert gym.heard.count('scene_selection_ready') == gym.heard.count('car_loaded') == 2


def test_the_same_commands_give_the_same_frames(paced, connect):
    def drive():
        gym = connect(paced.port, 'warren')
        wait(lambda: gym.received >= 2, gym)   # the first frame, and the brake's
        gym.seen = gym.received
        frames = [gym.step(.3*np.sin(i), .4)[0] for i in range(40)]
        gym.close()
        wait(lambda: 'warren' not in paced.scenes, gym)
        return frames
    assert np.array_equal(drive(), drive())


def test_two_cars_share_a_scene_see_and_touch_each_other(connect):
    with serve_in_thread(SimServer(port=0, scene='club')) as server:
        first = dict(kind='car_config', body_style='donkey', body_r='255', body_g='0', body_b='0',
                     car_name='first', font_size='50')
        front = connect(server.port, 'club', car_config=first)
        wait(lambda: server.scenes and front.loaded, front)
        second = dict(kind='car_config', body_style='donkey', body_r='0', body_g='255', body_b='0',
                      car_name='second', font_size='50')
        back = connect(server.port, 'club', car_config=second)
        wait(lambda: back.received > 3, back)
        red = (back.image[..., 0].astype(int) - back.image[..., 1] > 60).sum()
        assert red > 100
        hits = []
        back.on_telemetry = lambda m: (hits.append(m['hit']), Gym.on_telemetry(back, m))
        until = time.monotonic() + 30
        while 'first' not in hits and time.monotonic() < until:
            back.control(-.3, .4)
            time.sleep(.02)
        assert 'first' in hits


def test_a_race(connect):
    with serve_in_thread(SimServer(port=0, paced=True, scene='oval', laps=1)) as server:
        gym, track = connect(server.port, max_cte=80.), find_track('oval')
        telemetry = gym.reset()[1]
        assert {'need_car_config', 'race_start'} <= set(gym.heard)
        while 'race_stop' not in gym.heard and not gym.over:
            telemetry = gym.step(hand(telemetry, track), .5)[1]
        assert not gym.over and gym.lap_count == 1
        while not gym.over:
            gym.step(1., 1.)
        assert 'DQ' in gym.heard


def test_the_client_may_choose_its_clock(connect):
    with serve_in_thread(SimServer(port=0)) as server:
        gym = connect(server.port)
        gym.reset()
        gym.send('step_mode', step_mode='synchronous', time_step='0.1')
        wait(lambda: all(s.paced for s in server.scenes.values()), gym)
        gym.seen = gym.received
        times = [gym.step(0., 0.)[1]['time'] for _ in range(5)]
        assert np.diff(times) == pytest.approx(.1)


def test_pings_come_and_quit_ends_it(connect):
    with serve_in_thread(SimServer(port=0, limits=ServerLimits(ping_s=.2))) as server:
        gym = connect(server.port)
        wait(lambda: 'ping' in gym.heard, gym)
        gym.send('quit_app')
        wait(lambda: server.stopped.is_set(), gym)
