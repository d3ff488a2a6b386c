"""What is recorded while it drives: on a disk that is full, in processes that are killed,
and brought to a DVC remote."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support.recording import children, outputs, sound
from support.waiting import wait

from edgecar.car.upload import is_uploaded
from edgecar.data.check import find_faults
from edgecar.contracts.digest import folder_md5
from edgecar.data.public import pinned_md5
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Tub, find_tubs

DRIVE = '''
import json, logging, resource, sys
from edgecar.car.drive import Profile, compose, run_vehicle
most, remote, wheels, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
vehicle = compose(Profile(actuator='mock:' + wheels, mode='local', arm=True, page=dict(port=0), \
record=dict(folder=folder, reserve_mb=0, frames=20 if not most else 5000), remote=remote))
vehicle.inference.take(lambda frame: (.1, .5))
vehicle.page.wheel.asked['recording'] = True
if most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))   \
# the owner of the actuator runs already, and has no such limit
run_vehicle(vehicle, lambda text: print(vehicle.page.port, flush=True))
'''


class Drive:
    "A mock that records."
    def __init__(self, folder, most=0, remote=''):
        self.tubs, self.wheels = folder/'tubs', folder/'wheels.log'
        self.process = subprocess.Popen(
            [sys.executable, '-c', DRIVE, str(most), str(remote), self.wheels, self.tubs],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, path):
        return urllib.request.urlopen(f'http://127.0.0.1:{self.port}/{path}', timeout=10).read().decode()

    def number(self, name):
        "A sample of the metrics; nan before the first turn."
        match = re.search(rf'^edgecar_{name} (\S+)$', self.ask('metrics'), re.M)
        return float(match[1] if match else 'nan')

    def children(self, room):
        return children(self.process.pid, room)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_a_full_disk_stops_the_recording_and_not_the_driving(tmp_path):
    # which a picture of noise has not, and a catalog after some records
    with Drive(tmp_path, most=25_000) as car:
        wait(lambda: car.number('recording_failed') == 1, 100)
        wait(lambda: car.number('recording') == 0)
        first = len(outputs(car.wheels))
        wait(lambda: len(outputs(car.wheels)) > first + 60, 60)
        assert ({out[1:] for out in outputs(car.wheels)[first:]} == {(.1, .5)}
                and car.ask('healthz') == car.ask('readyz') == 'ok\n')
        car.process.send_signal(signal.SIGTERM)
        car.process.wait(20)
    assert 0 < sound(car.tubs) < 200


def test_what_a_killed_drive_has_recorded_is_there(tmp_path):
    with Drive(tmp_path) as car:
        wait(lambda: car.number('recorded_records') > 30, 60)
        recorded, recorder = car.number('recorded_records'), car.children('record')
        assert len(recorder) == 1
        car.process.kill()
        wait(lambda: not Path(f'/proc/{recorder[0]}').exists())   # nobody asks any more
    assert sound(car.tubs) >= recorded
    assert [f for t in find_tubs(car.tubs) for f in find_faults(t)] == []   # and it has finished its tub


@pytest.mark.parametrize('kills', [3, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timed])])
def test_a_killed_recorder_and_a_killed_uploader_are_replaced_and_the_car_drives_on(tmp_path, kills):
    chance, remote = random.Random(0), tmp_path/'remote'
    remote.mkdir()
    with Drive(tmp_path, remote=remote) as car:
        for n in range(kills):
            room = ['record', 'upload'][n % 2]
            wait(lambda: car.children(room), 40)
            time.sleep(chance.uniform(0, .1))
            for pid in car.children(room):
                os.kill(pid, signal.SIGKILL)
        before = car.number('recorded_records')
        wait(lambda: car.number('recorded_records') > before + 40, 40)
        wait(lambda: any(map(is_uploaded, find_tubs(car.tubs))), 60)
        driven = outputs(car.wheels)
        began = next(i for i, out in enumerate(driven) if out[1:] == (.1, .5))
        assert len(driven) - began > 60 and {out[1:] for out in driven[began + 1:]} <= {(.1, .5), (0., 0.)}
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    sound(car.tubs)
    for p in remote.rglob('*'):
        if p.is_file() and not p.name.startswith('.'):
            assert hashlib.md5(p.read_bytes()).hexdigest() == (p.parent.name + p.name).removesuffix('.dir')


def dvc(folder, *words):
    done = subprocess.run([sys.executable, '-m', 'dvc', *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def same(a, b):
    return ({p.relative_to(a): p.read_bytes() for p in a.rglob('*') if p.is_file()}
            == {p.relative_to(b): p.read_bytes() for p in b.rglob('*') if p.is_file()})


@pytest.mark.slow
def test_dvc_pulls_what_was_uploaded_by_a_process_that_was_killed_again_and_again(tmp_path):
    tub, remote, chance, kills = (
        synthetic_tub(tmp_path/'car/tub_1_26-11-25', 300), tmp_path/'remote', random.Random(0), 0)
    remote.mkdir()
    while not is_uploaded(tub):
        process = subprocess.Popen(
            [sys.executable, '-c', 'from edgecar.cli import app; app()', 'tub', 'upload', str(tmp_path/'car'),
             '--to', str(remote)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kills < 5:
            before = sum(1 for _ in remote.rglob('*'))
            wait(lambda: process.poll() is not None
                 or sum(1 for _ in remote.rglob('*')) > before + 15*chance.random())
            kills += process.poll() is None
            process.kill()
        process.wait()
    assert kills == 5
    home = tmp_path/'home'
    home.mkdir()
    shutil.copy(tmp_path/'car/tub_1_26-11-25.dvc', home)
    dvc(home, 'init', '--no-scm', '-q')
    dvc(home, 'remote', 'add', '-d', 'cars', str(remote))
    dvc(home, 'pull', '-q')
    assert same(tub, home/tub.name) and pinned_md5(tub) == folder_md5(tub) and len(Tub(home/tub.name)) == 300


def test_every_event_is_a_line_of_json(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', 'from edgecar.cli import app; app()', 'drive', '--profile', 'mock',
         '--mode', 'user', '--arm', '--page-port', '0', '--tubs', tmp_path/'tubs', '--log', 'json',
         '--turns', '40'], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode == 0 and any(e.get('cause') == 'link' and e['level'] == 'warning' for e in events)
            and all({'time', 'level', 'room', 'event'} <= e.keys() for e in events))
