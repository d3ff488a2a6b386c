"""What may reach the wheels, over every interleaving of what may happen, on the class that runs in the car.

The promise: the throttle is never above neutral without a living person's arming that is younger than every
stop, every sleep, every failure of the actuator, and every fault or silence of more than a second. Nor is it
in answer to a command that comes with a fault. `Witness` keeps the promise in its own words, from what went
in and what came out; `explore` looks for a sequence that breaks it. A rule that is taken out, and a row of
the table that leads elsewhere, must make it find one.
"""
import copy
from collections import deque

import pytest

from edgecar.car import owner
from edgecar.car.owner import CommandGate, handle_command, tick
from edgecar.contracts import state
from edgecar.contracts.state import ARMED_STATES, DRIVING_STATES, NEXT_STATE, DriveState, StateEvent

LONG_S = 1.   # a fault or a silence of more than that needs a person
ARMS = StateEvent.ARM_DRIVER, StateEvent.ARM_PILOT


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
        self.armed, self.stopped, self.began, self.heard = False, frozenset(), None, 0.

    def arms(self, now):
        "A person arms it: that counts when no stop is latched, and no fault holds."
        self.heard = now   # to arm is to say something
        if not self.stopped and self.began is None:
            self.armed = True

    def stops(self, source):
        self.armed, self.stopped = False, self.stopped | {source}

    def releases(self, by):
        self.armed, self.stopped = False, self.stopped - {by}

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
        self.now, self.slept, self.wheels, self.witness = 100., 0., Wheels(), Witness()
        self.gate = CommandGate(self.wheels, clock=lambda: 100., asleep=lambda: 0.)
        self.bind()
        self.witness.heard = self.now

    def bind(self):
        "Let the gate read this world's clocks, and write on its wheels."
        self.gate.actuator = self.wheels
        self.gate.clock, self.gate.asleep = lambda: self.now, lambda: self.slept

    def copied(self):
        "Return a world of its own that is like this one."
        other = copy.copy(self)
        other.wheels, other.witness, other.gate = map(copy.copy, (self.wheels, self.witness, self.gate))
        for name in ('stopped', 'causes', 'counts'):
            setattr(other.gate, name, copy.copy(getattr(self.gate, name)))
        other.bind()
        return other

    def does(self, action):
        "Let one thing happen; whoever saw the actuator fail wants a person."
        getattr(self, action)()
        if self.gate.broken:
            self.witness.armed = False

    def key(self):
        """All that decides what happens next: times relative to now, those of more than a second alike.
        How long ago something was heard, or began, matters to what is armed; until when a command holds, to
        what is out."""
        def ago(moment, matters):
            return None if moment is None else min(round(self.now - moment, 2), 1.3) if matters else True
        gate, seen = self.gate, self.witness
        return (gate.state, tuple(sorted(gate.stopped)), gate.pilot, gate.broken, self.wheels.broken,
                self.wheels.out, gate.out, ago(gate.until, gate.out != (0., 0.)),
                ago(gate.heard, gate.armed), ago(gate.caused_s, gate.armed),
                seen.armed, seen.stopped, ago(seen.began, seen.armed), ago(seen.heard, seen.armed))

    # ---- what may happen
    def drive(self, pilot=False):
        handle_command(self.gate, .1, .5, self.now + .1, pilot=pilot)
        self.witness.command(self.now, True)

    def pilot(self):
        self.drive(True)

    def fault(self):
        handle_command(self.gate, .1, .5, self.now + .1, ['link'], pilot=self.gate.pilot)
        self.witness.command(self.now, False)

    def nonsense(self):
        handle_command(self.gate, .1, float('nan'), self.now + .1, pilot=self.gate.pilot)
        self.witness.command(self.now, False)

    def late(self):
        handle_command(self.gate, .1, .5, self.now - .01)

    def arm(self):
        self.gate.arm()
        self.witness.arms(self.now)

    def stop(self):
        self.gate.stop('page')
        self.witness.stops('page')

    def stop_pad(self):
        self.gate.stop('gamepad')
        self.witness.stops('gamepad')

    def release(self):
        self.gate.release('page')
        self.witness.releases('page')

    def release_pad(self):
        self.gate.release('gamepad')
        self.witness.releases('gamepad')

    def disarm(self):
        self.gate.disarm()
        self.witness.armed = False

    def wait(self):
        self.now += .06   # a command holds for one of these, not for two
        tick(self.gate)

    def wait_long(self):
        self.now += .55
        tick(self.gate)

    def sleep(self):
        self.slept += 60.
        tick(self.gate)
        self.witness.armed = False

    def bus_breaks(self):
        self.wheels.broken = True

    def bus_answers(self):
        self.wheels.broken = False
        tick(self.gate)   # it is tried every 20 ms


ACTIONS = ['drive', 'pilot', 'fault', 'nonsense', 'late', 'arm', 'stop', 'stop_pad', 'release', 'release_pad',
           'disarm', 'wait', 'wait_long', 'sleep', 'bus_breaks', 'bus_answers']


def replayed(path):
    "Return the world after a sequence of actions."
    world = World()
    for action in path:
        world.does(action)
    return world


def breaks_the_promise(world):
    "Whether the wheels turn though it is not allowed; what a broken bus keeps no software can change."
    if world.wheels.out[1] <= 0 or world.wheels.broken:
        return False
    return not world.witness.armed or world.witness.began is not None


def explore(depth, limit=1_000_000):
    """Go through all sequences of actions, each state once. Return (states that were seen, the shortest
    sequence that breaks the promise or None)."""
    first = World()
    if breaks_the_promise(first):
        return 0, ()
    seen, todo = {first.key()}, deque([(first, ())])
    while todo:
        before, path = todo.popleft()
        for action in ACTIONS:
            world = before.copied()
            world.does(action)
            if breaks_the_promise(world):
                return len(seen), (*path, action)
            if (key := world.key()) not in seen and len(path) + 1 < depth:
                seen.add(key)
                todo.append((world, (*path, action)))
        assert len(seen) < limit
    return len(seen), None


def test_no_sequence_drives_without_an_arming_that_is_younger_than_every_stop_and_fault():
    "The search ends because there is no further state."
    states, broken_by = explore(1000)
    assert broken_by is None, ' '.join(broken_by)
    assert states > 3_000, states


def arm_in_spite_of_a_fault(gate):
    gate.heard = gate.clock()
    gate.change(ARMS[gate.pilot])


def arm_in_spite_of_a_stop(gate):
    gate.heard, gate.stopped = gate.clock(), []
    if not gate.broken and gate.caused_s is None:
        gate.change(StateEvent.RELEASE)
        gate.change(ARMS[gate.pilot])


def release_and_arm(gate, by='page'):
    gate.stopped = []
    gate.change(StateEvent.RELEASE)
    gate.arm()


def release_whatever_stopped_it(gate, by='page'):
    gate.stopped = []
    gate.change(StateEvent.RELEASE)
    gate.neutral()


def stop_for_this_turn(gate, cause='stop'):
    gate.neutral()


@pytest.mark.parametrize('name, instead', [
    ('forget', lambda gate: None),
    ('CommandGate.arm', arm_in_spite_of_a_fault),
    ('CommandGate.arm', arm_in_spite_of_a_stop),
    ('CommandGate.release', release_and_arm),
    ('CommandGate.release', release_whatever_stopped_it),
    ('CommandGate.stop', stop_for_this_turn),
    ('CommandGate.wake', lambda gate: None),
], ids=['a fault that lasts', 'arm in a fault', 'arm in a stop', 'release arms',
        'the page releases a stop of the gamepad', 'a stop that is not kept', 'a sleep that is not noticed'])
def test_a_rule_that_is_taken_out_is_missed(monkeypatch, name, instead):
    "The search finds what each rule is there for, so it looks at the class that runs."
    of, _, attribute = name.rpartition('.')
    monkeypatch.setattr(getattr(owner, of) if of else owner, attribute, instead)
    states, broken_by = explore(1000)
    assert broken_by, f'{states} states, and none is wrong'


# a row that lets a car drive that must wait for a person; only an armed car is told what lasts too long
TO_DRIVE = [(was, event) for was in (DriveState.DISARMED, DriveState.STOPPED, DriveState.FAULT)
            for event in StateEvent if NEXT_STATE.get((was, event)) not in DRIVING_STATES
            and event not in (StateEvent.READY, StateEvent.LASTED)]
# a row that is missing, so that a car drives on
TO_STAY = [(was, event) for was in ARMED_STATES
           for event in (StateEvent.CAUSE, StateEvent.LASTED, StateEvent.ACTUATOR, StateEvent.SUSPEND,
                         StateEvent.STOP, StateEvent.DISARM, StateEvent.RELEASE)
           if (was, event) in NEXT_STATE]
MUTANTS = [(*row, to) for to in DRIVING_STATES for row in TO_DRIVE] + [(*row, None) for row in TO_STAY]


@pytest.mark.parametrize('was, event, to', sorted(MUTANTS, key=str), ids=lambda x: x and x.value)
def test_a_row_that_leads_elsewhere_is_found(monkeypatch, was, event, to):
    "Of the table from which the class that runs decides; None: the row is missing."
    monkeypatch.setitem(state.NEXT_STATE, (was, event), to or was)
    states, broken_by = explore(1000)
    assert broken_by, f'{states} states, and none is wrong'


def test_only_the_first_neutral_ends_the_boot(monkeypatch):
    assert World().gate.state == DriveState.DISARMED
    monkeypatch.setitem(state.NEXT_STATE, (DriveState.BOOTING, StateEvent.READY), DriveState.ARMED_PILOT)
    assert explore(1000)[1]


@pytest.mark.parametrize('actions, ends', [
    ('arm drive', 'armed-driver'), ('pilot arm pilot', 'armed-pilot'),
    ('fault drive arm drive', 'armed-driver'), ('stop release arm drive', 'armed-driver'),
    ('arm drive fault wait_long drive', 'armed-driver'), ('arm pilot fault pilot', 'armed-pilot'),
    ('pilot arm pilot drive', 'armed-driver'),
    ('arm drive fault wait_long wait_long fault drive arm drive', 'armed-driver'),
    ('arm drive stop_pad release_pad arm pilot', 'armed-pilot')])
def test_it_drives_where_it_may(actions, ends):
    "A promise that nothing ever drives would be kept, too."
    world = replayed(actions.split())
    assert world.wheels.out == (.1, .5) and world.witness.armed and world.gate.state == ends


@pytest.mark.parametrize('actions, ends', [
    ('', 'disarmed'), ('arm drive fault', 'degraded'), ('arm drive wait wait', 'degraded'),
    ('arm drive fault wait_long wait_long fault', 'fault'), ('arm drive bus_breaks drive', 'fault'),
    ('arm drive bus_breaks drive bus_answers drive', 'fault'), ('arm drive sleep drive', 'disarmed'),
    ('arm drive stop_pad release arm drive', 'stopped'), ('arm drive stop stop_pad release', 'stopped'),
    ('arm drive fault wait_long wait_long fault drive release', 'disarmed')])
def test_it_stands_where_it_must(actions, ends):
    world = replayed(actions.split())
    assert world.wheels.out == (0., 0.) or world.wheels.broken
    assert world.gate.state == ends
