"""The car's page: in a real browser that drives the twin, with a line that is cut,
and among clients that mean harm."""
import base64
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import websocket
from support.browser import Browser, at, browsing, click, key, mouse, open_page, says
from support.line import Line
from support.waiting import wait

from edgecar.core import EdgecarError
from edgecar.web.access import open_access
from edgecar.web.certificate import certificate_fingerprint, kept_certificate, make_certificate, tls_context
from edgecar.web.drive_page import WebPage
from edgecar.sim.protocol import ControlMessage
from edgecar.sim.scene import Scene, telemetry_message
from edgecar.web.twin_page import road_outline


GATE = dict(finished=1., cte_rms_m=.0831, steering_mae=.0712, latency_ms=.54)


class Car:
    "The smallest loop with a page: the twin moves when it is armed; what was asked for is kept in `log`."
    def __init__(self, rate_hz=50, **page):
        self.page, self.rate_hz, self.log, self.ended = WebPage(port=0,
                                                                **page), rate_hz, [], threading.Event()
        self.scene = Scene('club', rate_hz)
        self.slot = self.scene.join()
        telemetry_message(self.slot)
        self.out = 0., 0., 'user', False, {}
        self.status = dict(loop_hz=rate_hz, loop_p50_ms=4.21, loop_p99_ms=9.87, inference_ms=.52,
                           frame_age_ms=21., armed=False, stopped=[], faults={}, throttle_limit=.5,
                           why=dict(page='a stop on the page'),
                           disk_left_mb=12_345., laps=0, models=['pilot.tflite', 'int8.tflite'],
                           model=dict(name='pilot.tflite', digest='sha256:0123456789abcdef0123', gate=GATE))
        self.map = dict(road=road_outline(self.scene.track))
        self.records = 0
        self.threads = [threading.Thread(target=self.page.update), threading.Thread(target=self.loop)]

    def loop(self):
        while not self.ended.wait(1/self.rate_hz):
            self.turn()

    def turn(self):
        x, y, yaw, vx = self.slot.car.state[:4]
        status = dict(self.status, cte_m=self.slot.car.cte, speed_m_s=vx, laps=self.slot.car.course.lap_count,
                      map=dict(self.map, x=round(x, 3), y=round(y, 3), yaw=round(yaw, 3)))
        self.out = angle, throttle, mode, recording, buttons = self.page.run_threaded(
            self.slot.frame, self.records, self.out[2], self.out[3], status)
        if asked := {k: v for k, v in buttons.items() if v is not False}:
            self.log.append(asked)
        if 'estop' in asked:
            self.status = dict(self.status, armed=False, stopped=['page'],
                               faults=dict(page=self.status['faults'].get('page', 0) + 1))
        if 'release' in asked:
            self.status = dict(self.status, stopped=[])
        if 'arm' in asked:
            self.status = dict(self.status, armed=not self.status['stopped'])
        if 'throttle_limit' in asked:
            self.status = dict(self.status, throttle_limit=asked['throttle_limit'])
        if 'model' in asked:
            self.status = dict(self.status, model=dict(self.status['model'], name=asked['model']))
        self.records = max(self.records + recording - asked.get('erase', 0), 0)
        self.slot.control = (ControlMessage(angle, throttle*self.status['throttle_limit'],
                                            0. if throttle else 1.)
                             if self.status['armed'] else ControlMessage(brake=1.))
        self.scene.step()
        telemetry_message(self.slot)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.page.shutdown()
        for thread in self.threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self.threads)


def zero_after(car, since, within_s=.25):
    "Throttle is zero so soon, and stays so."
    wait(lambda: car.out[:2] == (0, 0), within_s + .5)
    assert time.monotonic() - since < within_s
    for _ in range(20):
        time.sleep(.005)
        assert car.out[1] == 0


@browsing
def test_every_control(browser, tmp_path):
    with Car() as car:
        car.status['models'].append('<b>odd</b>.tflite')
        open_page(browser, car.page.url)
        browser.wait("document.getElementById('camera').width == 160 && "
                     "!document.getElementById('map-card').hidden && "
                     "document.getElementById('timing').textContent.includes('50 Hz')")
        assert browser.value(
            "document.getElementById('driving').disabled && document.getElementById('arm').disabled")
        key(browser, 'ArrowUp', True)                                                # it has not the wheel
        time.sleep(.15)
        key(browser, 'ArrowUp', False)
        assert car.out[:2] == (0, 0) and car.page.wheel.driver is None
        click(browser, 'take')
        says(browser, 'who', 'you drive')
        click(browser, 'arm')
        says(browser, 'armed', 'armed')
        assert car.log == [dict(arm=True)]

        x, y = at(browser, 'pad')                                                    # the mouse
        mouse(browser, 'Pressed', x, y)
        mouse(browser, 'Moved', x - 10, y - 40)
        wait(lambda: car.out[0] < -.1 and car.out[1] > .5 and car.slot.car.state[3] > .2)
        assert time.monotonic() - car.page.seen_s < .15
        mouse(browser, 'Released', x - 10, y - 40, 0)
        wait(lambda: car.out[:2] == (0, 0))
        # the keys
        for code, which, sign in (('ArrowUp', 1, 1), ('KeyK', 1, -1), ('ArrowLeft', 0, -1), ('KeyL', 0, 1)):
            key(browser, code, True)
            wait(lambda: car.out[which]*sign > .5)
            key(browser, code, False)
            wait(lambda: car.out[:2] == (0, 0))

        browser.value("""(() => { const up = { pressed: false, value: 0 }, \
buttons = Array.from({ length: 17 }, () => ({ ...up }))
            window.given = { connected: true, axes: [.5, 0, 0, -.8], buttons }; \
navigator.getGamepads = () => [null, given] })()""")
        wait(lambda: car.out[:2] == (.5, .8))
        browser.value('given.axes = [0, 0, 0, 0]; given.buttons[6].value = .6')
        wait(lambda: car.out[:2] == (0, -.6))
        browser.value('given.buttons[6].value = 0; given.buttons[3].pressed = true')
        wait(lambda: car.out[3])
        browser.value('given.buttons[3].pressed = false; given.buttons[1].pressed = true')
        says(browser, 'banner', 'Stopped: a stop on the page. Release, then arm.')
        browser.value('navigator.getGamepads = () => []')
        click(browser, 'release')
        click(browser, 'record')
        wait(lambda: not car.out[3] and not car.status['stopped'])

        for name, shown in (('local_angle', 'pilot steers'), ('local', 'pilot drives'), ('user', 'driver')):
            browser.value(f"document.querySelector('[data-mode={name}]').click()")
            wait(lambda: car.out[2] == name)
            says(browser, 'mode-now', shown)
        for code, name in (('KeyA', 'local'), ('KeyS', 'local_angle'), ('KeyU', 'user')):
            key(browser, code, True)
            key(browser, code, False)
            wait(lambda: car.out[2] == name)

        click(browser, 'record')
        wait(lambda: car.records > 20)
        browser.wait("+document.getElementById('records').textContent.replace(',', '') > 20 && "
                     "document.getElementById('disk').textContent == '12.3 GB left'")
        key(browser, 'KeyR', True)
        key(browser, 'KeyR', False)
        wait(lambda: not car.out[3])
        browser.value("document.getElementById('erase-n').value = 7")
        click(browser, 'erase')
        wait(lambda: dict(erase=7) in car.log)
        browser.value("(() => { const l = document.getElementById('limit'); l.value = .31; "
                      "l.dispatchEvent(new Event('input')) })()")
        wait(lambda: car.status['throttle_limit'] == .31)
        says(browser, 'limit-now', '31 %')
        browser.value("(() => { const l = document.getElementById('models'); l.value = '<b>odd</b>.tflite'; "
                      "l.dispatchEvent(new Event('change')) })()")
        says(browser, 'load', 'Load')
        click(browser, 'load')
        says(browser, 'load', 'Reload')   # the car says that it has it
        assert (car.status['model']['name'] == '<b>odd</b>.tflite'
                and browser.value("document.querySelectorAll('#model b').length") == 0)  # a name is no markup
        browser.wait("document.getElementById('gate').textContent.includes('0.0831') && "
                     "document.getElementById('model').textContent.includes('0123456789ab')")

        car.status = dict(car.status, stopped=['frozen_camera'],
                          faults={'frozen_camera': 3, '<i>heartbeat</i>': 2}, armed=False)
        browser.wait(
            "document.getElementById('faults').textContent == "
            "'a stop on the page1frozen camera, now3<i>heartbeat</i>2' "
            "|| document.getElementById('faults').textContent == 'frozen camera, now3<i>heartbeat</i>2'")
        browser.picture().save(tmp_path/'desktop.png')
        click(browser, 'release')
        wait(lambda: not car.status['stopped'])
        key(browser, 'Space', True)
        key(browser, 'Space', False)
        wait(lambda: car.status['stopped'] == ['page'])
        click(browser, 'take')
        says(browser, 'who', 'nobody drives')
        assert car.page.seen_s == 0
    assert not browser.said, browser.said


@browsing
def test_on_a_phone(browser, tmp_path):
    with Car() as car:
        open_page(browser, car.page.url, 390, 844, phone=True)
        browser.wait("document.getElementById('camera').width == 160")
        # the longest there are
        browser.value("text = (was => (id, words) => was(id, "
                      "{ who: 'another drives', link: '12345 ms, slow' }[id] ?? words))(text)")
        browser.wait("document.getElementById('link').textContent == '12345 ms, slow'")
        assert browser.value('document.documentElement.scrollWidth') == 390
        browser.value("text = (id, words) => { document.getElementById(id).textContent = words }")
        small = ("[...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 36 "
                 "|| b.getBoundingClientRect().right > 390).map(b => b.id)")
        assert browser.value(small) == []
        # always at hand
        assert browser.value("(() => { scrollTo(0, 9999); return "
                             "document.getElementById('estop').getBoundingClientRect().bottom <= 844 })()")
        browser.value('scrollTo(0, 0)')
        click(browser, 'take')
        says(browser, 'who', 'you drive')
        click(browser, 'arm')
        says(browser, 'armed', 'armed')
        x, y = at(browser, 'pad')
        def touch(kind, *points):
            return browser.ask(
                'Input.dispatchTouchEvent', type=f'touch{kind}',
                touchPoints=[dict(x=x, y=y) for x, y in points])
        touch('Start', (x, y))
        touch('Move', (x + 12, y - 30))
        wait(lambda: car.out[0] > .1 and car.out[1] > .3)
        browser.picture().save(tmp_path/'phone.png')
        touch('End')
        wait(lambda: car.out[:2] == (0, 0))
    browser.wait("document.getElementById('banner').textContent == 'Not connected: the car stops.' && "
                 "document.body.className == 'off' && !document.getElementById('estop').disabled")


@browsing
def test_a_cut_line_and_a_killed_browser(browser):
    with Car() as car:
        line = Line(car.page.port)
        try:
            open_page(browser, f'http://127.0.0.1:{line.port}/drive')
            click(browser, 'take')
            says(browser, 'who', 'you drive')
            key(browser, 'ArrowUp', True)
            wait(lambda: car.out[1] > .5)
            line.whole.clear()
            zero_after(car, time.monotonic())
            browser.wait("document.body.className == 'off' && !document.getElementById('banner').hidden && "
                         "document.getElementById('driving').disabled", 5)
            says(browser, 'link', 'not connected')
            # and nothing waits to be sent
            assert browser.value('JSON.stringify(wanted())') == '{"angle":0,"throttle":0}'
            line.whole.set()
            says(browser, 'who', 'you drive')
            key(browser, 'ArrowUp', False)
            key(browser, 'ArrowUp', True)
            wait(lambda: car.out[1] > .5)
            line.close()
            zero_after(car, time.monotonic())
            wait(lambda: car.page.wheel.driver is None)
        finally:
            line.close()
        open_page(browser, car.page.url)
        click(browser, 'take')
        says(browser, 'who', 'you drive')
        key(browser, 'ArrowUp', True)
        wait(lambda: car.out[1] > .5)
        browser.process.send_signal(signal.SIGKILL)
        zero_after(car, time.monotonic())
        browser.close = lambda: (browser.line.close(), browser.process.wait(30), browser.drain.join(10))


@browsing
def test_finding_1_a_stop_in_a_stall_is_said_until_it_is_latched(browser):
    "It was dropped while the link stood still, and the button could not be pressed; then the car drove on."
    with Car() as car:
        line = Line(car.page.port)
        try:
            open_page(browser, f'http://127.0.0.1:{line.port}/drive')
            click(browser, 'take')
            says(browser, 'who', 'you drive')
            click(browser, 'arm')
            says(browser, 'armed', 'armed')
            line.whole.clear()
            browser.wait("document.body.className == 'off'", 5)
            click(browser, 'estop')
            assert car.status['stopped'] == []   # it has not come through
            line.whole.set()
            wait(lambda: car.status['stopped'] == ['page'])
            says(browser, 'banner', 'Stopped: a stop on the page. Release, then arm.')
            browser.wait('!stopIsWanted')
            click(browser, 'release')   # and it is not said again
            wait(lambda: not car.status['stopped'])
            time.sleep(.3)
            assert not car.status['stopped'] and not car.status['armed']
        finally:
            line.close()


@browsing
def test_how_late_it_is_and_what_is_done_to_the_frames(browser, tmp_path):
    with Car() as car:
        car.status |= dict(latency_p50_ms=61.4, latency_p95_ms=80., latency_examined_ms=None,
                           latency_outside=None, latency_warning='', frame_fit='')
        open_page(browser, car.page.url)
        browser.wait("document.getElementById('timing').textContent.includes("
                     "'to wheels p5061 msto wheels p9580 msexamined atnot examined')")
        assert browser.value(
            "document.getElementById('latency-note').hidden && "
            "document.getElementById('frame-fit').hidden && !document.querySelector('#timing .slow')")
        car.status |= dict(latency_examined_ms=[25, 75], latency_outside=True,
                           latency_warning='80 ms is more than 75',
                           frame_fit='224x224 cropped to 168x224, resized to 120x160')
        browser.wait("document.getElementById('timing').textContent.includes('examined at25–75 ms')")
        says(browser, 'latency-note', '80 ms is more than 75')
        says(browser, 'frame-fit', 'frames: 224x224 cropped to 168x224, resized to 120x160')
        assert browser.value("!document.getElementById('latency-note').hidden && "
                             "document.querySelectorAll('#timing .slow').length") == 2
        browser.picture().save(tmp_path/'late.png')
        car.status |= dict(latency_outside=False, latency_warning='')
        browser.wait("document.getElementById('latency-note').hidden")
        assert not browser.said, browser.said


@browsing
def test_two_want_the_wheel(browser):
    with Car() as car:
        other = websocket.create_connection(f'ws://127.0.0.1:{car.page.port}/wsDrive?page=1', timeout=10)
        open_page(browser, car.page.url)
        other.send(json.dumps(dict(take=True, throttle=.4)))
        says(browser, 'who', 'another drives')
        says(browser, 'take', 'Take over')
        browser.wait("document.getElementById('timing').textContent.endsWith('1')")
        click(browser, 'estop')                                                      # which is everyone's
        wait(lambda: dict(estop=True) in car.log)
        assert car.out[1] == 0
        click(browser, 'take')
        says(browser, 'who', 'you drive')
        other.send(json.dumps(dict(throttle=1., recording=True)))
        time.sleep(.1)
        assert car.out[1] == 0 and not car.out[3]
        other.close()


@browsing
def test_login_and_a_page_from_elsewhere(browser):
    with Car(token='long & enough') as car:
        home = f'http://127.0.0.1:{car.page.port}'
        browser.ask('Page.navigate', url=f'{home}/drive')
        browser.wait("!!document.querySelector('[name=token]')")
        for word, then in (
                ('long enough', "!!document.querySelector('[name=token]')"),
                ('long & enough', "!!document.getElementById('link') && document.body.className === ''")):
            browser.value(f"document.querySelector('[name=token]').value = '{word}'; "
                          "document.body.dataset.old = 1; document.querySelector('form').submit()")
            browser.wait(f"!document.body?.dataset.old && {then}")
        open_page(browser, car.page.url)
        assert browser.value('location.href') == f'{home}/drive'   # the token does not stay in the address
        assert 'edgecar' not in browser.value('document.cookie')
        browser.ask('Page.navigate', url='data:text/html,<title>elsewhere</title>')
        browser.wait("document.title == 'elsewhere'")
        browser.value("window.heard = ''; const s = new WebSocket("
                      f"'ws://127.0.0.1:{car.page.port}/wsDrive?token=long%20%26%20enough'); "
                      "s.onopen = () => heard = 'open'; s.onclose = () => heard = 'refused'")
        browser.wait('!!heard')
        assert browser.value('heard') == 'refused'


# ---- without a browser

def client(page, query='', **kw):
    return websocket.create_connection(f'ws://127.0.0.1:{page.port}/wsDrive{query}', timeout=10, **kw)


def test_a_client_of_donkeycar_drives():
    "What its own page and its wsTest send."
    with Car() as car:
        line = client(car.page, origin=f'http://127.0.0.1:{car.page.port}')
        assert json.loads(line.recv()) == dict(driveMode='user', recording=False)
        buttons = dict.fromkeys(['w1', 'w2', 'w3', 'w4', 'w5'], False)
        line.send(
            json.dumps(dict(angle=.25, throttle=.5, drive_mode='user', recording=True, buttons=buttons)))
        wait(lambda: car.out[:4] == (.25, .5, 'user', True))
        assert json.loads(line.recv())['recording'] is True
        line.send(json.dumps(dict(buttons=dict(buttons, w3=True))))
        wait(lambda: dict(w3=True) in car.log)
        line.send(json.dumps(dict(drive_mode='local_angle')))
        wait(lambda: car.out[2] == 'local_angle')
        for _ in range(100):
            line.send(json.dumps(dict(angle=1.0, throttle=.7, recording=True, drive_mode='user')))
            time.sleep(.005)
        assert car.out[:4] == (1., .7, 'user', True)
        line.close()
        zero_after(car, time.monotonic())


@pytest.mark.parametrize('way', ['silent', 'closed', 'reset', 'half a frame'])
def test_no_throttle_outlives_its_driver(way):
    with Car() as car:
        line = client(car.page, '?page=1')
        line.send('{"take": true}')
        line.send('{"throttle": 1, "angle": 0.5}')
        wait(lambda: car.out[1] == 1)
        if way == 'closed':
            line.close()
        if way == 'reset':
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            line.sock.close()
        if way == 'half a frame':
            line.sock.sendall(b'\x81\xfe\x10\x00')
        zero_after(car, time.monotonic())


FIELDS = ['angle', 'throttle', 'drive_mode', 'recording', 'buttons', 'take', 'ping', 'pilot', '__proto__']
VALUES = [None, True, False, [], {}, [[]], '', 'nan', '1e999', '\ud800', '\0', 'a'*3000, -1, 0, 1, 2**70,
          1e308, -1e308, .5, 'user', 'local', '../../x', dict(erase='all'), dict(erase=-5), dict(model=['x']),
          dict(arm=True), dict(w1=1), dict(throttle_limit=9), dict(estop=None), dict(model='<script>')]
BROKEN = ['{"throttle": NaN}', '{"throttle": Infinity, "angle": 1}', '{"angle": 1' + '0'*400 + '}',
          '{' + '"a":{'*300 + '}'*301, '['*4000, '{}', 'null', '3', '', '{"throttle": 1,}', "{'throttle': 1}",
          '\ufeff{}', b'\xff\xfe', b'\x00'*100]


def nonsense(g):
    "One message that nobody should send."
    if g.random() < .3:
        return g.choice(BROKEN)
    return json.dumps({g.choice(FIELDS): g.choice(VALUES) for _ in range(g.randrange(5))})


def memory():
    return int(open('/proc/self/statm').read().split()[1])*os.sysconf('SC_PAGESIZE')/1e6   # MB


@pytest.mark.parametrize('many', [4_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timed])])
def test_hostile_messages(many, caplog):
    g, sent, base = random.Random(0), 0, None
    with Car(messages_hz=1e9) as car:
        while sent < many:
            line = client(car.page, g.choice(['', '?page=1']))
            for _ in range(200):   # by which it has mostly been shown the door
                message, sent = nonsense(g), sent + 1
                try:
                    line.send(message, websocket.ABNF.OPCODE_BINARY if isinstance(message, bytes)
                              else websocket.ABNF.OPCODE_TEXT)
                except (OSError, websocket.WebSocketException):
                    break
                angle, throttle, mode, recording, _ = car.out
                assert (-1 <= angle <= 1 and -1 <= throttle <= 1 and mode in ('user', 'local', 'local_angle')
                        and isinstance(recording, bool))
            g.choice([line.close, line.shutdown, lambda: line.sock and line.sock.close()])()
            if base is None and sent > many/4:
                base = memory(), len(os.listdir('/proc/self/fd'))
        wait(lambda: not car.page.sockets)
        zero_after(car, time.monotonic())
        assert memory() - base[0] < 40 and len(os.listdir('/proc/self/fd')) - base[1] <= 5
        for asked in car.log:
            assert asked.keys() <= {'w1', 'w2', 'w3', 'w4', 'w5', 'arm', 'estop', 'release', 'erase', 'model',
                                    'throttle_limit'}
            assert (0 <= asked.get('throttle_limit', 0) <= 1 and asked.get('erase', 1) >= 1
                    and isinstance(asked.get('model', ''), str))
        line = client(car.page, '?page=1')   # and honest people are served
        line.send('{"take": true, "throttle": 0.5}')
        wait(lambda: car.out[1] == .5)
        line.close()
    # which is the client's
    assert not [r for r in caplog.records if r.levelname in ('ERROR', 'CRITICAL') and r.name != 'websocket']


def test_a_flood_and_a_reader_that_does_not_read():
    with Car() as car:
        honest, deaf = (client(car.page, '?page=1'),
                        client(car.page, '?page=1', sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]))
        flood = client(car.page, '?page=1')
        with pytest.raises((OSError, websocket.WebSocketException)):
            for _ in range(10**6):
                flood.send('{"throttle": 1}')
        before, began = memory(), time.monotonic()
        while time.monotonic() - began < 2:
            honest.recv()
        assert memory() - before < 20 and car.out[1] == 0
        deaf.close()
        honest.close()


@pytest.mark.parametrize('kw', [dict(), dict(query='?token=wrong'), dict(cookie='edgecar=wrong'),
                                dict(query='?token=long%20enough', origin='http://evil.example'),
                                dict(query='?token=long%20enough', origin='null')],
                         ids=['none', 'wrong', 'cookie', 'origin', 'null'])
def test_wrong_token_and_wrong_origin_are_refused(kw):
    with Car(token='long enough') as car:
        with pytest.raises(websocket.WebSocketBadStatusException, match='403'):
            client(car.page, kw.pop('query', ''), **kw)
        assert not car.page.sockets
        client(car.page, '?token=long%20enough').close()


# --- TLS

SECRET = dict(token='long enough')


def context_of(folder, *names, **kw):
    "A context to serve with, of a new certificate, and the file that a client trusts."
    key, made = make_certificate([*names], **kw)
    for name, content in (('key.pem', key), ('cert.pem', made)):
        (folder/name).write_bytes(content)
    return tls_context(folder/'cert.pem', folder/'key.pem'), folder/'cert.pem'


def strict(trusted, port, **kw):
    "Connect over TLS as a strict client does, and return what the server showed."
    client = ssl.create_default_context(cafile=trusted)
    with socket.create_connection(('127.0.0.1', port), 20) as line:
        with client.wrap_socket(line, server_hostname=kw.pop('name', '127.0.0.1')) as safe:
            return safe.getpeercert(binary_form=True), safe.version()


def test_finding_9_a_strict_client_sees_the_printed_fingerprint_and_all_works_over_tls(tmp_path):
    tls, cert = context_of(tmp_path, 'car.local', '127.0.0.1')
    with Car(tls=tls, **SECRET) as car:
        shown, version = strict(cert, car.page.port)
        assert hashlib.sha256(shown).digest().hex(':').upper() == certificate_fingerprint(cert.read_bytes())
        assert version in ('TLSv1.2', 'TLSv1.3')
        assert strict(cert, car.page.port, name='car.local')[0] == shown
        client_side = ssl.create_default_context(cafile=cert)
        asked = http.client.HTTPSConnection('127.0.0.1', car.page.port, timeout=20, context=client_side)
        asked.request('GET', '/drive?token=long%20enough')
        answer = asked.getresponse()
        cookie = answer.headers['Set-Cookie']
        assert answer.status == 200 and {'Secure', 'HttpOnly', 'SameSite=Strict'} <= {*cookie.split('; ')}
        asked.close()
        origin = f'https://127.0.0.1:{car.page.port}'
        line = websocket.create_connection(f'wss://127.0.0.1:{car.page.port}/wsDrive?page=1', timeout=20,
                                           cookie=cookie.split(';')[0], origin=origin,
                                           sslopt=dict(ca_certs=str(cert)))
        line.send('{"take": true, "throttle": 0.5}')
        wait(lambda: car.out[1] == .5)
        line.close()


@pytest.mark.parametrize('names, why, days, ago', [
    (['car.local'], "certificate is not valid for '127.0.0.1'", 397, 0),
    (['127.0.0.1'], 'certificate has expired', 30, 60)], ids=['name', 'expired'])
def test_finding_9_a_strict_client_refuses_a_certificate_of_another_name_or_an_expired_one(
        tmp_path, names, why, days, ago):
    tls, cert = context_of(tmp_path, *names, days=days, now=datetime.now(UTC) - timedelta(days=ago))
    with Car(tls=tls, **SECRET) as car:
        with pytest.raises(ssl.SSLCertVerificationError, match=f'(?i){why}|IP address mismatch'):
            strict(cert, car.page.port)


def test_finding_9_a_strict_client_refuses_the_certificate_of_another_car(tmp_path):
    tls, _ = context_of(tmp_path, '127.0.0.1')
    (tmp_path/'other').mkdir()
    _, other = context_of(tmp_path/'other', '127.0.0.1')
    with Car(tls=tls, **SECRET) as car:
        with pytest.raises(ssl.SSLCertVerificationError, match='self-signed|signature failure'):
            strict(other, car.page.port)


def test_finding_9_old_tls_and_plain_http_get_no_answer(tmp_path):
    tls, _ = context_of(tmp_path, '127.0.0.1')
    with Car(tls=tls, **SECRET) as car:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers('ALL:@SECLEVEL=0')
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(('127.0.0.1', car.page.port), 20) as line:
            with pytest.raises((ssl.SSLError, OSError)):
                old.wrap_socket(line)
        clear = http.client.HTTPConnection('127.0.0.1', car.page.port, timeout=20)
        with pytest.raises((http.client.HTTPException, OSError)):
            clear.request('GET', '/drive')
            clear.getresponse()
        clear.close()


def test_finding_9_a_hundred_half_handshakes_keep_nobody_out(tmp_path):
    tls, cert = context_of(tmp_path, '127.0.0.1')
    with Car(tls=tls, **SECRET) as car, contextlib.ExitStack() as opened:
        for n in range(100):
            line = opened.enter_context(socket.create_connection(('127.0.0.1', car.page.port), 20,
                                                                 (f'127.0.2.{n % 10}', 0)))
            line.sendall(b'\x16\x03\x01')   # and no more of the first record
        assert strict(cert, car.page.port)[1] >= 'TLSv1.2'


def test_finding_9_a_handshake_that_never_ends_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr('edgecar.web.handlers.PATIENCE_S', 1)
    tls, _ = context_of(tmp_path, '127.0.0.1')
    with Car(tls=tls, **SECRET) as car:
        with socket.create_connection(('127.0.0.1', car.page.port), 20) as line:
            line.sendall(b'\x16\x03\x01')
            assert line.recv(100) == b''


@pytest.mark.parametrize('words, hint', [([], '--plain-http'), (['--token', 'long enough'], '--plain-http'),
                                         (['--anyone'], '--plain-http'), (['--plain-http'], 'EDGECAR_TOKEN')])
def test_finding_9_beyond_this_machine_nothing_is_served_in_clear_unasked(tmp_path, words, hint):
    command = ['drive', '--profile', 'mock', '--page-host', '0.0.0.0', '--page-port', '0', '--turns', '5',
               '--tubs', str(tmp_path/'tubs'), *words]
    env = {k: v for k, v in os.environ.items() if k != 'EDGECAR_TOKEN'}
    script = 'from edgecar.cli import app; app()'
    done = subprocess.run([sys.executable, '-c', script, *command], text=True, capture_output=True,
                          env=env | dict(EDGECAR_STATE=str(tmp_path/'state')))
    assert done.returncode == 1 and hint in done.stderr, done.stdout + done.stderr
    assert not (tmp_path/'state').exists()


def test_finding_9_a_drawn_token_is_kept_and_never_logged(tmp_path):
    "The address that a phone opens works; the token stands in a file of mode 600, and in no output."
    state = tmp_path/'state'
    command = ['drive', '--profile', 'mock', '--page-host', '0.0.0.0', '--page-port', '0', '--tls',
               '--tubs', str(tmp_path/'tubs')]
    env = {k: v for k, v in os.environ.items() if k != 'EDGECAR_TOKEN'} | dict(EDGECAR_STATE=str(state))
    script = 'from edgecar.cli import app; app()'
    with subprocess.Popen([sys.executable, '-uc', script, *command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=env) as process:
        try:
            lines = []
            while 'the token stands in' not in (line := process.stdout.readline()):
                assert line, lines
                lines.append(line)
            url, mark = lines[-2].split()[0], lines[-1].split()[-1]
            token = (state/'token').read_text()
            assert len(token) == 22 and mark == certificate_fingerprint((state/'page.pem').read_bytes())
            assert {p.stat().st_mode & 0o777 for p in state.iterdir()} == {0o600}
            assert url.startswith('https://') and '0.0.0.0' not in url
            client_side = ssl.create_default_context(cafile=state/'page.pem')   # and checks the name in it
            host, _, port = url.removeprefix('https://').partition('/')[0].rpartition(':')
            for path, status, headers in (('/metrics', 403, {}), (f'/metrics?token={token}', 200, {}),
                                          (f'/metrics?token={token}', 403, dict(Origin='http://evil'))):
                asked = http.client.HTTPSConnection(host, int(port), timeout=20, context=client_side)
                asked.request('GET', path, headers=headers)
                assert asked.getresponse().status == status
                asked.close()
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=60)[0]
    assert str(state/'token') in line and token not in ''.join(lines) + line + rest


def test_finding_9_an_expired_certificate_is_made_anew(tmp_path):
    path = kept_certificate(['127.0.0.1'], tmp_path, datetime.now(UTC) - timedelta(days=500))
    was = certificate_fingerprint(path.read_bytes())
    kept_certificate(['127.0.0.1'], tmp_path)
    tls = tls_context(path, path)
    with Car(tls=tls, **SECRET) as car:
        strict(path, car.page.port)
    assert certificate_fingerprint(path.read_bytes()) != was


def test_without_the_package_a_certificate_is_served_and_none_is_made(tmp_path, monkeypatch):
    "The image of a car has no such package."
    key, made = make_certificate(['127.0.0.1'])
    for name, content in (('key.pem', key), ('cert.pem', made)):
        (tmp_path/name).write_bytes(content)
    monkeypatch.setenv('EDGECAR_STATE', str(tmp_path/'state'))
    monkeypatch.setitem(sys.modules, 'cryptography', None)
    access = open_access('0.0.0.0', cert=str(tmp_path/'cert.pem'), key=str(tmp_path/'key.pem'))
    assert certificate_fingerprint(made) in access.notes[0] and len(access.arguments['token']) == 22
    with pytest.raises(EdgecarError, match='make it elsewhere'):
        open_access('0.0.0.0', tls=True)


@browsing
def test_finding_9_a_browser_drives_over_tls(tmp_path):
    "The browser is told the key that it must find, as a person compares the fingerprint."
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    tls, cert = context_of(tmp_path, '127.0.0.1')
    public = x509.load_pem_x509_certificate(Path(cert).read_bytes()).public_key()
    spki = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    browser = Browser(tmp_path/'profile',
                      f'--ignore-certificate-errors-spki-list={base64.b64encode(spki).decode()}')
    try:
        with Car(tls=tls, **SECRET) as car:
            assert car.page.url.startswith('https://')
            open_page(browser, car.page.url)
            browser.wait("document.getElementById('camera').width == 160")
            assert browser.value('socket.url').startswith(f'wss://127.0.0.1:{car.page.port}/')
            assert browser.value('location.href') == car.page.url.partition('?')[0]
            click(browser, 'take')
            says(browser, 'who', 'you drive')
            key(browser, 'ArrowUp', True)
            wait(lambda: car.out[1] > .5)
            key(browser, 'ArrowUp', False)
            wait(lambda: car.out[:2] == (0, 0))
            [cookie] = browser.ask('Network.getCookies', urls=[car.page.url])['cookies']
            assert cookie['secure'] and cookie['httpOnly'] and cookie['sameSite'] == 'Strict'
        assert not [line for line in browser.said if 'WebSocket' not in line], browser.said
        browser.close()
    finally:
        browser.process.kill()
        browser.process.wait()
