"""What may reach the wheels, over every interleaving of what may happen, on the class that runs in the car.

The promise: the throttle is never above neutral without a person's arming that is younger than every stop,
and younger than every fault or silence of more than a second. `Witness` keeps the promise in its own words,
from what went in and what came out; `explore` looks for a sequence that breaks it. A rule that is taken out
must make it find one.
"""
from collections import deque

import pytest

from edgecar.car import owner
from edgecar.car.owner import CommandGate, handle_command, tick

LONG_S = 1.   # a fault or a silence of more than that needs a person


class Wheels:
    "An actuator that remembers the newest command, and may break."
    broken, out = False, (0., 0.)

    def write(self, *out):
        if self.broken:
            raise OSError
        self.out = out

    def neutral(self):
        self.write(0., 0.)


class Witness:
    "Whether the car may drive now, by the promise alone."
    def __init__(self):
        self.armed, self.stopped, self.began, self.heard = False, False, None, 0.

    def arms(self, now):
        "A person arms it: that counts when no stop is latched, and no fault holds."
        self.heard = now   # to arm is to say something
        if not self.stopped and self.began is None:
            self.armed = True

    def stops(self):
        self.armed, self.stopped = False, True

    def releases(self):
        self.armed, self.stopped = False, False

    def command(self, now, good):
        "A command comes, with a fault or without."
        if now - self.heard > LONG_S or self.began is not None and now - self.began > LONG_S:
            self.armed = False
        self.heard = now
        if good:
            self.began = None
        elif self.began is None:
            self.began = now


class World:
    "A gate, its wheels, a clock that is set by hand, and the witness."
    def __init__(self):
        self.now, self.wheels, self.witness = 100., Wheels(), Witness()
        self.gate = CommandGate(self.wheels, clock=lambda: self.now)
        self.witness.heard = self.now

    def does(self, action):
        "Let one thing happen."
        getattr(self, action)()

    def key(self):
        "All that decides what happens next: times relative to now, those of more than a second alike."
        def ago(moment):
            return None if moment is None else min(round(self.now - moment, 2), 1.3)
        gate, seen = self.gate, self.witness
        return (gate.armed, tuple(gate.stopped), gate.broken, self.wheels.broken, self.wheels.out, gate.out,
                ago(gate.until), ago(gate.heard), ago(gate.caused_s),
                seen.armed, seen.stopped, ago(seen.began), ago(seen.heard))

    # ---- what may happen
    def drive(self):
        handle_command(self.gate, .1, .5, self.now + .1)
        self.witness.command(self.now, True)

    def fault(self):
        handle_command(self.gate, .1, .5, self.now + .1, ['link'])
        self.witness.command(self.now, False)

    def nonsense(self):
        handle_command(self.gate, .1, float('nan'), self.now + .1)
        self.witness.command(self.now, False)

    def late(self):
        handle_command(self.gate, .1, .5, self.now - .01)

    def arm(self):
        self.gate.arm()
        self.witness.arms(self.now)

    def stop(self):
        self.gate.stop('page')
        self.witness.stops()

    def release(self):
        self.gate.release()
        self.witness.releases()

    def disarm(self):
        self.gate.disarm()
        self.witness.armed = False

    def wait(self):
        self.now += .06
        tick(self.gate)

    def wait_long(self):
        self.now += .55
        tick(self.gate)

    def bus_breaks(self):
        self.wheels.broken = True

    def bus_answers(self):
        self.wheels.broken = False
        tick(self.gate)   # it is tried every 20 ms


ACTIONS = ['drive', 'fault', 'nonsense', 'late', 'arm', 'stop', 'release', 'disarm', 'wait', 'wait_long',
           'bus_breaks', 'bus_answers']


def replayed(path):
    "Return the world after a sequence of actions."
    world = World()
    for action in path:
        world.does(action)
    return world


def breaks_the_promise(world):
    "Whether the wheels turn though no arming allows it; what a broken bus keeps no software can change."
    return world.wheels.out[1] > 0 and not world.witness.armed and not world.wheels.broken


def explore(depth, limit=400_000):
    """Go through all sequences of actions, each state once. Return (states that were seen, the shortest
    sequence that breaks the promise or None)."""
    seen, todo = {World().key()}, deque([()])
    while todo:
        path = todo.popleft()
        for action in ACTIONS:
            world = replayed(longer := (*path, action))
            if breaks_the_promise(world):
                return len(seen), longer
            if world.key() not in seen and len(longer) < depth:
                seen.add(world.key())
                todo.append(longer)
        assert len(seen) < limit
    return len(seen), None


@pytest.mark.parametrize('depth, least', [(12, 5_000), pytest.param(1000, 50_000, marks=pytest.mark.slow)],
                         ids=['12 actions', 'all there is'])
def test_no_sequence_drives_without_an_arming_that_is_younger_than_every_stop_and_fault(depth, least):
    "With the larger depth, the search ends because there is no further state."
    states, broken_by = explore(depth)
    assert broken_by is None, ' '.join(broken_by)
    assert states > least


def arm_in_spite_of_a_fault(gate):
    gate.heard, gate.armed = gate.clock(), not gate.stopped and not gate.broken


def release_and_arm(gate):
    gate.stopped, gate.armed = [], True


def stop_without_disarming(gate, cause='stop'):
    gate.stopped.append(cause)
    gate.neutral()


def arm_in_spite_of_a_stop(gate):
    gate.heard, gate.stopped = gate.clock(), []
    gate.armed = not gate.broken and gate.caused_s is None


def stop_for_this_turn(gate, cause='stop'):
    gate.neutral()


@pytest.mark.parametrize('name, instead', [
    ('forget', lambda gate: None),
    ('CommandGate.arm', arm_in_spite_of_a_fault),
    ('CommandGate.arm', arm_in_spite_of_a_stop),
    ('CommandGate.release', release_and_arm),
    ('CommandGate.stop', stop_for_this_turn),
], ids=['a fault that lasts', 'arm in a fault', 'arm in a stop', 'release arms', 'a stop that is not kept'])
def test_a_rule_that_is_taken_out_is_missed(monkeypatch, name, instead):
    "The search finds what each rule is there for, so it looks at the class that runs."
    of, _, attribute = name.rpartition('.')
    monkeypatch.setattr(getattr(owner, of) if of else owner, attribute, instead)
    states, broken_by = explore(9)
    assert broken_by, f'{states} states, and none is wrong'


@pytest.mark.parametrize('actions', [['arm', 'drive'], ['fault', 'drive', 'arm', 'drive'],
                                     ['stop', 'release', 'arm', 'drive'],
                                     ['arm', 'drive', 'fault', 'wait_long', 'drive']])
def test_it_drives_where_it_may(actions):
    "A promise that nothing ever drives would be kept, too."
    world = replayed(actions)
    assert world.wheels.out == (.1, .5) and world.witness.armed
