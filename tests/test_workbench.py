"""The image of the workbench: as any user under a read-only root, and under a real JupyterHub in Chromium."""
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.browser import Browser, needs_browser
from support.loopback import answer, free_port, free_ports, status
from support.views import mouse
from support.waiting import wait

from edgecar.core import repo_root, write_json

ROOT = repo_root(Path(__file__).parent)
PICTURES = ROOT/'_build/pictures'
pytestmark = [pytest.mark.workbench, pytest.mark.timeout(3600)]
USER, PASSWORD = 'ann', secrets.token_urlsafe(12)
HOME = '/opt/app-root/src'
OPTIONS = ['--network=host', '--ulimit=nofile=1024:1024', '--ulimit=nproc=4096:4096', '--read-only',
           '--tmpfs=/tmp', '--user=54321:0']
SCREEN = dict(width=1366, height=850, deviceScaleFactor=1, mobile=False)
GUIDE = 'nbs/guides/03_your_own_tub.ipynb'


@pytest.fixture(scope='session')
def image():
    "(podman's words, name of the image), built where something has changed."
    store = ROOT/'.cache/containers'
    if not (store/'storage').is_dir():
        pytest.fail('there is no image -> make test-workbench')
    return ['podman', '--root', str(store/'storage'), '--runroot', str(store/'run'), '--runtime=runc'], (
        'localhost/edgecar/workbench')


@pytest.fixture
def home(tmp_path):
    "A folder as a volume is: of nobody in particular, writable for group 0."
    folder = tmp_path/'home'
    folder.mkdir()
    folder.chmod(0o775)
    return folder


def podman(words, *more):
    return subprocess.run([*words, *more], capture_output=True, text=True)


# --- the image

def test_its_configuration_is_what_platforms_ask_for(image):
    words, name = image
    said = podman(words, 'image', 'inspect', name)
    assert said.returncode == 0, said.stderr
    [about] = json.loads(said.stdout)
    assert about['Config']['User'] == '1001' and '8888/tcp' in about['Config']['ExposedPorts']
    assert not [line for line in about['Config']['Env'] if line.startswith('PIP_INDEX_URL')]
    print(json.dumps(dict(workbench_mb=round(about['Size']/1e6))))
    check = ("import sys, os, shutil; import jupyterhub, jupyterlab, jupyterlab_git, jupyter_server_proxy; "
             "assert sys.version_info[:2] == (3, 11) and os.access(os.environ['HOME'], os.W_OK); "
             "print(os.getuid(), os.getgid(), shutil.which('start-singleuser.sh'))")
    options = [o for o in OPTIONS if o != '--read-only']
    done = podman(words, 'run', '--rm', *options, name, 'python', '-c', check)
    assert done.stdout.split() == ['54321', '0', '/opt/edgecar/bin/start-singleuser.sh'], done.stderr


def test_any_user_under_a_read_only_root_serves_under_its_prefix(image, home):
    words, name = image
    port, container = free_port(), f'workbench-{secrets.token_hex(4)}'
    token, began = secrets.token_hex(16), time.monotonic()
    try:
        started = podman(words, 'run', '--detach', f'--name={container}', *OPTIONS, f'--volume={home}:{HOME}',
                         '--env=NB_PREFIX=/notebook/club/ann',
                         f'--env=NOTEBOOK_ARGS=--ServerApp.port={port} --ServerApp.ip=127.0.0.1 '
                         f'--IdentityProvider.token={token}', name)
        assert started.returncode == 0, started.stderr
        wait(lambda: status(port, '/notebook/club/ann/api') == 200, 300,
             lambda: podman(words, 'logs', container).stderr[-3000:], .2)
        print(json.dumps(dict(seconds_to_lab=round(time.monotonic() - began, 1))))
        assert json.loads(answer(port, '/notebook/club/ann/api')[1])['version']
        assert status(port, '/notebook/club/ann/api/contents') == 403, 'nothing without the token'
        there = answer(port, '/notebook/club/ann/api/contents/nbs', Authorization=f'token {token}')
        assert 'index.ipynb' in {entry['name'] for entry in json.loads(there[1])['content']}
        assert status(port, '/api') == 404
    finally:
        podman(words, 'rm', '--force', '--time=10', container)


# --- under a hub

@pytest.fixture(scope='session')
def hub(image, tmp_path_factory):
    "The address of a JupyterHub that starts the image, and the log of it."
    words, name = image
    made = subprocess.run([ROOT/'scripts/hub-tools'], capture_output=True, text=True, check=True)
    tools = made.stdout.strip()
    folder, container = tmp_path_factory.mktemp('hub'), f'workbench-{secrets.token_hex(4)}'
    home = folder/'home'
    home.mkdir()
    home.chmod(0o775)
    public, inner, proxy = free_ports(3)
    write_json(folder/'hub.json', dict(
        podman=words, image=name, name=container, folder=str(folder), user=USER, password=PASSWORD,
        options=['--detach', f'--name={container}', *OPTIONS, f'--volume={home}:{HOME}'],
        arguments=['--LabApp.expose_app_in_browser=True'], url=f'http://127.0.0.1:{public}',
        hub_url=f'http://127.0.0.1:{inner}', proxy_url=f'http://127.0.0.1:{proxy}',
        proxy=[f'{tools}/node_modules/.bin/configurable-http-proxy']))
    env = {key: value for key, value in os.environ.items() if not key.startswith('JUPYTER')}
    env |= {'EDGECAR_TEST_HUB': str(folder/'hub.json'), 'PATH': f'{tools}/bin:{env["PATH"]}'}
    log = folder/'log'
    process = subprocess.Popen([f'{tools}/bin/jupyterhub', '-f', ROOT/'tests/workbench/jupyterhub_config.py'],
                               cwd=folder, env=env, stdout=log.open('w'), stderr=subprocess.STDOUT)
    try:
        wait(lambda: process.poll() is not None or status(public, '/hub/login') == 200, 120,
             lambda: log.read_text()[-3000:], .2)
        assert process.poll() is None, log.read_text()[-3000:]
        yield public, folder, lambda: podman(words, 'logs', container)
    finally:
        process.send_signal(signal.SIGTERM)   # the hub stops the container and its proxy
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            podman(words, 'rm', '--force', '--time=10', container)
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope='session')
def lab(hub, tmp_path_factory):
    "A browser in which a person has logged in and waits for JupyterLab; and the address of that."
    port, folder, _ = hub
    browser = Browser(tmp_path_factory.mktemp('browser'))
    try:
        browser.ask('Emulation.setDeviceMetricsOverride', **SCREEN)
        browser.ask('Page.navigate', url=f'http://127.0.0.1:{port}/hub/login')
        browser.wait("!!document.querySelector('#username_input')")
        began = time.monotonic()
        for selector, text in (('#username_input', USER), ('#password_input', PASSWORD)):
            browser.value(f"document.querySelector('{selector}').focus()")
            browser.ask('Input.insertText', text=text)
        click(browser, '#login_submit')
        browser.wait("!!window.jupyterapp && document.querySelectorAll('.jp-DirListing-item').length > 5",
                     400)
        print(json.dumps(dict(seconds_from_login_to_lab=round(time.monotonic() - began, 1))))
        yield browser, f'http://127.0.0.1:{port}/user/{USER}'
    finally:
        browser.close()


def click(browser, selector):
    "Click on the middle of an element."
    x, y, width, height = json.loads(browser.value(
        f'(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); '
        'return JSON.stringify([b.x, b.y, b.width, b.height]) })()'))
    mouse(browser, 'Pressed', x + width/2, y + height/2)
    mouse(browser, 'Released', x + width/2, y + height/2, 0)


@contextlib.contextmanager
def tab(browser, url):
    "Open an address in a tab of its own, as a tile does, for a `with` block. Its server may take a while."
    lab = browser.session
    target = browser.ask('Target.createTarget', url=url)['targetId']
    browser.session = browser.ask('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    try:
        browser.ask('Emulation.setDeviceMetricsOverride', **SCREEN)
        yield
    finally:
        browser.session = lab
        browser.ask('Target.closeTarget', targetId=target)


def picture(browser, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    browser.picture().save(PICTURES/f'workbench_{name}.png')


@needs_browser
def test_the_file_browser_opens_at_the_notebooks_and_tiles_are_there(lab):
    browser, _ = lab
    browser.wait("[...document.querySelectorAll('.jp-DirListing-itemName')]"
                 ".some(e => e.textContent == 'guides')")
    browser.wait("['The twin', 'Drive'].every("
                 "title => [...document.querySelectorAll('.jp-LauncherCard-label')]"
                 ".some(e => e.textContent.startsWith(title)))")
    browser.wait("[...document.querySelectorAll('.jp-LauncherCard img')]"
                 ".filter(image => image.src.includes('server-proxy') && image.naturalWidth).length == 2")
    assert browser.value("!!document.querySelector('[data-id=\"jp-git-sessions\"]')"), 'the panel of git'
    browser.wait("[...document.querySelectorAll('#jp-bottom-panel, .jp-StatusBar-Widget')]"
                 ".some(e => /Mem/.test(e.textContent))")
    picture(browser, 'launcher')


@needs_browser
def test_a_guide_runs_to_its_end_and_shows_its_plots(lab, hub):
    browser, _ = lab
    _, folder, logs = hub
    wait((folder/'home/edgecar/data/01_donkey/manifest.json').is_file, 300, lambda: logs().stderr[-2000:], .2)
    browser.value(f"void jupyterapp.commands.execute('docmanager:open', {{path: '{GUIDE}'}})")
    browser.wait("!!document.querySelector('.jp-Notebook .jp-CodeCell')")
    kernel = 'jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel'
    browser.wait(f"{kernel}?.connectionStatus == 'connected' && {kernel}.status == 'idle'", 120)
    browser.value("window.ran = null; jupyterapp.commands.execute('notebook:run-all-cells')"
                  ".then(done => { window.ran = String(done) })")
    browser.wait('window.ran', 240)
    cells = "[...jupyterapp.shell.currentWidget.content.widgets].filter(c => c.model.type == 'code')"
    assert browser.value(f'{cells}.every(c => c.model.executionCount > 0)'), 'a cell did not run'
    assert not browser.value(f"{cells}.some(c => c.model.outputs.toJSON()"
                             ".some(o => o.output_type == 'error'))")
    browser.wait("[...document.querySelectorAll('.jp-RenderedImage img, .jp-OutputArea-output img')]"
                 ".filter(image => image.naturalWidth > 100).length >= 1")
    browser.value("document.querySelector('.jp-OutputArea-output img').scrollIntoView({block: 'center'})")
    picture(browser, 'guide')


@needs_browser
@pytest.mark.parametrize('tile, path, ready', [
    ('twin', 'twin/', "[...document.images, ...document.querySelectorAll('canvas')].length > 0"),
    ('car', 'car/drive', "document.body.textContent.includes('STOP')")])
def test_a_page_opens_through_the_proxy(lab, hub, tile, path, ready):
    browser, home = lab
    with tab(browser, f'{home}/{path}'):
        browser.wait(f"location.href.includes('{path}') && document.readyState == 'complete'", 180)
        browser.wait(ready)
        browser.wait("!!document.getElementById('link') && document.body.className === ''", 60)
        assert 'token' not in browser.value('location.href')
        picture(browser, tile)


@needs_browser
def test_the_guards_hold_behind_the_proxy(lab, hub):
    "A stranger is asked who he is; a page of another origin may not post; no log has a token."
    browser, home = lab
    port, _, logs = hub
    for path in ('twin/', 'car/drive'):
        assert status(port, f'/user/{USER}/{path}') in (302, 403), 'without a login'
    cookies = browser.ask('Network.getCookies', urls=[f'{home}/'])['cookies']
    mine = '; '.join(f'{c["name"]}={c["value"]}' for c in cookies)
    assert status(port, f'/user/{USER}/car/drive', Cookie=mine) == 200
    assert status(port, f'/user/{USER}/car/drive', Cookie=mine, Origin='http://evil.example') == 403
    said = logs()
    assert 'token=' not in said.stdout + said.stderr
