"The server with many clients, and without: coming and going, killed and started again."
import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from edgecar.core import EdgecarError
from edgecar.sim.client import Simulator
from edgecar.sim.protocol import pack_message, parse_sim_message
from edgecar.sim.server import ServerLimits, SimServer, serve_in_thread

SERVE = '''
import asyncio, sys
from edgecar.sim.server import SimServer, start_server
async def main():
    server = SimServer(port=int(sys.argv[1]))
    await start_server(server)
    print(server.port, flush=True)
    await server.stopped.wait()
asyncio.run(main())
'''


async def visit(port, i, frames):
    "A client that comes, drives a little, and goes; some go without a word."
    reader, writer = await asyncio.open_connection('127.0.0.1', port, limit=1 << 20)
    async def hear(kind):
        while (m := parse_sim_message(await reader.readline()))['msg_type'] != kind:
            pass
        return m
    await hear('scene_selection_ready')
    writer.write(pack_message('load_scene', scene_name=('oval', 'donkey', 'club')[i % 3]))
    first = await hear('telemetry')
    for _ in range(frames):
        writer.write(pack_message('control', steering=0, throttle='.3'))
        last = await hear('telemetry')
    (writer.transport.abort if i % 2 else writer.close)()
    return last['time'] - first['time']


def test_fifty_clients_come_and_go():
    async def visits(port):
        rounds = [await asyncio.gather(*(visit(port, i, 4 + i % 5) for i in range(50))) for _ in range(2)]
        return [t for r in rounds for t in r]
    with serve_in_thread(SimServer(port=0, limits=ServerLimits(patience_s=60))) as server:
        asyncio.run(visits(server.port))
        files = len(os.listdir('/proc/self/fd'))
        driven = asyncio.run(asyncio.wait_for(visits(server.port), 120))
        until = time.monotonic() + 10
        while server.clients and time.monotonic() < until:
            time.sleep(.01)
        assert len(driven) == 100 and min(driven) > .1
        assert not server.clients and not server.scenes and len(os.listdir('/proc/self/fd')) - files <= 2


def test_there_is_room_for_so_many():
    async def fill(port):
        lines = [await asyncio.open_connection('127.0.0.1', port) for _ in range(3)]
        words = [await asyncio.wait_for(r.readline(), 10) for r, _ in lines[:2]]
        try:
            last = await asyncio.wait_for(lines[2][0].read(100), 10)
        except ConnectionError:
            last = b''
        for _, w in lines:
            w.close()
        return words, last
    with serve_in_thread(SimServer(port=0, limits=ServerLimits(clients=2))) as server:
        words, last = asyncio.run(fill(server.port))
    assert all(b'scene_selection_ready' in w for w in words) and last == b''


async def next_telemetry(reader):
    "Return the next line with telemetry."
    while b'"telemetry"' not in (line := await reader.readline()):
        pass
    return line


async def duet(port):
    "Drive two cars, whose commands come in changing order; return all telemetry, car after car."
    lines, telemetry = [], []
    for _ in range(2):
        reader, writer = await asyncio.open_connection('127.0.0.1', port, limit=1 << 20)
        writer.write(pack_message('load_scene', scene_name='club'))
        await next_telemetry(reader)
        lines.append((reader, writer))
    for i in range(40):
        for k in (0, 1) if i % 3 else (1, 0):
            lines[k][1].write(pack_message('control', steering=-.1*k, throttle=.2 + .4*k))
        for reader, _ in lines:
            telemetry.append(parse_sim_message(await next_telemetry(reader)))
    for _, writer in lines:
        writer.close()
    return telemetry


def test_two_paced_clients_see_the_same_twice():
    def drive(port):
        return asyncio.run(asyncio.wait_for(duet(port), 60))
    with serve_in_thread(SimServer(port=0, paced=True)) as server:
        first = drive(server.port)
        until = time.monotonic() + 10
        while server.scenes and time.monotonic() < until:
            time.sleep(.01)
        assert drive(server.port) == first
    assert {'car 1', 'car 2'} <= {t['hit'] for t in first} and first[-1]['time'] == pytest.approx(2.)


def test_time_is_real():
    with serve_in_thread(SimServer(port=0, rate_hz=50)) as server, Simulator(port=server.port) as car:
        first, began = car.step(0., 0.)[1]['time'], time.monotonic()
        for _ in range(50):
            last = car.step(0., 0.)[1]['time']
        assert (last - first)/(time.monotonic() - began) == pytest.approx(1, rel=.25)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(number):
    command = [str(Path(sys.prefix)/'bin/edgecar'), 'sim', 'serve', '--port', '0', '--page-port', '0',
               '--scene', 'oval', '--paced']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, 'PYTHONUNBUFFERED': '1'})
    try:
        port = int(process.stdout.readline().split(':')[2].split(',')[0])
        url = process.stdout.readline().split()[1]
        with Simulator(port=port, watchdog_s=None) as car:
            assert car.step(0., 1.)[1]['time'] == pytest.approx(.05)
        assert 'the twin' in urlopen(url, timeout=10).read().decode()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, '', '')
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_driver_survives_a_server_that_is_killed():
    def serve(port):
        return subprocess.Popen([sys.executable, '-c', SERVE, str(port)],
                                stdout=subprocess.PIPE, text=True)
    process = serve(0)
    try:
        port = int(process.stdout.readline())
        with Simulator(port=port, patience_s=60) as car:
            for _ in range(20):
                frame, info = car.step(0., 1.)
            assert info['speed'] > .5
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = serve(port)
            frame, info = car.step(0., 0.)   # as soon as it is there
            assert info['speed'] < .1 and frame.shape == (120, 160, 3) and info['time'] < 2
            for _ in range(3):
                car.step(0., 0.)
            process.send_signal(signal.SIGKILL)
            process.wait()
            car.patience_s = .3
            with pytest.raises(EdgecarError, match='edgecar sim serve'):
                car.step(0., 0.)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
