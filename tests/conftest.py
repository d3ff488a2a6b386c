"What holds for every test."
import os
import signal
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
