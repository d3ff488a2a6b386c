"Wait for what comes about."
import time


def wait(true, seconds=20, every=.002):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, 'too long'
        time.sleep(every)
