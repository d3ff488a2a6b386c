"""The twin's speed beside Gymnasium's CarRacing-v3, which draws a car on a track too: one environment, one
core, resets included, every frame read.

The twin runs the starter recipe of `params.yaml` (its tracks, halls, lenses, cars, blur, noise), with the
expert's commands worked out beforehand, alone or together; CarRacing runs its own frames at its own settings
with fixed commands. The two take turns, and medians are compared; the last line is JSON: steps_per_s and
ns_per_pixel of one twin, ratio_carracing, and vector_scaling: steps a second of 16 twins in two processes
over those of 16 in one. vector_scaling_32 is the same of 32, whose tables of 0.4 MB each no longer fit into a
cache of 16 MB that others use as well.
"""
import json
import os
import statistics
import time

for name in ('OMP_NUM_THREADS', 'NUMBA_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ.setdefault(name, '1')
os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')

import gymnasium as gym
import numpy as np

from edgecar.core import rng
from edgecar.sim.env import TwinEnv
from edgecar.sim.expert import Expert
from edgecar.sim.record import starter_recipe
from edgecar.sim.vector import TwinVectorEnv

ROUNDS = 7


def touch(frame):
    "Return the sum of a frame's bytes, eight at a time: the cheapest way to have read them all."
    return int(np.add.reduce(frame.reshape(-1).view(np.uint64)))


def episodes(recipe, env, n=8):
    "Seeds, options and the expert's commands of `n` episodes: what a replay needs."
    g, plans = rng(recipe.seed), []
    for i in range(n):
        start = dict(seed=int(g.integers(2**31)), options=dict(
            track=recipe.names[i % len(recipe.names)], station=g.random(), right_m=.2*g.random(),
            turned_rad=.3*g.random()))
        env.reset(**start)
        expert, commands = Expert(env.track, env.vehicle, recipe.pace), []
        for _ in range(recipe.episode):
            commands.append(np.array(expert(env.row), np.float32))
            if env.step(commands[-1])[2]:
                break
        plans.append((start, commands))
    return plans


def twin(env, plans):
    "Return the steps a second of one environment."
    steps, read, start = 0, 0, time.perf_counter()
    for how, commands in plans:
        frame, _ = env.reset(**how)
        for command in commands:
            frame, *_ = env.step(command)
            read += touch(frame)
        steps += len(commands)
    return steps/(time.perf_counter() - start)


def together(recipe, env, n):
    "Return the expert's commands for `n` cars with the seeds 1, 2, ...: (steps, n, 2), an episode each."
    commands = np.zeros((recipe.episode, n, 2), np.float32)
    for i in range(n):
        env.reset(seed=1 + i)
        expert = Expert(env.track, env.vehicle, recipe.pace)
        for at in commands[:, i]:
            at[:] = expert(env.row)
            if env.step(at)[2]:
                break
    return commands


def vector(cars, plan):
    "Return the steps a second of all cars together: they begin, and drive a plan."
    start = time.perf_counter()
    cars.reset(seed=1)
    for commands in plan:
        for frame in cars.step(commands)[0]:
            touch(frame)
    return plan[..., 0].size/(time.perf_counter() - start)


def carracing(env, steps):
    "Return the steps a second of the peer, over an episode as long as ours."
    read, start = 0, time.perf_counter()
    env.reset(seed=1)
    for i in range(steps):
        frame, _, end, cut, _ = env.step(np.array([.1, .2, 0.], np.float32))
        read += touch(frame)
        if end or cut:
            env.reset()
    return steps/(time.perf_counter() - start)


recipe = starter_recipe()
settings = dict(track=recipe.names, direction=0, random=recipe.random)
env, peer = TwinEnv(**settings), gym.make('CarRacing-v3')
plans = episodes(recipe, env)
single, pairs = [], []
for i in range(ROUNDS):
    ours, theirs = twin(env, plans), carracing(peer, recipe.episode)
    single.append(ours)
    pairs.append(ours/theirs)
    print(f'round {i + 1}: twin {ours:.0f} steps/s, CarRacing-v3 {theirs:.0f} steps/s, ratio {pairs[-1]:.0f}',
          flush=True)
peer.close()

scaling = {16: [], 32: []}
for n, ratios in scaling.items():
    one, two = (TwinVectorEnv(n, workers, **settings) for workers in (1, 2))
    plan = together(recipe, env, n)
    for i in range(ROUNDS):
        a, b = vector(one, plan), vector(two, plan)
        ratios.append(b/a)
        print(f'round {i + 1}: {n} twins {a:.0f} steps/s in one process, {b:.0f} in two, '
              f'{ratios[-1]:.2f} times', flush=True)
    one.close()
    two.close()

steps = statistics.median(single)
height, width = env.observation_space.shape[:2]
print(json.dumps(dict(
    steps_per_s=round(steps), ratio_carracing=round(statistics.median(pairs), 1),
    vector_scaling=round(statistics.median(scaling[16]), 2),
    vector_scaling_32=round(statistics.median(scaling[32]), 2),
    ns_per_pixel=round(1e9/steps/(height*width), 2))))
