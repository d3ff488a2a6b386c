"Lists of jobs on a Ray cluster of several nodes, all on this machine: equal to local ones, whatever is lost."
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from edgecar.contracts.error import EdgecarError
from edgecar.engine import RayEngine, open_engine
from edgecar.jobs import JobKind
from edgecar.pilot.rollout import RolloutSpec, RolloutWorkers

NO_RAY = not importlib.util.find_spec('ray') and not os.environ.get('CI')
pytestmark = [pytest.mark.scale, pytest.mark.skipif(NO_RAY, reason='scripts/scale-tools installs Ray')]
TOKEN = secrets.token_hex(32)   # one for all tests: a process reads it once
# Ray takes 127.0.0.1 for the machine's outer address, which no node of a test has; bytes, it takes no less
LOOPBACK = dict(node_ip_address='127.0.0.2', object_store_memory=80*2**20)


@pytest.fixture
def cluster(monkeypatch):
    "A cluster whose head does no jobs; a test adds the nodes that do."
    monkeypatch.setenv('RAY_AUTH_MODE', 'token')   # Ray also listens beyond the loopback
    monkeypatch.setenv('RAY_AUTH_TOKEN', TOKEN)
    from ray.cluster_utils import Cluster
    made = Cluster(initialize_head=True, head_node_args=LOOPBACK | dict(num_cpus=0))
    try:
        yield made
    finally:
        made.shutdown()


@pytest.fixture
def engine(cluster):
    "Opens an engine on the cluster, once its nodes are there."
    import ray

    def open_it():
        cluster.wait_for_nodes()
        ray.init(cluster.address, logging_level='ERROR', _node_ip_address=LOOPBACK['node_ip_address'])
        return RayEngine()
    yield open_it
    ray.shutdown()


def node(cluster, **options):
    return cluster.add_node(num_cpus=1, **LOOPBACK, **options)


def test_a_killed_node_changes_nothing(cluster, engine):
    drives = [RolloutSpec(f'seed:{3000000 + i}', bool(i % 2), 3000000 + i, 600) for i in range(120)]
    first, doomed = node(cluster), node(cluster)
    with RolloutWorkers(2, 'local') as drivers:
        expected = drivers.drive(drives)
    drivers, done = RolloutWorkers(engine=engine()), []

    def tick(n):
        done.append(n)
        if len(done) == 5:
            cluster.remove_node(doomed, allow_graceful=False)
    assert drivers.drive(drives, tick=tick) == expected
    assert sum(done) == len(drives) > sum(done[:5]) and drivers.engine.workers == 1
    assert first in cluster.worker_nodes


def test_a_job_that_is_not_pure_is_not_done_again(cluster, engine):
    node(cluster)
    with engine() as jobs, pytest.raises(EdgecarError, match='a quit process ended too early .quit 3'):
        jobs.run(JobKind('os:_exit', 'quit', pure=False), [3])


def test_a_store_that_overflows_goes_to_the_disk(cluster, engine):
    "Seven answers of 60 MB wait for a driver that is slow; two nodes hold 80 MB each."
    from ray._private.internal_api import memory_summary
    node(cluster)
    with engine() as jobs:
        jobs.shard_size = lambda all_: 1
        jobs.has_room = lambda: len(jobs.refs) < 8
        texts = jobs.stream(JobKind('secrets:token_hex', 'text', pure=False), [30_000_000]*8)
        sizes, until = [len(next(texts))], time.monotonic() + 90
        while 'Spilled' not in memory_summary(cluster.address, stats_only=True) and time.monotonic() < until:
            time.sleep(.2)
        assert 'Spilled' in memory_summary(cluster.address, stats_only=True)
        assert sizes + [len(text) for text in texts] == [60_000_000]*8


def test_an_error_names_its_input(cluster, engine):
    node(cluster)
    with engine() as jobs:
        with pytest.raises(EdgecarError) as remote:
            jobs.run(JobKind('math:sqrt', 'root'), [4, -1, 9])
        assert jobs.run(JobKind('math:sqrt', 'root'), [4, 9]) == [2, 3]   # the cluster goes on
    with open_engine(1, 'local') as jobs, pytest.raises(EdgecarError) as local:
        jobs.run(JobKind('math:sqrt', 'root'), [4, -1, 9])
    assert str(remote.value) == str(local.value) and '(root -1)' in str(local.value)


def test_another_lock_is_refused_by_name(cluster, engine, tmp_path):
    info = tmp_path/'stranger-1.2.dist-info'
    info.mkdir()
    (info/'METADATA').write_text('Metadata-Version: 2.1\nName: stranger\nVersion: 1.2\n')
    node(cluster, env_vars=dict(PYTHONPATH=str(tmp_path)))
    with engine() as jobs, pytest.raises(EdgecarError, match='node 127.0.0.2: does not run .*: stranger 1.2'):
        jobs.run(JobKind('math:sqrt', 'root'), [4])


def test_an_interrupt_stops_what_is_under_way():
    "On a cluster of its own, which ends with it."
    code = ("from edgecar.engine import open_engine; from edgecar.jobs import JobKind\n"
            "with open_engine(2, 'ray') as jobs:\n"
            "    jobs.run(JobKind('time:sleep', 'nap'), [.01]*8 + [600]*8, lambda n: print(n, flush=True))")
    env = {k: v for k, v in os.environ.items() if not k.startswith('RAY_A')}
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=env) as p:
        guard = threading.Timer(120, p.kill)
        guard.start()
        p.stdout.readline()   # the jobs are under way
        children = psutil.Process(p.pid).children(recursive=True)
        p.send_signal(signal.SIGINT)
        errors = p.communicate()[1]
        guard.cancel()
    assert p.returncode not in (0, -signal.SIGKILL) and 'KeyboardInterrupt' in errors
    until = time.monotonic() + 30
    while any(c.is_running() for c in children) and time.monotonic() < until:
        time.sleep(.1)
    assert children and not any(c.is_running() for c in children)
