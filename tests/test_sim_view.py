"""The page of the simulator in a real browser: it fills, moves, changes cars,
and finds a simulator that was away."""
import asyncio

import numpy as np
import pytest
from support.browser import needs_browser

from edgecar.sim.client import Simulator
from edgecar.sim.server import SimServer, serve_in_thread
from edgecar.web.twin_page import ViewServer

pytestmark = [pytest.mark.slow, needs_browser]


def run(server, coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, server.loop).result(10)


def test_the_page_shows_cars_and_finds_a_simulator_again(browser, tmp_path):
    with serve_in_thread(SimServer(port=0, scene='club')) as server:
        view = ViewServer(server, port=0)
        run(server, view.start())
        browser.ask('Page.navigate', url=view.url)
        browser.wait("document.getElementById('state')?.className == 'on'")
        colour = dict(body_style='donkey', body_r=40, body_g=90, body_b=220)
        with (Simulator(port=server.port, car=dict(colour, car_name='<b>blue</b>')) as blue,
              Simulator(port=server.port, car=dict(colour, car_name='second')) as second):
            for _ in range(60):
                blue.step(-.05, .25)
                second.step(0., .1)
            browser.wait("document.querySelectorAll('#cars tr').length == 2 && "
                         "document.getElementById('camera').naturalWidth == 160")
            # a name is no markup
            assert browser.value("document.querySelector('#cars tr').cells[1].textContent") == '<b>blue</b>'
            browser.wait("+document.querySelector('#cars tr').cells[6].textContent >= 10")
            first = browser.picture()
            first.save(tmp_path/'page.png')
            browser.value("document.querySelectorAll('#cars tr')[1].click()")
            browser.wait("document.getElementById('whose').textContent == 'second sees'")
            def pixels(canvas):
                return browser.value(
                    f"(() => {{ const c = document.getElementById('{canvas}'), "
                    "d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; "
                    "return [...new Uint32Array(d.buffer)]"
                    ".filter((x, i, a) => i && x != a[i - 1]).length }})()"
                    .replace('}})()', '})()'))
            assert pixels('map') > 500 and pixels('cte') > 50 and pixels('speed') > 50
        assert len(np.unique(np.asarray(first).reshape(-1, 3), axis=0)) > 500
        browser.wait("document.querySelectorAll('#cars tr').length == 0")
        port = view.port
        run(server, view.close())
    browser.wait("document.getElementById('state').className == 'off'")
    with serve_in_thread(SimServer(port=0)) as server:
        view = ViewServer(server, port=port)
        run(server, view.start())
        browser.wait("document.getElementById('state').className == 'on'")
        run(server, view.close())
    assert not [s for s in browser.said if 'WebSocket' not in s], browser.said  # nothing but that it was away


def test_finding_low_the_token_leaves_the_address_bar(browser):
    with serve_in_thread(SimServer(port=0, scene='club', token='a long secret')) as server:
        view = ViewServer(server, port=0, token='a long secret')
        run(server, view.start())
        browser.ask('Page.navigate', url=view.url)
        browser.wait("document.getElementById('state')?.className == 'on'")
        assert browser.value('location.href') == view.url.partition('?')[0]
        assert 'edgecar' not in browser.value('document.cookie')   # no script reads it
        browser.ask('Page.navigate', url='about:blank')
        browser.ask('Page.navigate', url=view.url.partition('?')[0])   # the cookie is enough
        browser.wait("document.getElementById('state')?.className == 'on'")
        run(server, view.close())


def test_a_page_from_elsewhere_hears_nothing(browser):
    with serve_in_thread(SimServer(port=0)) as server:
        view = ViewServer(server, port=0)
        run(server, view.start())
        browser.ask('Page.navigate', url='data:text/html,<title>elsewhere</title>')
        browser.value(
            f"window.heard = 'nothing yet'; const s = new WebSocket('ws://127.0.0.1:{view.port}/ws'); "
            "s.onopen = () => heard = 'open'; s.onclose = s.onerror = () => heard = 'refused'")
        browser.wait("heard != 'nothing yet'")
        assert browser.value('heard') == 'refused' and not view.feeds
        run(server, view.close())
