"What holds for every test."
import pytest

from edgecar.core import donkeycar

donkeycar()   # before a test imports it: its recursion limit would let hostile JSON overflow the stack


@pytest.fixture(scope='session')
def tf():
    """TensorFlow with its threads fixed, which it takes once a process:
    for every test that builds a net in its own."""
    from edgecar.pilot.model import pin_threads, tf
    pin_threads(2)
    return tf
