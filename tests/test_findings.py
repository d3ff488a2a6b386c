"""What a reviewer broke, each by its number in the review: how it was broken, and that it is mended."""
import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.pages import serving

from edgecar.car.drive import NO_SLEEP_HZ, ButtonHandler, Profile, TwinCamera, compose, supervised
from edgecar.car.guard import StopRequests
from edgecar.car.owner import ActuatorProcess
from edgecar.car.record import TubStore
from edgecar.car.upload import (
    find_remote, has_file, is_still_stored, is_uploaded, remote_key, tubs_to_upload, upload_tub
)
from edgecar.contracts.access import ListenGuard
from edgecar.contracts.digest import md5_hex, tracked_files
from edgecar.contracts.drive import RecordingLimits
from edgecar.contracts.params import SECTIONS, check_params, check_shell_text, section_fields
from edgecar.contracts.state import ARMING_REFUSALS
from edgecar.core import EdgecarError, repo_root
from edgecar.data.check import inspect_tub, repair_tub
from edgecar.data.fields import InvalidRecordError
from edgecar.data.picture import decode_image
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Tub
from edgecar.sim.client import Simulator
from edgecar.sim.protocol import pack_message
from edgecar.sim.server import ServerLimits, SimServer, serve_in_thread
from edgecar.web.arbiter import ControlArbiter
from edgecar.web.drive_page import WebPage


class Owner:
    "The actuator's process, as far as buttons are concerned."
    state = dict(armed=True, stopped=[])

    def __init__(self):
        self.said = []

    def send(self, do, **words):
        self.said.append(do)


class LoginPage(BaseHTTPRequestHandler):
    "A share whose every address leads to a page to log in with, which is answered with 200."
    def do_PUT(self):   # noqa: N802 - the name that http.server calls
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.send_response(302)
        self.send_header('Location', '/login')
        self.send_header('Content-Length', '0')
        self.end_headers()

    def do_GET(self):   # noqa: N802 - the name that http.server calls
        if self.path != '/login':
            return self.do_PUT()
        self.send_response(200)
        self.send_header('Content-Length', '5')
        self.end_headers()
        self.wfile.write(b'log in')

    do_HEAD = do_GET   # noqa: N815 - the name that http.server calls

    def log_message(self, *_):
        pass


@pytest.fixture
def login():
    "The address of a server that answers everything with a page to log in with."
    with serving(LoginPage) as address:
        yield address


def full_store(tmp_path, *names):
    "A recorder's folder with tubs in it, and no room left."
    for name in names:
        synthetic_tub(tmp_path/'tubs'/name, 5)
    return TubStore(RecordingLimits(str(tmp_path/'tubs'), budget_mb=.001, reserve_mb=0))


def remote_at(path):
    path.mkdir(exist_ok=True)
    return find_remote(str(path))


def test_finding_3_a_redirect_is_no_storage(tmp_path, login):
    store = full_store(tmp_path, 'tub_1_26-01-01')
    [tub] = store.tubs()
    with pytest.raises(EdgecarError, match='answers 302'):
        upload_tub(tub, find_remote(login))
    assert not is_uploaded(tub) and store.make_room() < 0 and store.tubs() == [tub]


def test_finding_3_a_file_of_the_same_size_is_another_file(tmp_path):
    store, remote = full_store(tmp_path, 'tub_1_26-01-01'), remote_at(tmp_path/'remote')
    [tub] = store.tubs()
    for name in tracked_files(tub):
        data = (tub/name).read_bytes()
        remote.put(remote_key(md5_hex(data)), bytes(len(data)))   # zeros, as after a power cut
    assert upload_tub(tub, remote) == len(tracked_files(tub)) and is_still_stored(tub)


def test_finding_3_a_pin_names_its_remote_which_is_asked_again(tmp_path):
    store, a, b = full_store(tmp_path, 'tub_1_26-01-01'), remote_at(tmp_path/'a'), remote_at(tmp_path/'b')
    [tub] = store.tubs()
    upload_tub(tub, a)
    assert tubs_to_upload(store.folder, a.name) == [] and tubs_to_upload(store.folder, b.name) == [tub]
    shutil.rmtree(tmp_path/'a'/'files')   # somebody emptied it
    assert store.make_room() < 0 and store.tubs() == [tub]
    upload_tub(tub, b)
    assert is_uploaded(tub, b.name)
    store.make_room()
    assert store.tubs() == []


@pytest.mark.parametrize('where', ['the tub itself', 'a tub in it', 'a name of its own'])
def test_finding_3_only_the_recorders_own_tubs_go(tmp_path, where):
    "`--tubs` that named an uploaded tub took all that lay in it."
    if where == 'a name of its own':
        store = full_store(tmp_path, 'sunday')
    else:
        store = full_store(tmp_path, 'tub_1_26-01-01')
    [tub] = store.tubs()
    if where == 'a tub in it':
        synthetic_tub(tub/'tub_2_26-01-01', 5)
    upload_tub(tub, remote_at(tmp_path/'remote'))
    if where == 'the tub itself':
        store = TubStore(RecordingLimits(str(tub), budget_mb=.001, reserve_mb=0))
    store.make_room()
    assert len(Tub(tub)) == 5 and all(t.is_dir() for t in store.tubs())


def test_finding_14_no_link_is_uploaded(tmp_path):
    (tmp_path/'key').write_text('a private key')
    tub = synthetic_tub(tmp_path/'tub', 5)
    (tub/'images/6_cam_image_array_.jpg').symlink_to(tmp_path/'key')
    remote = remote_at(tmp_path/'remote')
    with pytest.raises(EdgecarError, match='is a link'):
        upload_tub(tub, remote)
    assert not has_file(remote, md5_hex(b'a private key'), 13)


@pytest.mark.parametrize('section, name', [(s, f.name) for s in SECTIONS for f in section_fields(s)
                                           if f.type is str])
def test_finding_low_no_parameter_reaches_a_shell_as_more_than_a_text(section, name):
    "`tubs: data; reboot` was two commands, and nothing refused it."
    root = repo_root(Path(__file__).parent)
    params = yaml.safe_load((root/'params.yaml').read_text())
    for odd in ('data; reboot', '$(reboot)', '`reboot`', '"', 'a\nreboot', '\\'):
        params[section][name] = odd
        with pytest.raises(EdgecarError, match=f'{section}.{name} has .* which a shell would obey'):
            check_params(params)
    stages = yaml.safe_load((root/'dvc.yaml').read_text())['stages']
    commands = [stage['cmd'] for stage in stages.values() if f'{{{section}.{name}}}' in stage['cmd']]
    assert commands or section == 'data'
    odd = "data & reboot | x > y < z (a) # 'b' * ? ~ !"   # is passed on as it stands
    check_shell_text(name, odd)
    for command in commands:
        at = command.index(f'-p {name} ')
        given = re.search(r'-p \w+ \S+', command[at:])[0].replace(f'${{{section}.{name}}}', odd)
        done = subprocess.run(['sh', '-c', f"printf '%s\\n' {given}"], stdout=subprocess.PIPE, text=True)
        assert done.stdout.splitlines() == ['-p', name, odd]


def test_finding_low_a_token_is_not_sent_in_clear(monkeypatch):
    monkeypatch.setenv('EDGECAR_REMOTE_TOKEN', 'a secret')
    with pytest.raises(EdgecarError, match='unencrypted'):
        find_remote('http://192.0.2.1/tubs')
    assert find_remote('https://user:word@192.0.2.1/tubs').name == 'https://192.0.2.1/tubs'


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


def wheels(log):
    return [tuple(map(float, line.split()[1:])) for line in log.read_text().splitlines()]


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'too long'
        time.sleep(.002)


def test_finding_1_a_cause_that_lasts_disarms(tmp_path):
    "The car drove on by itself when the driver's link came back after six seconds."
    log = tmp_path/'wheels'
    owner = ActuatorProcess(f'mock:{log}')
    try:
        owner.send('arm')
        until(lambda: (owner.run(.1, .5), wheels(log)[-1] == (.1, .5))[1])
        end = time.monotonic() + .4   # a dip is forgiven
        until(lambda: (owner.run(.1, .5, ['link']), time.monotonic() > end)[1])
        until(lambda: (owner.run(.1, .5), wheels(log)[-1] == (.1, .5))[1])
        until(lambda: (owner.run(.1, .5, ['link']), not owner.state['armed'])[1])
        owner.send('arm')   # and nobody arms it meanwhile
        written = len(wheels(log))
        for _ in range(20):
            owner.run(.1, .5)
            time.sleep(.01)
        assert set(wheels(log)[written:]) == {(0., 0.)} and not owner.state['armed']
        owner.send('arm')
        until(lambda: (owner.run(.1, .5), wheels(log)[-1] == (.1, .5))[1])
    finally:
        owner.shutdown()


@pytest.mark.parametrize('old_ms', [0, 200, 300, 2000])
def test_finding_5_a_command_that_was_held_up_is_not_obeyed(old_ms):
    "Behind an uplink that was two seconds late the car drove on, and STOP took two seconds."
    now = 100.
    wheel, page = ControlArbiter(clock=lambda: now), 'our page'
    wheel.handle_message(page, dict(take=True, echo=100e3))
    now = 101.
    told = 101e3 - old_ms
    wheel.handle_message(page, dict(throttle=.6, angle=.1, buttons=dict(arm=True), echo=told))
    fresh = old_ms < 250
    assert wheel.tick() == ((.1, .6) if fresh else (0, 0)) + ('user', False, dict(arm=True) if fresh else {})
    assert (wheel.seen_s == 101.) == fresh   # an old one is no heartbeat: the cause is `link`
    wheel.handle_message('a spectator', dict(buttons=dict(estop=True), echo=0.))
    assert wheel.tick()[:2] == (0, 0) and wheel.driver is page   # a stop is a stop


def test_finding_6_another_process_writes_neutral_when_the_owner_is_killed(tmp_path):
    "Its last pulse stood until somebody started a new one."
    log = tmp_path/'wheels'
    vehicle = compose(Profile(actuator=f'mock:{log}', arm=True, mode='user'))
    thread = threading.Thread(target=vehicle.start, kwargs=dict(rate_hz=NO_SLEEP_HZ))
    owner = vehicle.owner
    try:
        until(lambda: log.exists() and wheels(log))
        owner.process.send_signal(signal.SIGSTOP)   # it writes nothing more
        os.write(os.open(log, os.O_WRONLY | os.O_APPEND), b'0 0.1 0.7\n')   # what it wrote last
        owner.process.kill()
        owner.process.wait()
        thread.start()
        thread.join(60)
        assert not thread.is_alive() and wheels(log)[-1] == (0., 0.)
    finally:
        vehicle.on = False
        thread.join(60)


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


@pytest.mark.parametrize('source, by, left', [
    ('page', 'page', []), ('page', 'gamepad', ['page']), ('gamepad', 'page', ['gamepad']),
    ('gamepad', 'gamepad', []), ('keyboard', 'page', []), ('signal', 'gamepad', [])])
def test_finding_7_a_stop_is_released_by_its_kind_of_source(tmp_path, source, by, left):
    "The page released a stop of any source, and with the stick held."
    owner, now = ActuatorProcess(f'mock:{tmp_path/"wheels"}'), [0.]
    panel = ButtonHandler(owner, None, StopRequests(), clock=lambda: now[0])
    button = dict(page='release', gamepad='release_gamepad')[by]
    try:
        owner.send('stop', cause=source)
        until(lambda: (owner.receive(), owner.state['stopped'])[1] == [source])
        panel.run({button: True}, ('stick',))
        owner.send('arm')
        until(lambda: (owner.run(0., 0.), owner.state['counts'].get(source))[1] == 1)
        assert owner.state['stopped'] == [source] and not owner.state['armed']
        panel.run({button: True}, ())
        until(lambda: (owner.run(0., 0.), owner.state['state'])[1] == ('stopped' if left else 'disarmed'))
        assert owner.state['stopped'] == left
    finally:
        owner.shutdown()


@pytest.mark.parametrize('refusal', [*ARMING_REFUSALS])
def test_what_refuses_to_arm_does(refusal):
    owner = Owner()
    panel = ButtonHandler(owner, None, StopRequests())
    panel.run(dict(arm=True), (refusal,))
    assert owner.said == []
    panel.run(dict(arm=True), ())
    assert owner.said == ['arm']


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


@pytest.fixture
def served():
    "A page with a token, and a function that asks it: the status, or None when it was sent away."
    page = WebPage(port=0, token='a long secret')
    thread = threading.Thread(target=page.update)
    thread.start()

    def ask(path, source='127.0.0.1', **headers):
        connection = http.client.HTTPConnection('127.0.0.1', page.port, 20, (source, 0))
        try:
            connection.request('GET', path, headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    until(lambda: ask('/drive.css') == 200)
    yield page, ask
    page.shutdown()
    thread.join(20)


def test_finding_9_a_token_is_not_guessed_by_trying(served):
    "It was 1,727 guesses a second, and none of them in the log."
    page, ask = served
    assert ask('/metrics?token=a%20long%20secret') == 200
    with_cookie = dict(Cookie=f'edgecar={page.guard.cookie}')
    assert [ask(f'/metrics?token=guess{n:05}') for n in range(25)] == [403]*25
    assert ask('/metrics?token=a%20long%20secret') == 403   # not looked at now
    assert ask('/metrics', **with_cookie) == 200            # and who was let in is not kept out
    until(lambda: ask('/metrics?token=a%20long%20secret') == 200)


def test_finding_9_idle_connections_keep_nobody_out(served):
    page, ask = served
    with ExitStack() as opened:
        idle = [opened.enter_context(socket.create_connection(('127.0.0.1', page.port))) for _ in range(100)]
        idle[-1].settimeout(20)
        assert idle[-1].recv(10) == b''   # one too many of an address
        for connection in idle[:8]:
            connection.close()
        until(lambda: ask('/drive.css') == 200)


def test_finding_9_a_thousand_guesses_are_counted_for_each_address_and_logged(served, caplog):
    "One who guesses is not looked at any more, and keeps nobody else out. His cookies are no guesses."
    page, ask = served
    assert [ask(f'/metrics?token=guess{n:05}') for n in range(1000)] == [403]*1000
    counted = [r.getMessage() for r in caplog.records if 'wrong token' in r.getMessage()]
    assert 20 <= len(counted) < 60 and counted[19] == 'a wrong token from 127.0.0.1, its number 20'
    assert 'guess0' not in caplog.text and len(caplog.records) < 100   # not even in a request's address
    assert ask('/metrics?token=a%20long%20secret', source='127.0.0.2') == 200
    others = [f'127.0.1.{n}' for n in range(1, 9)]
    assert {ask(f'/metrics?token=guess{n:05}', source=a) for a in others for n in range(20)} == {403}
    assert ask('/metrics?token=a%20long%20secret', source='127.0.0.3') == 403   # the bucket of all is empty
    guessed = hashlib.sha256(b'edgecar a long secret').hexdigest()   # what a cookie once was
    assert ask('/metrics', Cookie=f'edgecar={guessed}') == 403
    assert ask('/metrics', Cookie=f'edgecar={page.guard.cookie}') == 200


def test_finding_9_strangers_from_many_addresses_keep_nobody_out(served):
    "300 connections that say nothing: one address gets 32, all together 128, and the oldest make room."
    page, ask = served
    with ExitStack() as opened:
        def connect(source):
            return opened.enter_context(socket.create_connection(('127.0.0.1', page.port), 20, (source, 0)))

        guest = opened.enter_context(contextlib.closing(
            http.client.HTTPConnection('127.0.0.1', page.port, 20, ('127.0.0.9', 0))))
        guest.request('GET', '/metrics?token=a%20long%20secret')
        assert guest.getresponse().read() == b''
        place = guest.sock.getsockname()
        idle = [connect(f'127.0.2.{1 + n % 10}') for n in range(300)]
        assert ask('/drive.css', source='127.0.0.3') == 200
        assert idle[0].recv(10) == b''   # the oldest made room
        guest.request('GET', '/metrics?token=a%20long%20secret')   # who has shown the token keeps a place
        assert guest.getresponse().status == 200 and guest.sock.getsockname() == place


@pytest.mark.parametrize('begun', [b'', b'GET /drive HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ',
                                   b'POST /login HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 4000\r\n\r\n'],
                         ids=['nothing', 'headers', 'body'])
def test_finding_9_a_request_that_never_ends_is_ended(monkeypatch, begun):
    "Slow loris: a byte now and then kept a connection for ever."
    monkeypatch.setattr('edgecar.web.handlers.PATIENCE_S', 1)
    page = WebPage(port=0, token='a long secret')
    thread = threading.Thread(target=page.update)
    thread.start()
    try:
        with socket.create_connection(('127.0.0.1', page.port), 20) as slow:
            slow.sendall(begun)
            slow.settimeout(.1)
            began, answer = time.monotonic(), None
            while answer is None and time.monotonic() - began < 10:
                try:
                    slow.sendall(b'a' if begun else b'')
                    answer = slow.recv(1000)
                except TimeoutError:
                    continue
                except OSError:   # cut while it was sending
                    answer = b''
            assert answer is not None and time.monotonic() - began > .5
    finally:
        page.shutdown()
        thread.join(20)


@pytest.mark.parametrize('name, welcome', [('evil.example', False), ('192.168.4.1', True),
                                           ('[fe80::1]', True)])
def test_finding_9_a_foreign_name_is_refused_where_anyone_may_drive(name, welcome):
    "A web page elsewhere could have its own name lead to the car."
    assert bool(ListenGuard('0.0.0.0', anyone=True).refusal(name)) != welcome


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


BOMBS = dict(   # name -> what makes an .h5 of a few kB that would take gigabytes
    layer="net['config']['layers'][1]['config']['units'] = 2**28",
    array="del h5[kernel]; h5.create_dataset(kernel, (2**30,), 'f4', chunks=(2**16,), compression='gzip')")


@pytest.mark.slow
@pytest.mark.parametrize('bomb', BOMBS)
def test_finding_14_an_h5_takes_no_more_memory_than_its_size_explains(bomb, tmp_path):
    script = (
        'import json, resource, sys, h5py\n'
        'from edgecar.pilot.train import keras, open_model\n'
        'keras.Sequential([keras.layers.Dense(3, input_shape=(3,))]).save(sys.argv[1], save_format="h5")\n'
        'with h5py.File(sys.argv[1], "r+") as h5:\n'
        '    net, kernel = json.loads(h5.attrs["model_config"]), "model_weights/dense/dense/kernel:0"\n'
        f'    {BOMBS[bomb]}\n'
        '    h5.attrs["model_config"] = json.dumps(net)\n'
        'was = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'try: open_model(sys.argv[1])\n'
        'except Exception as e: print(type(e).__name__, e)\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - was)')
    done = subprocess.run([sys.executable, '-c', script, tmp_path/'bomb.h5'], capture_output=True, text=True)
    *_, why, kb = done.stdout.splitlines()
    assert why.startswith('EdgecarError') and 'would need 1,073,741,8' in why, done.stdout + done.stderr
    assert int(kb) < 100_000 and (tmp_path/'bomb.h5').stat().st_size < 40_000


@pytest.mark.parametrize('key, value', [('max_len', -1), ('max_len', 0), ('current_index', -3)])
def test_finding_14_a_manifest_that_counts_below_nothing_is_mended_without_a_loss(key, value, tmp_path):
    tub = synthetic_tub(tmp_path/'tub', n=30)
    manifest = tub/'manifest.json'
    *lines, last = manifest.read_text().splitlines()
    manifest.write_text('\n'.join([*lines, json.dumps(json.loads(last) | {key: value})]) + '\n')
    assert [f.kind for f in inspect_tub(tub).faults] == ['broken manifest']
    repair_tub(tub)
    assert not inspect_tub(tub).faults and len(Tub(tub)) == 30


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
    simulator = SimServer(port=0, token='a long secret', limits=limits)
    with serve_in_thread(simulator) as server, ExitStack() as open_:
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


def test_finding_15_the_token_of_a_simulator_is_not_guessed_by_trying(caplog):
    "The page and the simulator have one token, and at the second nobody counted."
    with serve_in_thread(SimServer(port=0, token='a long secret')) as server:
        def answer(source, *keys):
            with socket.create_connection(('127.0.0.1', server.port), 20, (source, 0)) as line:
                for key in keys:
                    line.sendall(pack_message('verify', private_key=key))
                line.sendall(pack_message('get_protocol_version'))
                line.shutdown(socket.SHUT_WR)
                return b''.join(iter(lambda: line.recv(1000), b''))

        assert b'verified' in answer('127.0.0.1', 'a long secret')
        assert b'verified' not in answer('127.0.0.1', *(f'guess{n:05}' for n in range(25)), 'a long secret')
        assert b'verified' in answer('127.0.0.2', 'a long secret')
    assert 'a wrong token from 127.0.0.1, its number 20' in caplog.text and 'guess0' not in caplog.text
