"""How steady the car's loop is, and how soon the wheels are in neutral when something goes wrong. DonkeyCar's
own loop with its web controller has the same faults, on the same rig.

    .venv/bin/python benchmarks/drive.py     # after make repro; about 5 minutes on 2 idle cores

Steady: the twin in real time at 60 Hz, a loop of 60 Hz with camera, page, pilot, guards and owner, alone, for
half a minute (`--seconds`), with its black box. `missed_deadlines`: turns that had not ended when the next
was due; `jitter_p99_ms`: how far the intervals between turns are from 1/60 s, beside those of a bare loop
that does nothing but wait; `overhead_p99_ms`: a turn's work without the inference.

Neutral: a pilot (or a driver, for the faults of the line) gives throttle; then one fault comes and stays, at
a random moment. Measured where the actuator writes (a log with monotonic times), until the output is neutral
and remains so: `neutral_p99_ms`, `neutral_max_ms` over all trials (`--trials` of each fault, `--peer-trials`
for DonkeyCar's). Whatever is not in neutral after 1 s is `unbounded`. `--late-s .11` has the camera deliver
each picture so long after it was taken, steadily. A fault counts from its own moment all the same: after a
`simulator` that stops, the pictures under way still come, so that one takes so much longer. Trials run in
several rigs (`--rigs`), each with processes and a simulator of its own: a rig mostly waits, and needs a sixth
of a core. Six black boxes would be written at once after each stop, so these rigs keep none. The last line
is JSON; the peer's figures have the prefix `peer_`.
"""
import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import websocket

HZ, CAP_S, LATE_S, BOXES = 60, 1., 'EDGECAR_BENCH_LATE_S', 'EDGECAR_BENCH_BOXES'
SERVE = '''
import asyncio
from edgecar.sim.server import SimServer, start_server
async def main():
    server = SimServer(port=0, rate_hz=60)
    await start_server(server)
    asyncio.get_running_loop().add_reader(0, server.stopped.set)   # at the end of the bench
    print(server.port, flush=True)
    await server.stopped.wait()
asyncio.run(main())
'''
# made in the rig
INSIDE = 'frame', 'frozen', 'black', 'white', 'slow', 'hung', 'nan', 'range', 'exception', 'keyboard'
# done to it
OUTSIDE = 'link', 'cut', 'page', 'signal', 'bus', 'simulator', 'terminated', 'killed', 'standing'
FAULTS = *INSIDE, *OUTSIDE


# the rig: a process with either loop, in which faults can be made by writing their names to its stdin

class Faults:
    "What is wrong now: around the camera and the pilot."
    def __init__(self, push=lambda: None):
        self.now, self.held, self.push = '', None, push

    def listen(self, report):
        "Obey the bench; end this process when the bench has gone."
        for line in sys.stdin:
            if (word := line.strip()) == 'report':
                print(json.dumps(report()), flush=True)
            elif word == 'keyboard':
                self.push()
            else:
                self.now = word
        os.kill(os.getpid(), signal.SIGTERM)

    def seen(self, frame, seen_s, info):
        if self.now not in ('frame', 'frozen'):
            self.held = frame, seen_s, info
        if self.now in ('frame', 'frozen'):
            return (self.held[0], self.held[1] if self.now == 'frame' else seen_s, info)
        if self.now in ('black', 'white') and frame is not None:
            return np.full_like(frame, 255*(self.now == 'white')), seen_s, info
        return frame, seen_s, info

    def flown(self, pilot, frame):
        if self.now == 'slow':
            time.sleep(.3)
        while self.now == 'hung':
            time.sleep(.01)
        if self.now == 'nan':
            return float('nan'), float('nan')
        if self.now == 'range':
            return 3., 7.
        if self.now == 'exception':
            raise RuntimeError('a pilot that fails')
        return pilot(frame)[0], .3


class Camera:
    "A camera with faults; it delivers as late as `--late-s` says."
    def __init__(self, camera, faults):
        self.camera, self.faults, self.coming = camera, faults, deque(maxlen=100)
        self.late_s = float(os.environ.get(LATE_S, 0))

    def update(self):
        self.camera.update()

    def _due(self):
        "Return the newest picture that is old enough."
        newest = self.camera.run_threaded()
        if not self.late_s:
            return newest
        if not self.coming or self.coming[-1][1] != newest[1]:
            self.coming.append(newest)
        due_s = time.monotonic() - self.late_s
        while len(self.coming) > 1 and self.coming[1][1] <= due_s:
            self.coming.popleft()
        return self.coming[0] if self.coming[0][1] <= due_s else (None, 0., {})

    def run_threaded(self):
        return self.faults.seen(*self._due())

    def shutdown(self):
        self.camera.shutdown()


def ours(port, log, model, user):
    from edgecar.car.drive import Profile, compose, run_vehicle
    from edgecar.pilot.runtime import Pilot
    vehicle = compose(Profile('twin', f'twin:{log}', rate_hz=HZ, attended=True, port=port,
                              mode='user' if user else 'local', page=dict(port=0),
                              boxes=int(os.environ.get(BOXES, 0)), record=dict(folder=f'{log}.tubs')))
    faults, pilot, clock = Faults(lambda: vehicle.stops.push('keyboard')), Pilot(model), vehicle.clock
    vehicle.inference.take(lambda frame: faults.flown(pilot, frame))
    clock.moments, clock.overheads = deque(maxlen=10**5), deque(maxlen=10**5)
    vehicle.parts[1]['part'] = Camera(vehicle.parts[1]['part'], faults)

    def report():
        settled = int(2*HZ)
        return dict(missed_deadlines=clock.missed - missed[0],
                    jitter=(np.abs(np.diff([*clock.moments][settled:]) - 1/HZ)*1e3).tolist(),
                    overhead=[*clock.overheads][settled:])

    missed = [0]
    threading.Timer(2, lambda: missed.__setitem__(0, clock.missed)).start()
    threading.Thread(target=faults.listen, args=(report,), daemon=True).start()
    run_vehicle(vehicle, lambda text: print(vehicle.page.port, flush=True))


class PictureOnly(Camera):
    "The camera as a part of DonkeyCar's vehicle, which takes pictures alone."
    def run_threaded(self):
        return super().run_threaded()[0]


class TimedPilot:
    "A pilot with faults as a part of DonkeyCar's vehicle; `took` is what its last answer took, s."
    def __init__(self, pilot, faults):
        self.pilot, self.faults, self.took = pilot, faults, 0

    def run(self, frame):
        if frame is None:
            return 0., 0.
        began = time.perf_counter()
        try:
            return self.faults.flown(self.pilot, frame)
        finally:
            self.took = time.perf_counter() - began


class Present:
    "The part that says whether a pilot drives."
    def run(self, mode):
        return mode != 'user'


class Mode:
    "The part that chooses the command by the mode, as the template's does."
    def run(self, mode, ua, ut, pa, pt):
        if mode == 'user':
            return ua, ut
        return (pa or 0., ut) if mode == 'local_angle' else (pa or 0., pt or 0.)


def peer(port, log, model, user):
    """Drive DonkeyCar's vehicle, put together as its template does: camera, web controller, pilot,
    drive mode, actuator."""
    import socket

    from edgecar.car.drive import TwinCamera, new_vehicle
    from edgecar.car.owner import TwinActuator
    from edgecar.pilot.runtime import Pilot
    with contextlib.redirect_stdout(io.StringIO()):
        from donkeycar.parts.actuator import PWMThrottle
        from donkeycar.parts.web_controller.web import LocalWebController
    wheels, moments, works, faults = TwinActuator(log), [], [], Faults()

    class Line:
        def send(self, lines):
            wheels.take(os.dup(lines[0]))

    class Pulses:
        def set_pulse(self, pulse):
            wheels.write(0., max((pulse - 370)/130, -1))

    class First:
        def run(self):
            moments.append(time.perf_counter())

    class Last:
        def run(self):
            works.append((time.perf_counter() - moments[-1] - linear.took)*1e3)

    vehicle, linear = new_vehicle(), TimedPilot(Pilot(model), faults)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        page_port = s.getsockname()[1]
    vehicle.add(First())
    vehicle.add(PictureOnly(TwinCamera(Line(), port=port), faults), outputs=['cam/image_array'],
                threaded=True)
    vehicle.add(LocalWebController(port=page_port, mode='user' if user else 'local'),
                inputs=['cam/image_array', 'tub/num_records', 'user/mode', 'recording'],
                outputs=['user/angle', 'user/throttle', 'user/mode', 'recording', 'web/buttons'],
                threaded=True)
    vehicle.add(Present(), inputs=['user/mode'], outputs=['run_pilot'])
    vehicle.add(linear, inputs=['cam/image_array'], outputs=['pilot/angle', 'pilot/throttle'],
                run_condition='run_pilot')
    vehicle.add(Mode(), inputs=['user/mode', 'user/angle', 'user/throttle', 'pilot/angle', 'pilot/throttle'],
                outputs=['angle', 'throttle'])
    vehicle.add(PWMThrottle(Pulses(), 500, 220, 370), inputs=['throttle'])
    vehicle.add(Last())

    def report():
        return dict(missed_deadlines=int(np.sum(np.diff(moments[2*HZ:]) > 1.5/HZ)),
                    jitter=(np.abs(np.diff(moments[2*HZ:]) - 1/HZ)*1e3).tolist(), overhead=works[2*HZ:])

    threading.Thread(target=faults.listen, args=(report,), daemon=True).start()
    print(page_port, flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)   # which a shell's background jobs ignore
    vehicle.start(rate_hz=HZ)


# the bench: starts the rig, drives it as a browser would, makes faults and reads what reached the wheels

class Simulator:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, '-c', SERVE], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())


@dataclass
class Rig:
    which:str
    simulator:Simulator
    log:Path
    model:str
    process:subprocess.Popen=None
    user:bool=False
    lets_go:bool=False   # of the sticks, as a car wants that is to be armed

    def start(self, user):
        self.log.unlink(missing_ok=True)
        self.user = user
        command = [sys.executable, __file__, '--rig', self.which, str(self.simulator.port), str(self.log),
                   self.model, *['user']*user]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline())
        self.size, self.last, self.lines, self.muted = 0, (0., 0.), [], False
        self.connect()

    def connect(self):
        "As a browser does that opens the page."
        until = time.monotonic() + 20
        while True:
            try:
                self.socket = websocket.create_connection(
                    f'ws://127.0.0.1:{self.port}/wsDrive' + '?page=1'*(self.which == 'ours'), timeout=5)
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(.05)
        threading.Thread(target=self.beat, args=(self.socket,), daemon=True).start()
        threading.Thread(target=self.swallow, args=(self.socket,), daemon=True).start()

    def swallow(self, socket):
        with contextlib.suppress(Exception):
            while socket.recv() is not None:
                pass

    def say(self, **words):
        with contextlib.suppress(Exception):
            self.socket.send(json.dumps(words))

    def beaten(self):
        "Return what a browser sends now."
        if self.which == 'peer':
            return dict(angle=.1, throttle=.3*self.user)
        held = self.user and not self.lets_go
        return dict(angle=.1*held, throttle=.3*held, take=True, ping=1)

    def arm(self):
        "Release and arm our car with the sticks let go."
        self.lets_go = True
        time.sleep(.12)   # some beats
        self.say(take=True, buttons=dict(release=True))
        time.sleep(.05)
        self.say(buttons=dict(arm=True))
        time.sleep(.1)
        self.lets_go = False
        time.sleep(.1)

    def beat(self, socket):
        "Send what a browser sends, 20 times a second."
        with contextlib.suppress(Exception):
            while self.socket is socket:
                if not self.muted:
                    socket.send(json.dumps(self.beaten()))
                time.sleep(.05)

    def tell(self, word):
        with contextlib.suppress(OSError):
            self.process.stdin.write(word + '\n')
            self.process.stdin.flush()

    def read(self):
        "Read the new lines of the log: `lines` gets (moment, whether neutral) of each."
        if not self.log.exists():
            return
        with open(self.log, 'rb') as f:
            f.seek(self.size)
            whole = f.read().rpartition(b'\n')[0]
        if not whole:
            return
        self.size += len(whole) + 1
        for line in whole.split(b'\n'):
            moment, steering, throttle = map(float, line.split())
            self.lines.append((moment, steering == 0 == throttle if self.which == 'ours' else throttle == 0))
        del self.lines[:-600]

    def rolls(self, seconds=.2):
        "Get it to drive for a moment; False when it cannot."
        until, since = time.monotonic() + 15, None
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            self.read()
            now = time.monotonic()
            if self.lines and not self.lines[-1][1] and now - self.lines[-1][0] < .1:
                since = since or now
                if now - since > seconds:
                    return True
            else:
                since = None
                if self.which == 'ours':
                    self.arm()
                else:
                    self.say(angle=.1, throttle=.3*self.user, drive_mode='user' if self.user else 'local')
            time.sleep(.01)
        return False

    def neutral_ms(self, began):
        "When the output was neutral for good, ms after `began`; None when it is not within the cap."
        for seconds in (.5, CAP_S):
            time.sleep(max(began + seconds - time.monotonic(), 0))
            self.read()
            driving = [i for i, (moment, neutral) in enumerate(self.lines) if not neutral]
            if driving[-1] + 1 < len(self.lines):
                return max(self.lines[driving[-1] + 1][0] - began, 0)*1e3

    def end(self):
        self.socket.close()
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        time.sleep(.1)   # the owner's end


def get_rolling(rig, user):
    "Have a rig drive by a user or by its pilot; start it afresh when it does not."
    if rig.process is None or rig.process.poll() is not None or rig.user != user or not rig.rolls():
        if rig.process:
            rig.end()
        rig.start(user)
        if not rig.rolls():
            raise RuntimeError(f'{rig.which} does not drive')


def press_stop(rig):
    "Stop the car by its page, as a driver does."
    if rig.which == 'ours':
        rig.say(buttons=dict(estop=True))
    else:
        rig.say(angle=0, throttle=0, drive_mode='user')


def break_bus(rig):
    "Have the actuator's bus fail for 60 ms."
    broken = Path(f'{rig.log}.fail')
    broken.touch()
    time.sleep(.06)
    broken.unlink()


def make(rig, fault):
    "Make a fault."
    signals = dict(signal=signal.SIGUSR1 if rig.which == 'ours' else signal.SIGINT,
                   terminated=signal.SIGTERM, killed=signal.SIGKILL, standing=signal.SIGSTOP)
    if fault in INSIDE:
        rig.tell(fault)
    elif fault in signals:
        rig.process.send_signal(signals[fault])
    elif fault in ('link', 'cut'):
        rig.muted = True
        if fault == 'cut':
            rig.socket.sock.close()
    elif fault == 'page':
        press_stop(rig)
    elif fault == 'simulator':
        rig.simulator.process.send_signal(signal.SIGSTOP)
    elif fault == 'bus':
        break_bus(rig)


def mend(rig, fault):
    "End a fault."
    if fault in INSIDE:
        rig.tell('')
    if fault == 'simulator':
        rig.simulator.process.send_signal(signal.SIGCONT)
    if fault == 'standing':
        rig.process.send_signal(signal.SIGCONT)
    rig.muted = False


def trial(rig, fault):
    "Make one fault in a car that drives; return the ms to neutral, None when it is not reached."
    get_rolling(rig, user=fault in ('link', 'cut'))
    time.sleep(random.uniform(0, .1))
    began = time.monotonic()
    make(rig, fault)
    took = rig.neutral_ms(began)
    mend(rig, fault)
    if took is None:
        rig.end()
    elif fault == 'cut':
        rig.connect()
    return took


@contextlib.contextmanager
def rigged(which, model):
    "Make a rig with a simulator of its own; nothing of it is left afterwards."
    simulator = Simulator()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as d:   # a box may be on its way
            rig = Rig(which, simulator, Path(d)/f'{which}.log', model)
            try:
                yield rig
            finally:
                if rig.process and rig.process.poll() is None:
                    rig.end()
    finally:
        simulator.process.send_signal(signal.SIGCONT)
        simulator.process.terminate()
        simulator.process.wait()


def share(which, model, faults):
    "Make faults in one rig; return (fault, ms to neutral or None) of each."
    with rigged(which, model) as rig:
        return [(fault, trial(rig, fault)) for fault in faults]


def shares(which, trials, rigs):
    "Return the faults of each rig, equally many of each kind; no two rigs have the same at the same time."
    kinds = [fault for fault in FAULTS if which == 'ours' or fault != 'keyboard']   # the peer has none
    everything = [fault for fault in kinds for _ in range(trials)]
    parts = [everything[rig::rigs] for rig in range(rigs)]
    return [part[(first := len(part)*rig//rigs):] + part[:first] for rig, part in enumerate(parts)]


def tell(which, fault, times_ms):
    "Print a line on the trials of one fault."
    good = [ms for ms in times_ms if ms is not None]
    times = f', median {np.median(good):.0f} ms, worst {max(good):.0f} ms' if good else ''
    if times_ms:
        print(f'{which:5} {fault:10} {len(good)}/{len(times_ms)} neutral{times}', flush=True)


def neutral(which, model, trials, rigs):
    "Milliseconds of all trials, and how many have no bound."
    asked, began = shares(which, trials, rigs), time.monotonic()
    print(f'{which:5} {sum(map(len, asked))} trials in {rigs} rigs', flush=True)
    ends = dict(initializer=signal.signal, initargs=(signal.SIGTERM, end_with_children))
    with ProcessPoolExecutor(rigs, multiprocessing.get_context('spawn'), **ends) as pool:
        done = [trial for part in pool.map(share, [which]*rigs, [model]*rigs, asked) for trial in part]
    for fault in FAULTS:
        tell(which, fault, [ms for kind, ms in done if kind == fault])
    everything = [ms for _, ms in done if ms is not None]
    p99, worst = (round(float(np.percentile(everything, q)), 1) if everything else None for q in (99, 100))
    unbounded, took_s = len(done) - len(everything), round(time.monotonic() - began, 1)
    return dict(neutral_p99_ms=p99, neutral_max_ms=worst, unbounded=unbounded, neutral_s=took_s)


def steady(rig, seconds):
    os.environ[BOXES] = '3'   # a car remembers all the while
    rig.start(False)
    del os.environ[BOXES]
    assert rig.rolls(), f'{rig.which} does not drive'
    time.sleep(seconds + 2)
    rig.tell('report')
    report = json.loads(rig.process.stdout.readline())
    rig.end()
    jitter, overhead = (round(float(np.percentile(report[k], 99)), 3) for k in ('jitter', 'overhead'))
    print(f'{rig.which:5} {len(report["jitter"])} turns, {report["missed_deadlines"]} missed, '
          f'jitter p99 {jitter} ms, overhead p99 {overhead} ms', flush=True)
    return dict(missed_deadlines=report['missed_deadlines'], jitter_p99_ms=jitter, overhead_p99_ms=overhead)


def bare(seconds):
    from edgecar.car.drive import LoopClock
    clock = LoopClock(HZ, 10**5)
    for _ in range(int(seconds*HZ)):
        clock.run()
    return round(float(np.percentile(np.abs(np.diff(clock.moments) - 1/HZ)*1e3, 99)), 3)


def end_with_children(*_):
    "End the processes in which trials are made, and this one."
    for child in multiprocessing.active_children():
        child.terminate()
    sys.exit(1)


def main():
    if sys.argv[1:2] == ['--rig']:
        which, port, log, model, *user = sys.argv[2:]
        return dict(ours=ours, peer=peer)[which](int(port), log, model, bool(user))
    signal.signal(signal.SIGTERM, end_with_children)
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('--seconds', type=float, default=30)
    ask.add_argument('--trials', type=int, default=40, help='of each fault')
    ask.add_argument('--peer-trials', type=int, default=2)
    ask.add_argument('--rigs', type=int, default=3*len(os.sched_getaffinity(0)), help='trials at a time')
    ask.add_argument('--model', default='build/export/pilot.tflite')
    ask.add_argument('--late-s', type=float, default=0.,
                     help='from the exposure of a picture to its delivery')
    asked = ask.parse_args()
    os.environ[LATE_S] = str(asked.late_s)   # for the rigs, which are processes of their own
    if not Path(asked.model).is_file():
        sys.exit(f'{asked.model}: is not there -> make repro, or --model')
    figures, began = {}, time.monotonic()
    for which, prefix in (('ours', ''), ('peer', 'peer_')):
        with rigged(which, asked.model) as rig:
            measured = steady(rig, asked.seconds)
        figures |= {prefix + k: v for k, v in measured.items()}
    figures['jitter_bare_p99_ms'] = bare(asked.seconds/3)
    for which, prefix, trials in (('ours', '', asked.trials), ('peer', 'peer_', asked.peer_trials)):
        measured = neutral(which, asked.model, trials, asked.rigs) | dict(trials=trials)
        figures |= {prefix + k: v for k, v in measured.items()}
    print(json.dumps(figures | dict(rigs=asked.rigs, late_s=asked.late_s,
                                    took_s=round(time.monotonic() - began, 1))))


if __name__ == '__main__':
    main()
