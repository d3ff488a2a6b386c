"""Who did what with a car, through its real page: each event with its source and its address, no token in it,
and a log that shows what was done to it."""
import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import websocket
from support.waiting import wait

from edgecar.car.audit import CURRENT, audit_events, audit_files, check_audit

TOKEN = 'a-token-of-a-test'
DRIVE = f'''
import sys
from edgecar.car.drive import Profile, compose, run_vehicle
audit, wheels = sys.argv[1:3]
vehicle = compose(Profile(actuator='mock:' + wheels, audit=audit, page=dict(port=0, token={TOKEN!r})))
run_vehicle(vehicle, lambda text: print(vehicle.page.port, flush=True))
'''


class Car:
    "A mock with a page, a terminal and an audit log."
    def __init__(self, folder):
        self.audit = Path(folder)/'audit'
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, '-c', DRIVE, self.audit, Path(folder)/'wheels.log'],
            stdin=end, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        os.close(end)
        self.port = int(self.process.stdout.readline())
        wait(lambda: (self.audit/CURRENT).exists())

    def client(self, address='127.0.0.1', page=True):
        "Open the socket of the page from an address."
        line = socket.create_connection(('127.0.0.1', self.port), 10, source_address=(address, 0))
        url = f'ws://127.0.0.1:{self.port}/wsDrive' + '?page=1'*page
        return websocket.create_connection(url, socket=line, header=[f'Authorization: Bearer {TOKEN}'])

    def post(self, path, **message):
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}/{path}', json.dumps(message).encode(),
                                         headers={'Authorization': f'Bearer {TOKEN}'})
        urllib.request.urlopen(request, timeout=10).read()

    def events(self):
        "Return (event, source, address, detail) of each line."
        return [(e.event, e.source, e.address, e.detail) for e in audit_events(self.audit)]

    def hears(self, *event):
        "Wait until an event is in the log."
        wait(lambda: event in self.events())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        os.close(self.terminal)


def say(client, **message):
    client.send(json.dumps(message))


def test_each_event_is_there_with_its_source_and_its_address(tmp_path):
    with Car(tmp_path) as car:
        car.hears('start', 'car', '', '')
        one, other = car.client('127.0.0.2'), car.client('127.0.0.3')
        say(one, take=True)
        car.hears('take', 'page', '127.0.0.2', '')
        say(one, buttons=dict(arm=True))
        wait(lambda: any(e[:3] == ('arm', 'page', '127.0.0.2') for e in car.events()))
        say(one, drive_mode='local_angle', buttons=dict(model='other.tflite'))
        car.hears('mode', 'page', '127.0.0.2', 'user -> local_angle')
        car.hears('model', 'page', '127.0.0.2', 'other.tflite')
        say(other, buttons=dict(estop=True))                    # who does not drive may stop
        car.hears('stop', 'page', '127.0.0.3', '')
        wait(lambda: any(e[0] == 'state' and e[3].endswith('-> stopped (page)') for e in car.events()))
        say(other, take=True)
        car.hears('leave', 'page', '127.0.0.2', '')
        car.hears('take', 'page', '127.0.0.3', '')
        time.sleep(.6)   # nothing is released before
        say(other, buttons=dict(release=True))
        car.hears('release', 'page', '127.0.0.3', '')
        car.hears('state', 'car', '', 'stopped -> disarmed')
        other.close()
        car.hears('leave', 'page', '127.0.0.3', '')
        os.write(car.terminal, b'\n')
        car.hears('stop', 'keyboard', '', '')
        car.process.send_signal(signal.SIGUSR1)
        car.hears('stop', 'signal', '', '')
        one.close()
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    assert car.events()[0][0] == 'start' and car.events()[-1][0] == 'end'
    assert check_audit(car.audit)[1:] == ('', '')
    assert TOKEN not in ''.join(path.read_text() for path in car.audit.iterdir())
    monotonic = [e.mono_s for e in audit_events(car.audit)]
    assert monotonic == sorted(monotonic)


def test_a_client_of_donkeycars_and_a_post_have_names_of_their_own(tmp_path):
    with Car(tmp_path) as car:
        client = car.client('127.0.0.4', page=False)
        say(client, angle=0, throttle=0, buttons=dict(w1=True))
        car.hears('take', 'donkeycar', '127.0.0.4', '')
        client.close()
        car.hears('leave', 'donkeycar', '127.0.0.4', '')
        car.post('drive', angle=0, throttle=0)
        car.hears('take', 'post', '127.0.0.1', '')
        car.post('stop')
        car.hears('stop', 'page', '127.0.0.1', '')


@pytest.mark.parametrize('kills', [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_drive_leaves_a_log_that_the_next_one_continues(tmp_path, kills):
    chance, count = random.Random(kills), 0
    for n in range(kills):
        with Car(tmp_path) as car:
            client = car.client()
            wait(lambda: check_audit(car.audit)[0] > count)   # it has begun; a kill before leaves no line
            for _ in range(chance.randint(1, 30)):
                say(client, take=True)
                say(client, take=False)
                time.sleep(chance.uniform(0, .01))
        count, fault, _ = check_audit(car.audit)
        assert not fault
        with open(car.audit/CURRENT, 'ab') as f:   # as a power cut may leave it
            f.write(b'{"number":'[:chance.randint(1, 10)]*(n % 2))
        assert check_audit(car.audit)[1] == '' and bool(check_audit(car.audit)[2]) == bool(n % 2)
    with Car(tmp_path) as car:
        wait(lambda: sum(e[0] == 'start' for e in car.events()) == kills + 1)
        car.process.send_signal(signal.SIGTERM)
        assert car.process.wait(20) == 0
    assert check_audit(car.audit)[1:] == ('', '')
    torn = [e for e in car.events() if e[0] == 'torn']
    assert len(torn) == kills//2 and all('cut off' in e[3] for e in torn)


def test_a_second_drive_does_not_write_into_the_log_of_the_first(tmp_path):
    with Car(tmp_path) as car:
        (tmp_path/'second').mkdir()
        second = subprocess.Popen([sys.executable, '-c', DRIVE, car.audit, tmp_path/'second/wheels.log'],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True)
        try:
            second.stdout.readline()
            time.sleep(1)
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0
        finally:
            second.kill()
            second.wait()
            second.stdout.close()
        assert sum(e[0] == 'start' for e in car.events()) == 1 and len(audit_files(car.audit)) == 1
        assert check_audit(car.audit)[1:] == ('', '')
