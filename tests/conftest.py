"What holds for every test."
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from edgecar.core import import_donkeycar

# A shell starts what runs in its background with ctrl-C ignored, and so would every process of a test be
signal.signal(signal.SIGINT, signal.default_int_handler)
# A drive keeps its audit log there; no test writes into the home of the person who runs it
STATE = tempfile.TemporaryDirectory(prefix='edgecar-state-')
os.environ['EDGECAR_STATE'] = STATE.name

import_donkeycar()   # before a test imports it: its recursion limit would let hostile JSON overflow the stack


@pytest.fixture(scope='session')
def tf():
    """TensorFlow with its threads fixed, which it takes once a process:
    for every test that builds a net in its own."""
    from edgecar.pilot.model import pin_threads, tf
    pin_threads(2)
    return tf


@pytest.fixture
def browser(tmp_path):
    "A Chromium of its own for a test."
    from support.browser import Browser
    browser = Browser(tmp_path/'profile')
    try:
        yield browser
        browser.close()
    finally:
        browser.process.kill()
        browser.process.wait()


@pytest.fixture(scope='session')
def kernel(tmp_path_factory):
    "A library that goes before the C library and has devices."
    from support.kernel import build_kernel
    return build_kernel(tmp_path_factory.mktemp('kernel')/'devices.so')


@pytest.fixture(scope='module')
def simulator():
    "The port of a real simulator, in a process of its own."
    from support.twin import SERVE
    with subprocess.Popen([sys.executable, '-c', SERVE], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
