"What holds for every test."
import signal

import pytest

from edgecar.core import import_donkeycar

# A shell starts what runs in its background with ctrl-C ignored, and so would every process of a test be
signal.signal(signal.SIGINT, signal.default_int_handler)
import_donkeycar()   # before a test imports it: its recursion limit would let hostile JSON overflow the stack


@pytest.fixture(scope='session')
def tf():
    """TensorFlow with its threads fixed, which it takes once a process:
    for every test that builds a net in its own."""
    from edgecar.pilot.model import pin_threads, tf
    pin_threads(2)
    return tf
