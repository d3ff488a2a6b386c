"""The same rollouts on processes of this machine and on Ray: how long, how equal, how much memory.

    scripts/scale-tools
    .venv/bin/python benchmarks/scale.py [--rollouts 2000] [--steps 250] [--pilot PATH.tflite] [--full]

Every row runs in a process of its own, its workers warm before the clock starts. Rows that are compared
run one after the other. On a machine that does something else in between their ratio says nothing.
The last line is JSON.
"""
import argparse
import hashlib
import json
import os
import resource
import secrets
import time
from contextlib import ExitStack

from support import alone

from edgecar.engine import RayEngine
from edgecar.jobs import LocalEngine
from edgecar.pilot.exam import rollout_suite
from edgecar.pilot.rollout import RolloutWorkers

# Ray takes 127.0.0.1 for the machine's outer address, which no node here has; of a node, bytes
LOOPBACK = dict(node_ip_address='127.0.0.2', object_store_memory=200*2**20)
ROWS = {   # name -> engine, workers, killed
    'local, 1 process': ('local', 1, False),
    'local, 2 processes': ('local', 2, False),
    'Ray, 2 workers': ('ray', 2, False),
    'Ray, 1 node of one core': ('nodes', 1, False),
    'Ray, 2 nodes of one core': ('nodes', 2, False),
    'Ray, 2 nodes, one is killed': ('nodes', 2, True),
}


def nodes_of(stack, count):
    "Start a cluster whose head does no jobs, and nodes of one core that do; return it and the last node."
    os.environ |= dict(RAY_AUTH_MODE='token', RAY_AUTH_TOKEN=secrets.token_hex(32))
    import ray
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args=LOOPBACK | dict(num_cpus=0))
    stack.callback(cluster.shutdown)
    nodes = [cluster.add_node(num_cpus=1, **LOOPBACK) for _ in range(count)]
    cluster.wait_for_nodes()
    ray.init(cluster.address, logging_level='ERROR', _node_ip_address=LOOPBACK['node_ip_address'])
    stack.callback(ray.shutdown)
    return cluster, nodes[-1]


def measure(engine, workers, killed, rollouts, steps, pilot):
    "Drive the rollouts; return seconds, a digest of all figures, and this process's peak in MB."
    with ExitStack() as stack:
        cluster, doomed = nodes_of(stack, workers) if engine == 'nodes' else (None, None)
        drivers = RolloutWorkers(engine=LocalEngine(workers) if engine == 'local' else RayEngine(workers))
        stack.enter_context(drivers)
        drivers.drive(rollout_suite('select', 16*workers, steps=50), pilot)
        done = []

        def tick(n):
            done.append(n)
            if killed and doomed and sum(done) >= rollouts//3 > sum(done[:-1]):
                cluster.remove_node(doomed, allow_graceful=False)
        start = time.perf_counter()
        found = drivers.drive(rollout_suite('gate', rollouts, steps=steps), pilot, tick)
        seconds = time.perf_counter() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return dict(seconds=seconds, digest=digest, peak_mb=peak_mb)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rollouts', type=int, default=2000)
    parser.add_argument('--steps', type=int, default=250, help='commands a rollout')
    parser.add_argument('--pilot', help='a .tflite; the expert, who needs no frames, if there is none')
    parser.add_argument('--full', action='store_true', help='also 10,000 rollouts of 1,000 steps')
    parser.add_argument('--job', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(measure(**json.loads(args.job))))
        return
    work = dict(rollouts=args.rollouts, steps=args.steps, pilot=args.pilot)
    rows = {}
    for name, (engine, workers, killed) in ROWS.items():
        row = rows[name] = alone(__file__, engine=engine, workers=workers, killed=killed, **work)
        print(f'{name:30} {row["seconds"]:8.1f} s  {row["peak_mb"]:6.0f} MB  {row["digest"][:12]}')
    one, two, ray, node, nodes, _ = (row['seconds'] for row in rows.values())
    figures = dict(overhead=round(ray/two, 3), efficiency_2_nodes=round(node/nodes/(one/two), 3),
                   equal=len({row['digest'] for row in rows.values()}) == 1,
                   driver_peak_mb=round(max(row['peak_mb'] for row in rows.values())), **work)
    if args.full:
        work = dict(rollouts=10_000, steps=1000, pilot=args.pilot)
        full = alone(__file__, engine='ray', workers=os.cpu_count(), killed=False, **work)
        figures['evaluate_10000_s'] = round(full['seconds'])
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
