"The tub manager in a real browser: by mouse and by keyboard, with what it does to the tub on the disk."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.browser import Browser, needs_browser
from support.views import box, click, drag, long_tub, press, served

from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Tub, delete_records
from edgecar.widgets.tub_manager import TubManager

pytestmark = [pytest.mark.slow, needs_browser]
ROOT = ".edgecar-widget"
PLACE = f"+document.querySelector('{ROOT}').dataset.place"
COUNTS = "document.querySelector('.counts').textContent"
NOTE = "document.querySelector('.note').textContent"


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp('browser'))
    yield browser
    try:
        browser.close()
    finally:
        browser.process.kill()
        browser.process.wait()


def show(browser, page):
    "Open a page, and wait for its first frame."
    browser.said.clear()
    browser.ask('Page.navigate', url=page.url)
    browser.wait(f"document.querySelector('{ROOT}')?.dataset.place == '0'")


def at(browser, place):
    browser.wait(f'{PLACE} == {place}', 10)


def test_widget_tub_by_keyboard(browser, tmp_path):
    path = synthetic_tub(tmp_path/'tub', n=300)
    delete_records(path, [100])
    with served(TubManager(tmp_path)) as page:
        show(browser, page)
        assert browser.value('location.href') == page.url.partition('?')[0]   # the token is in a cookie now
        press(browser, 'ArrowRight')
        at(browser, 1)
        press(browser, 'ArrowRight', shift=True)
        at(browser, 11)
        press(browser, 'PageDown')
        at(browser, 111)
        press(browser, 'End')
        at(browser, 299)
        press(browser, 'Home')
        at(browser, 0)
        press(browser, '[')
        for _ in range(2):
            press(browser, 'ArrowRight', shift=True)
        at(browser, 20)
        press(browser, ']')
        browser.wait(f"{COUNTS} == '300 records, 1 deleted, 21 selected (0–20)'")
        press(browser, 'Delete')
        browser.wait(f"{NOTE} == '21 deleted'")
        assert sorted(Tub(path).deleted) == [*range(21), 100]
        press(browser, 'u')
        browser.wait(f"{NOTE} == '21 restored'")
        assert sorted(Tub(path).deleted) == [100]
        press(browser, 'Escape')
        press(browser, '/')
        browser.ask('Input.insertText', text='index >= 90 and index < 110')
        press(browser, 'Enter')
        browser.wait(f"{COUNTS}.endsWith('20 selected (90–109)')")
        at(browser, 90)
        press(browser, 'r')
        browser.wait(f"{NOTE} == '1 restored'")
        assert not Tub(path).deleted
        press(browser, ' ')
        browser.wait(f'{PLACE} > 95')
        press(browser, ' ')
        assert not browser.said


def test_widget_tub_by_mouse(browser, tmp_path):
    path = synthetic_tub(tmp_path/'tub', n=300)
    with served(TubManager(path, pixels=True)) as page:
        show(browser, page)
        click(browser, '.whole', across=.5)
        at(browser, 150)
        drag(browser, '.whole', .1, .2, .3)
        at(browser, 90)
        drag(browser, '.whole', .5, .55, .6, shift=True)
        browser.wait(f"{COUNTS}.endsWith('31 selected (150–180)')")
        click(browser, '[data-act=delete]')
        browser.wait(f"{NOTE} == '31 deleted'")
        assert sorted(Tub(path).deleted) == [*range(150, 181)]
        captions = "document.querySelector('.know figcaption').textContent"
        browser.wait(f"{captions}.startsWith('steering: 300 recorded, 269 left')")
        click(browser, '[data-act=undo]')
        browser.wait(f"{NOTE} == '31 restored'")
        assert not Tub(path).deleted
        click(browser, '[data-act=undo]')
        browser.wait(f"{NOTE} == 'there is nothing to undo'")


def test_widget_tub_shows_what_the_check_finds(browser, tmp_path):
    path = synthetic_tub(tmp_path/'tub', n=200)
    (path/'images/70_cam_image_array_.jpg').write_bytes(b'no picture')
    (path/'images/140_cam_image_array_.jpg').unlink()
    with served(TubManager(path, pixels=True)) as page:
        show(browser, page)
        press(browser, 'v')
        browser.wait("document.querySelectorAll('.faults li button').length == 2")
        press(browser, 'n')
        at(browser, 70)
        click(browser, '.faults details:nth-of-type(2) li button')
        at(browser, 140)
        click(browser, '.find input')
        browser.ask('Input.insertText', text="__import__('os')")
        press(browser, 'Enter')
        browser.wait(f"{NOTE}.includes('is not allowed')")
        browser.picture().save(tmp_path/'faults.png')
        print(tmp_path/'faults.png')


def test_widget_tub_of_100_000_records_stays_fluent(browser, tmp_path):
    path = long_tub(tmp_path/'tub', 100_000)
    with served(TubManager(path, pixels=True)) as page:
        show(browser, page)
        browser.wait(f"{COUNTS} == '100,000 records, 0 deleted'")
        x, y, width, height = box(browser, '.whole')
        start = time.monotonic()
        drag(browser, '.whole', *[n/60 for n in range(60)])
        at(browser, 98333)
        assert time.monotonic() - start < 6, 'an event of a mouse every 100 ms, at least'
        click(browser, '.find input')
        browser.ask('Input.insertText', text='abs(steering) > .99 and mode == "user"')
        press(browser, 'Enter')
        browser.wait(f"/[1-9],[0-9]+ selected/.test({COUNTS})", 20)
        press(browser, 'Delete')
        browser.wait(f"{NOTE}.endsWith(' deleted')", 20)
        assert len(Tub(path).deleted) > 5000
        browser.picture().save(tmp_path/'long.png')
        print(tmp_path/'long.png')


def test_widget_tub_from_the_command_line_asks_for_the_token(browser, tmp_path):
    synthetic_tub(tmp_path/'tub', n=20)
    command = [Path(sys.prefix)/'bin/edgecar', 'tub', 'manage', tmp_path/'tub']
    with subprocess.Popen(command, env=dict(os.environ, EDGECAR_TOKEN='long enough'), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            address = process.stdout.readline().removeprefix('page: ').partition(', ctrl-C')[0]
            assert address.startswith('http://127.0.0.1:') and 'token' not in address   # this is no terminal
            browser.ask('Page.navigate', url=f'{address}?token=wrong')
            browser.wait("!!document.getElementById('away')")
            browser.ask('Page.navigate', url=f'{address}?token=long%20enough')
            browser.wait(f"{COUNTS.replace(').', ')?.')} == '20 records, 0 deleted'")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            browser.wait("!!document.getElementById('away')")   # the page says so, and looks for it
        finally:
            process.kill()
