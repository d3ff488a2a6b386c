"Wait for what comes about."
import time


def wait(true, seconds=20, why='too long', pause=.002):
    "Wait until `true()` holds, and return what it gave; `why` is what a failure says, or a function of it."
    until = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < until, why() if callable(why) else why
        time.sleep(pause)
    return result
