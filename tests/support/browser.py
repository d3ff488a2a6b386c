"A headless Chromium: opened, driven with mouse and keys, read."
import base64
import json
import os
import shutil
import subprocess
import threading
import time
from io import BytesIO

import pytest
import websocket
from PIL import Image

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
needs_browser = pytest.mark.skipif(not BROWSER and not os.environ.get('CI'),
                                   reason='no Chromium (Debian: apt-get install chromium)')


def browsing(test):
    return pytest.mark.slow(pytest.mark.timed(needs_browser(test)))


class Browser:
    "A headless Chromium, spoken to by its DevTools protocol."
    def __init__(self, folder, *options):
        self.process = subprocess.Popen(
            [BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
             '--no-first-run', '--hide-scrollbars', '--remote-debugging-port=0', f'--user-data-dir={folder}',
             '--window-size=1200,900', *options, 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if 'DevTools listening on ' in line:
                break
        self.drain = threading.Thread(target=lambda: [None for _ in self.process.stderr])
        self.drain.start()
        self.line, self.number, self.said = (
            websocket.create_connection(line.split(' on ')[1].strip(), suppress_origin=True, timeout=60),
            0, [])
        target = self.ask('Target.createTarget', url='about:blank')['targetId']
        self.session = self.ask('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log'):
            self.ask(f'{domain}.enable')

    def ask(self, method, **params):
        self.number += 1
        self.line.send(json.dumps(
            dict(id=self.number, method=method, params=params,
                 **({'sessionId': self.session} if hasattr(self, 'session') else {}))))
        while (m := json.loads(self.line.recv())).get('id') != self.number:
            if m.get('method') in ('Runtime.exceptionThrown', 'Log.entryAdded'):
                self.said.append(json.dumps(m['params'])[:300])
        assert 'error' not in m, m
        return m['result']

    def value(self, code):
        return self.ask('Runtime.evaluate', expression=code, returnByValue=True)['result'].get('value')

    def wait(self, code, seconds=60):
        until = time.monotonic() + seconds
        while not self.value(code):
            assert time.monotonic() < until, f'never: {code}; the page said {self.said}'
            time.sleep(.05)

    def picture(self):
        return Image.open(BytesIO(base64.b64decode(
            self.ask('Page.captureScreenshot', format='png')['data']))).convert('RGB')

    def close(self):
        self.ask('Browser.close')
        self.line.close()
        self.process.wait(30)
        self.drain.join(10)


def at(browser, id):
    "The middle of an element, on the screen, once it rests."
    browser.value(f"document.getElementById('{id}').scrollIntoView({{block: 'center'}})")
    place = None
    while place != (place := browser.value(
            f"(() => {{ const b = document.getElementById('{id}').getBoundingClientRect(); "
            f"return [b.x + b.width/2, b.y + b.height/2] }})()")):
        time.sleep(.05)
    return place


def mouse(browser, kind, x, y, buttons=1):
    browser.ask('Input.dispatchMouseEvent', type=f'mouse{kind}', x=x, y=y, button='left', buttons=buttons,
                clickCount=int(kind != 'Moved'))


def click(browser, id):
    x, y = at(browser, id)
    mouse(browser, 'Pressed', x, y)
    mouse(browser, 'Released', x, y, 0)


def key(browser, code, down):
    browser.ask('Input.dispatchKeyEvent', type='rawKeyDown' if down else 'keyUp', code=code, key=code,
                windowsVirtualKeyCode=0)


def says(browser, id, words):
    browser.wait(f"document.getElementById('{id}').textContent == {json.dumps(words)}")


def open_page(browser, url, width=1200, height=900, phone=False):
    browser.ask('Emulation.setDeviceMetricsOverride', width=width, height=height,
                deviceScaleFactor=2 if phone else 1, mobile=phone)
    browser.ask('Emulation.setTouchEmulationEnabled', enabled=phone)
    browser.ask('Page.navigate', url=url)
    browser.wait(f"location.href.startsWith({json.dumps(url.split('?')[0])}) && "
                 "!!document.getElementById('link') && document.body.className === ''")
