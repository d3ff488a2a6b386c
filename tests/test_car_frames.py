"Cameras of another size than the pilot's: it gets what it wants, what is done is said, nothing is slowed."
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.kernel import LOOK
from support.twin import SERVE

from edgecar.car import drive
from edgecar.car.drive import Profile, ReplayCamera, TwinCamera, compose
from edgecar.data.frames import fit_frame
from edgecar.data.tub import Tub, find_tubs

SIZES = {   # of the camera -> what is done for a pilot of 120x160
    (224, 224): '224x224 cropped to 168x224, resized to 120x160',
    (720, 1280): '720x1280 cropped to 720x960, resized to 120x160',
    (96, 160): '96x160 cropped to 96x128, resized to 120x160',
    (120, 160): '',
}


class SizedTwin(TwinCamera):
    "The twin's camera, asked for pictures of another size."
    def __init__(self, *args, size):
        self.asked, self.given = size, {}
        super().__init__(*args)

    def _connect(self):
        height, width = self.asked
        self.sim.config['cam_config'] = dict(img_w=width, img_h=height)
        super()._connect()


class SizedNoise(ReplayCamera):
    "Pictures of noise, of another size."
    def __init__(self, size):
        super().__init__()
        self.frames = np.random.default_rng(1).integers(0, 256, (8, *size, 3), np.uint8)


class Seeing:
    "A pilot that keeps what it is given."
    size = 120, 160

    def __init__(self):
        self.seen = []

    def __call__(self, frame):
        self.seen.append(frame)
        return .1, .2


def armed(folder):
    "A profile that drives by its pilot, and records below a folder."
    return Profile(mode='local', arm=True, page=dict(port=0),
                   record=dict(folder=f'{folder}/tubs', reserve_mb=0))


def driven(camera, profile, monkeypatch, caplog, turns):
    "Drive with a camera and a pilot that looks: its frames, the last status, and what was logged of frames."
    monkeypatch.setattr(drive, 'open_camera', lambda p, owner, size: camera(owner))
    with caplog.at_level(logging.INFO, 'edgecar'):
        vehicle = compose(profile)
        vehicle.inference.take(pilot := Seeing())
        vehicle.page.wheel.asked['recording'] = True
        vehicle.start(rate_hz=drive.NO_SLEEP_HZ, max_loop_count=turns)
    logged = [text for r in caplog.records if 'frames' in (text := r.getMessage())]
    return pilot.seen, vehicle.mem['status'], logged


@pytest.mark.parametrize('size', SIZES, ids=lambda s: f'{s[1]}x{s[0]}')
def test_any_camera_drives_any_pilot(size, tmp_path, monkeypatch, caplog):
    profile = replace(armed(tmp_path), actuator=f'mock:{tmp_path/"wheels"}')
    noise = SizedNoise(size)
    seen, status, logged = driven(lambda owner: noise, profile, monkeypatch, caplog, 120)
    wanted = {fit_frame(frame, (120, 160)).tobytes() for frame in noise.frames}
    assert len(seen) > 20 and {frame.tobytes() for frame in seen} <= wanted
    assert status['frame_fit'] == SIZES[size]
    assert logged == [f'frames for the pilot: {SIZES[size] or "as they are"}']
    assert status['loop_p50_ms'] < 8, 'it is done beside the loop'
    assert ' 0.1000 0.2000' in (tmp_path/'wheels').read_text()
    tub, = find_tubs(f'{tmp_path}/tubs')
    picture = tub/'images'/Tub(tub).records()[0]['cam/image_array']
    assert cv2.imread(str(picture)).shape[:2] == size, 'recorded as the camera gave it'


@pytest.mark.parametrize('size', [(224, 224), (96, 160)], ids=['224x224', '160x96'])   # 512 is its largest
def test_the_twin_with_another_camera(size, tmp_path, monkeypatch, caplog):
    with subprocess.Popen([sys.executable, '-c', SERVE], stdout=subprocess.PIPE, text=True) as simulator:
        try:
            port = int(simulator.stdout.readline())
            def camera(owner):
                return SizedTwin(owner, '127.0.0.1', port, 'donkey', size=size)
            profile = replace(armed(tmp_path), camera='twin', actuator='twin', port=port)
            seen, status, _ = driven(camera, profile, monkeypatch, caplog, 180)
        finally:
            simulator.kill()
    assert status['frame_fit'] == SIZES[size]
    assert len(seen) > 10 and {f.shape for f in seen} == {(120, 160, 3)}
    assert seen[-1].mean() > 8, 'it is a picture'


def test_a_camera_that_gives_another_size_than_asked_says_what_is_done(kernel, tmp_path):   # noqa: F811
    cv2.imwrite(str(tmp_path/'one.jpg'), np.full((720, 1280, 3), 90, np.uint8))
    (tmp_path/'video0').touch()
    code = 'import logging; logging.basicConfig(level=logging.INFO)' + LOOK
    env = {**os.environ, 'LD_PRELOAD': str(kernel), 'CAMERA': 'MJPG', 'CAMERA_JPEG': str(tmp_path/'one.jpg')}
    command = [sys.executable, '-c', code, f'v4l2:{tmp_path}/video0', '1']
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert frames and all(f[2:5] == [120, 160, 3] for f in frames), done.stderr
    assert done.stderr.count('camera: frames of 720x1280 cropped to 720x960, resized to 120x160') == 1


def test_fitting_takes_no_time_that_the_loop_has_not():
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        fit_frame(frame, (120, 160))
        took.append(time.perf_counter() - began)
    assert np.median(took) < .01   # s, of the 50 ms between two frames
