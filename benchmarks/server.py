"""What a frame costs a client of the simulator, and how steady its real-time clock is.

Paced: a client in another process sends a command and reads the whole answer, 160 x 120 JPEG in JSON as the
protocol has it, and sends the next: `server_ms_per_frame` is the median time of such a round, everything
included (command, simulation, camera, encoding, sending, reading); `server_cpu_ms_per_frame` is the server's
own share of processor time. Real time, 20 Hz: how far the intervals between frames, as they arrive, are from
50 ms, beside those of a loop that does nothing but sleep until the next is due; the two take turns. The last
line is JSON.
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import numpy as np

from edgecar.sim.protocol import pack_message

SERVE = '''
import asyncio, sys
from edgecar.sim.server import SimServer, start_server
async def main():
    server = SimServer(port=0, paced=sys.argv[1] == 'paced')
    await start_server(server)
    print(server.port, flush=True)
    await server.stopped.wait()
asyncio.run(main())
'''
FRAMES, ROUNDS, TICKS, HZ = 1000, 7, 100, 20
COMMAND = json.dumps(dict(msg_type='control', steering='0.05', throttle='0.2', brake='0.0')).encode()


class Driver:
    "A server in a process of its own, and a client in its scene."
    def __init__(self, how):
        self.process = subprocess.Popen([sys.executable, '-c', SERVE, how], stdout=subprocess.PIPE, text=True)
        self.line = socket.create_connection(('127.0.0.1', int(self.process.stdout.readline())), timeout=30)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.line.makefile('rb', buffering=1 << 16)
        self.line.sendall(pack_message('load_scene', scene_name='generated_track'))
        while not next(self.answers).startswith(b'{"msg_type": "telemetry"'):
            pass

    def cpu(self):
        fields = open(f'/proc/{self.process.pid}/stat').read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12]))/os.sysconf('SC_CLK_TCK')

    def frame(self):
        while b'"telemetry"' not in (line := next(self.answers))[:40]:
            pass
        return len(line)

    def close(self):
        self.line.close()
        self.process.terminate()
        self.process.wait()


def paced():
    "Milliseconds a frame of the median round, and of the server's processor."
    driver, walls, cpus, size = Driver('paced'), [], [], 0
    for _ in range(ROUNDS):
        cpu, began = driver.cpu(), time.perf_counter()
        for _ in range(FRAMES):
            driver.line.sendall(COMMAND)
            size = driver.frame()
        walls.append((time.perf_counter() - began)*1e3/FRAMES)
        cpus.append((driver.cpu() - cpu)*1e3/FRAMES)
    driver.close()
    print(f'paced: {", ".join(f"{w:.3f}" for w in walls)} ms a frame of {size} bytes')
    return statistics.median(walls), statistics.median(cpus)


def off(moments):
    return np.abs(np.diff(moments) - 1/HZ)*1e3


def sleeper():
    "Return how far the turns of a loop that only sleeps are off, ms."
    due, moments = time.perf_counter(), []
    for _ in range(TICKS):
        due += 1/HZ
        time.sleep(max(due - time.perf_counter(), 0))
        moments.append(time.perf_counter())
    return off(moments)


def real(driver):
    "Return how far the frames that arrive are off, ms."
    moments, now = [], time.perf_counter()
    while time.perf_counter() - now < .5/HZ:   # what came in the meantime
        now = time.perf_counter()
        driver.frame()
    for _ in range(TICKS):
        driver.line.sendall(COMMAND)
        driver.frame()
        moments.append(time.perf_counter())
    return off(moments)


wall, cpu = paced()
driver = Driver('real')
turns = [(real(driver), sleeper()) for _ in range(3)]
driver.close()
ours, bare = (np.percentile(np.concatenate(side), 99) for side in zip(*turns))
print(f'real time: p99 {ours:.2f} ms off, a bare sleep loop {bare:.2f} ms')
print(json.dumps(dict(server_ms_per_frame=round(wall, 3), server_cpu_ms_per_frame=round(cpu, 3),
                      frames_per_s=round(1e3/wall), jitter_p99_ms=round(float(ours), 3),
                      sleep_jitter_p99_ms=round(float(bare), 3))))
