"""Every control of the page, in a real browser, against a real `edgecar drive` and a real
`edgecar sim serve`; and a connection that is cut."""
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.browser import at, browsing, click, key, mouse, open_page, says
from support.line import Line
from support.waiting import wait

from edgecar.data.check import find_faults
from edgecar.data.tub import Tub, find_tubs

EDGECAR = str(Path(sys.prefix)/'bin/edgecar')
PAD = ('window.pad = null; navigator.getGamepads = () => [window.pad]; '
       'window.hold = (axes, down) => { window.pad = axes && { connected: true, axes, '
       'buttons: [0, 1, 2, 3, 4, 5, 6, 7].map(n => ({ pressed: n === down, value: 0 })) } }')


@pytest.fixture(scope='module')
def models(tmp_path_factory, tf):
    """Pilots that always say the same, each in a folder: one that was released,
    one of which nothing is known, one that is not what its manifest names."""
    keras, layers, made = tf.keras, tf.keras.layers, {}
    for name, angle in dict(left=-.5, right=.5, other=0.).items():
        frame = keras.Input((120, 160, 3), name='frame')
        x = layers.Flatten()(layers.AveragePooling2D(40)(frame))
        net = keras.Model(frame, [
            layers.Dense(1, kernel_initializer='zeros', bias_initializer=keras.initializers.Constant(v),
                         name=f'n_outputs{n}')(x)
            for n, v in enumerate((angle, .2))])
        path = made[name] = tmp_path_factory.mktemp(name)/f'{name}.tflite'
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())
    digest = hashlib.sha256(made['left'].read_bytes()).hexdigest()
    for name in ('left', 'other'):
        gate = dict(passed=True, rules=[dict(rule='clean', kind='least', bound=.95, found=1.)])
        (made[name].parent/'manifest.json').write_text(
            json.dumps(dict(schema=1, pilot=dict(sha256=digest), gate=gate)))
    return list(made.values()), digest


class Process:
    "A command, of which the first lines are read."
    def __init__(self, *words, lines, cwd):
        self.process = subprocess.Popen([EDGECAR, *map(str, words)], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, cwd=cwd,
                                        env={**os.environ, 'PYTHONUNBUFFERED': '1'})
        self.lines = [self.process.stdout.readline() for _ in range(lines)]

    def end(self):
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def car(tmp_path, models):
    sim = Process('sim', 'serve', '--port', 0, '--page-port', 0, lines=2, cwd=tmp_path)
    port = int(sim.lines[0].split(':')[2].split(',')[0])
    try:
        drive = Process('drive', '--profile', 'twin', '--port', port, '--scene', 'club',
                        '--actuator', f'twin:{tmp_path/"wheels"}', '--page-port', 0,
                        '--tubs', tmp_path/'tubs', '--reserve-mb', 0,
                        *[w for m in models[0] for w in ('--model', m)], lines=1, cwd=tmp_path)
        drive.url, drive.tubs = drive.lines[0].split()[0], tmp_path/'tubs'
        drive.port = int(drive.url.split(':')[2].split('/')[0])
        drive.wheels = lambda: tuple(map(float, (tmp_path/'wheels').read_text().splitlines()[-1].split()[1:]))
        try:
            yield drive
        finally:
            drive.end()
    finally:
        sim.end()


def status(browser, name):   # noqa: F811
    return browser.value(f'latest.status.{name}')


def begin(browser, car):   # noqa: F811
    click(browser, 'take')
    says(browser, 'who', 'you drive')
    browser.wait("!document.getElementById('arm').disabled")
    click(browser, 'arm')
    says(browser, 'armed', 'armed')
    wait(lambda: car.wheels() == (0, 0))

def choose(browser, name):   # noqa: F811
    browser.value(f"(() => {{ const l = document.getElementById('models'); l.value = '{name}'; "
                  f"l.dispatchEvent(new Event('change')) }})()")
    click(browser, 'load')


@browsing
def test_every_control_drives_the_twin(browser, car, models, tmp_path):   # noqa: F811
    browser.ask('Page.addScriptToEvaluateOnNewDocument', source=PAD)
    open_page(browser, car.url)
    browser.wait("document.getElementById('camera').width == 160 && "
                 "!document.getElementById('map-card').hidden && latest.status.loop_hz > 1")
    assert browser.value(
        "document.getElementById('driving').disabled && !document.getElementById('estop').disabled")
    begin(browser, car)

    x, y = at(browser, 'pad')                                                        # the mouse
    mouse(browser, 'Pressed', x, y)
    mouse(browser, 'Moved', x + 20, y - 40)
    wait(lambda: car.wheels()[0] > .1 and car.wheels()[1] > .3)
    browser.wait('latest.status.speed_m_s > .1')
    mouse(browser, 'Released', x + 20, y - 40, 0)
    wait(lambda: car.wheels() == (0, 0))
    for code, sign in (('ArrowLeft', -1), ('KeyL', 1)):                              # keys
        key(browser, code, True)
        wait(lambda: car.wheels()[0]*sign > .3)
        key(browser, code, False)
        wait(lambda: car.wheels()[0] == 0)
    browser.value('hold([.5, 0, 0, -.8], -1)')                                       # a gamepad
    wait(lambda: car.wheels() == (.5, .8))
    browser.value("(() => { const l = document.getElementById('limit'); l.value = .25; "
                  "l.dispatchEvent(new Event('input')) })()")
    wait(lambda: car.wheels() == (.5, .2))   # of which there is a quarter

    click(browser, 'record')
    browser.wait("latest.status.recording && latest.status.records > 20 && "
                 "+document.getElementById('records').textContent > 20 && "
                 "document.getElementById('disk').textContent.endsWith('left')")
    browser.value('hold([0, 0, 0, 0], 3)')                                           # its button ends it
    browser.wait('!latest.status.recording')
    time.sleep(.5)   # until all is written that waits
    had = status(browser, 'records')
    browser.value("document.getElementById('erase-n').value = 7")
    click(browser, 'erase')
    browser.wait(f'latest.status.records === {had - 7}')
    assert sum(len(Tub(t)) for t in find_tubs(car.tubs)) == had - 7

    browser.value('hold(null)')
    browser.value(r"document.querySelector('[data-mode=local]').click()")            # the pilot
    wait(lambda: car.wheels() == (-.5, .2))
    says(browser, 'mode-now', 'pilot drives')
    assert (models[1][:12] in browser.value("document.getElementById('model').textContent")
            and browser.value("document.getElementById('gate').textContent") == 'gatepassedclean1 (≥ 0.95)')
    browser.picture().save(tmp_path/'drives.png')
    choose(browser, 'right.tflite')   # another, while it drives
    wait(lambda: car.wheels() == (.5, .2))
    browser.wait("document.getElementById('gate').textContent === 'gateno manifest'")
    choose(browser, 'other.tflite')   # one that is not what was released
    browser.wait("document.getElementById('faults').textContent.includes('not the released')")
    assert status(browser, 'model.name') == 'right.tflite' and car.wheels() == (.5, .2)
    key(browser, 'KeyS', True)
    key(browser, 'KeyS', False)
    says(browser, 'mode-now', 'pilot steers')
    wait(lambda: car.wheels() == (.5, 0))
    key(browser, 'KeyA', True)
    key(browser, 'KeyA', False)
    wait(lambda: car.wheels() == (.5, .2))

    for stop in (lambda: click(browser, 'estop'),
                 lambda: (key(browser, 'Space', True), key(browser, 'Space', False)),
                 lambda: browser.value('hold([0, 0, 0, 0], 1)')):
        stop()
        wait(lambda: car.wheels() == (0, 0))
        says(browser, 'armed', 'disarmed')
        browser.wait("!document.getElementById('banner').hidden && "
                     "document.getElementById('arm').disabled && latest.status.latched[0] === 'page'")
        browser.picture().save(tmp_path/'stopped.png')
        browser.value('hold(null)')
        time.sleep(.6)   # nothing is released for half a second
        click(browser, 'release')
        browser.wait("!document.getElementById('arm').disabled && document.getElementById('banner').hidden")
        assert car.wheels() == (0, 0)   # to release is not to arm
        click(browser, 'arm')
        wait(lambda: car.wheels() == (.5, .2))
    assert browser.value("document.getElementById('faults').textContent.includes('a stop on the page3')")
    click(browser, 'take')
    says(browser, 'who', 'nobody drives')
    assert not browser.said, browser.said
    assert car.end() == 0 and car.wheels() == (0, 0)
    assert [f for t in find_tubs(car.tubs) for f in find_faults(t)] == []


@browsing
def test_a_phone_drives_until_its_line_is_cut(browser, car, tmp_path):   # noqa: F811
    line = Line(car.port)
    try:
        open_page(browser, f'http://127.0.0.1:{line.port}/drive', 390, 844, phone=True)
        browser.wait('latest.status.loop_hz > 1')
        begin(browser, car)
        x, y = at(browser, 'pad')
        def touch(kind, *points):
            return browser.ask(
                'Input.dispatchTouchEvent', type=f'touch{kind}',
                touchPoints=[dict(x=x, y=y) for x, y in points])
        touch('Start', (x, y))
        touch('Move', (x + 12, y - 30))
        wait(lambda: car.wheels()[0] > .1 and car.wheels()[1] > .3)
        browser.picture().save(tmp_path/'phone.png')
        line.whole.clear()
        cut = time.monotonic()
        wait(lambda: car.wheels() == (0, 0), 2)
        assert time.monotonic() - cut < 1   # how soon, measures benchmarks/drive.py
        browser.wait("document.body.className == 'off' && document.getElementById('driving').disabled", 5)
        says(browser, 'link', 'not connected')
        touch('End')
        line.whole.set()
        says(browser, 'who', 'you drive')
        browser.wait('latest.status.faults.link > 0')
        assert car.wheels() == (0, 0)
    finally:
        line.close()
