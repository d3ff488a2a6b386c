"The tub manager in JupyterLab: a cell shows it, the kernel answers, and the notebook gets none of its keys."
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.browser import needs_browser
from support.loopback import free_port
from support.views import click, press

from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import Tub

pytestmark = [pytest.mark.slow, needs_browser]
TOKEN = secrets.token_hex(16)
COUNTS = "document.querySelector('.edgecar-widget .counts')?.textContent"
PLACE = "+document.querySelector('.edgecar-widget').dataset.place"


@pytest.fixture
def lab(tmp_path):
    "The address of a JupyterLab in a folder with a notebook, which shows the tub `tub`."
    code = "from edgecar.widgets.widget import tub_widget\ntub_widget('tub')"
    cell = dict(cell_type='code', id='a', metadata={}, source=code, outputs=[], execution_count=None)
    kernel = dict(name='python3', display_name='Python 3', language='python')
    notebook = dict(cells=[cell], metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)
    (tmp_path/'look.ipynb').write_text(json.dumps(notebook))
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith('JUPYTER')}
    env |= {f'JUPYTER_{what}_DIR': str(tmp_path/what) for what in ('CONFIG', 'RUNTIME')}
    process = subprocess.Popen(
        [Path(sys.prefix)/'bin/jupyter-lab', '--no-browser', f'--port={port}', '--ip=127.0.0.1',
         '--allow-root', f'--IdentityProvider.token={TOKEN}', '--LabApp.expose_app_in_browser=True',
         '--LabApp.news_url=', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'],
        cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=(tmp_path/'log').open('w'))
    try:
        until = time.monotonic() + 60
        while 'is running at' not in (tmp_path/'log').read_text():
            assert process.poll() is None and time.monotonic() < until, (tmp_path/'log').read_text()[-2000:]
            time.sleep(.1)
        yield f'http://127.0.0.1:{port}/lab/tree/look.ipynb?token={TOKEN}'
    finally:
        process.terminate()   # it stops its kernels, too
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def test_widget_in_jupyterlab(lab, browser, tmp_path):
    path = synthetic_tub(tmp_path/'tub', n=100)
    browser.ask('Page.navigate', url=lab)
    browser.wait("!!(document.querySelector('.jp-Notebook .jp-CodeCell') && window.jupyterapp)")
    kernel = 'jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel'
    browser.wait(f"{kernel}?.connectionStatus == 'connected' && {kernel}.status == 'idle'")
    browser.value("void jupyterapp.commands.execute('notebook:run-all-cells')")
    browser.wait(f"{COUNTS} == '100 records, 0 deleted'")
    click(browser, '.edgecar-widget .stage')
    press(browser, 'ArrowRight', shift=True)
    browser.wait(f'{PLACE} == 10')
    press(browser, '[')
    press(browser, 'ArrowRight')
    press(browser, ']')
    browser.wait(f"{COUNTS}?.endsWith('2 selected (10–11)')")
    press(browser, 'd')
    browser.wait(f"{COUNTS}?.includes('2 deleted')")
    assert sorted(Tub(path).deleted) == [10, 11]
    press(browser, 'd')   # twice deletes a cell, when a notebook gets the keys
    press(browser, 'd')
    assert browser.value("document.querySelectorAll('.jp-Notebook .jp-CodeCell').length") == 1
    browser.picture().save(tmp_path/'lab.png')
    print(tmp_path/'lab.png')
