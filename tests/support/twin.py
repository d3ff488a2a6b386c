"The real loop on a real simulator, with a camera that may be late."
import threading
import time
from collections import deque

from edgecar.car import drive
from edgecar.car.drive import Profile, TwinCamera, compose

LENGTH = 5   # of what a pilot is told of its past, turns
SERVE = '''
import asyncio
from edgecar.sim.server import SimServer, start_server
async def main():
    server = SimServer(port=0, rate_hz=20)
    await start_server(server)
    print(server.port, flush=True)
    await server.stopped.wait()
asyncio.run(main())
'''


class LateCamera(TwinCamera):
    "The twin's camera, which delivers a frame so long after it was taken; knows when each was."
    def __init__(self, *args, late_s=0., **kw):
        self.late_s, self.coming, self.taken = late_s, deque(), {}
        super().__init__(*args, **kw)

    def _read(self):
        super()._read()
        frame, seen_s, _ = self.seen
        self.taken[id(frame)] = frame, seen_s   # held, so that no other frame gets its id
        self.coming.append(self.seen)

    def run_threaded(self):
        due_s = time.monotonic() - self.late_s
        while len(self.coming) > 1 and self.coming[1][1] <= due_s:
            self.coming.popleft()
        return self.coming[0] if self.coming and self.coming[0][1] <= due_s else (None, 0., {})


class Numbers:
    "A pilot whose steering says which of its answers it is, and which keeps what it is told."
    past_steering, latency_s = LENGTH, .075

    def __init__(self, camera, slow_s=0.):
        # (when the frame was taken, past, steering)
        self.camera, self.slow_s, self.turns = camera, slow_s, []

    def recall(self, steerings):
        self.past = steerings

    def __call__(self, frame):
        time.sleep(self.slow_s)
        steering = (len(self.turns) + 1)/1e4
        self.turns.append((self.camera.taken[id(frame)][1], self.past, steering))
        return steering, .1


class Loop:
    "The real loop, in a thread, on the twin; its driver is the test."
    def __init__(self, port, wheels, monkeypatch, camera=LateCamera, late_s=0., pilot=Numbers, slow_s=0.,
                 examined_ms=None, **profile):
        monkeypatch.setattr(drive, 'open_camera',
                            lambda p, owner, size: camera(owner, p.host, p.port, p.scene, late_s=late_s))
        self.vehicle = compose(Profile('twin', f'twin:{wheels}', port=port, arm=True, page=dict(port=0),
                                       **profile))
        parts = [entry['part'] for entry in self.vehicle.parts]
        self.camera = next(part for part in parts if isinstance(part, LateCamera))
        self.pilot = pilot(self.camera, slow_s)
        self.vehicle.inference.take(self.pilot, examined_ms)
        self.thread = threading.Thread(target=self.vehicle.start, kwargs=dict(rate_hz=drive.NO_SLEEP_HZ))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.vehicle.on = False
        self.thread.join(30)

    @property
    def status(self):
        return self.vehicle.mem.get(['status'])[0] or {}

    def hold(self, seconds, **words):
        "Be at the wheel for so long, saying so 20 times a second."
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.vehicle.page.wheel.handle_message(self, words, plain=True)
            time.sleep(.02)
