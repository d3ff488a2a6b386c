"""How well `edgecar fit` finds cars of the twin again: random lenses, cars, halls, latencies and trims.

    python benchmarks/fit.py --tubs 100          # the last line is JSON; five seconds a tub
"""
import argparse
import json
import math
import time

import cv2
import numpy as np

from edgecar.contracts.number import clamp
from edgecar.core import rng
from edgecar.sim.env import TwinEnv
from edgecar.sim.camera import Lens
from edgecar.sim.expert import Expert
from edgecar.sim.fit import FIT_FRAMES, DriveSample, estimate_car
from edgecar.sim.look import Appearance
from edgecar.sim.record import RecordingRecipe, SteeringDisturbance
from edgecar.sim.vehicle import Vehicle

TRACKS = 'oval', 'donkey', 'club', 'seed:1', 'seed:2', 'seed:3', 'seed:4'
JUDGED = 'gain_per_m', 'lag_s', 'pitch_deg', 'trim', 'fov_deg', 'roll_deg', 'yaw_deg', 'top_mps'


def random_car(seed):
    "Return lens, look, vehicle, latency (s) and trim of a car that nobody has seen."
    g = rng(99, seed)
    vehicle = Vehicle.random(g, 1.)
    return (Lens.random(seed + 500), Appearance.random(seed + 900, .5), vehicle, .005 + .1*g.random(),
            .16*(2*g.random() - 1))


def as_jpeg(frame):
    "Return a frame as a tub keeps it."
    data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    return cv2.imdecode(data, 1)[..., ::-1]


def record_drive(seed, frames=FIT_FRAMES):
    "Let an expert drive a random car; return a `DriveSample` and the truth."
    lens, look, vehicle, latency_s, trim = random_car(seed)
    env = TwinEnv(TRACKS[seed % len(TRACKS)], lens=lens, look=look, vehicle=vehicle, direction=0)
    options, seen, given, linked = dict(latency_s=latency_s, jitter_s=.01), [], [], []
    hand = SteeringDisturbance(rng(98, seed), RecordingRecipe(pushes=.02, push=.9))
    frame, _ = env.reset(seed=seed, options=options)
    expert = Expert(env.car.track, vehicle)
    while len(seen) < frames:
        steering, throttle = expert(env.car.row, env.car.commands)
        recorded = clamp(hand(steering) - trim, -1, 1)
        seen.append(as_jpeg(frame))
        given.append((recorded, throttle))
        frame, _, ended, _, _ = env.step((clamp(recorded + trim, -1, 1), throttle))
        linked.append(not ended)
        if ended:
            frame, _ = env.reset(options=options)
            expert = Expert(env.car.track, vehicle)
    steering, throttle = np.array(given).T
    sample = DriveSample(np.stack(seen), steering, throttle, np.array(linked[:-1]), .05)
    return sample, lens, dict(
        fov_deg=lens.fov_deg, pitch_deg=lens.pitch_deg, roll_deg=lens.roll_deg, yaw_deg=lens.yaw_deg,
        bend=lens.bend, gain_per_m=math.tan(vehicle.max_steer_rad)/vehicle.wheelbase_m, trim=trim,
        arm_m=lens.ahead_m + vehicle.front_share*vehicle.wheelbase_m,
        lag_s=latency_s + vehicle.delay_s + vehicle.steer_lag_s, top_mps=vehicle.top_mps)


def fit_one(seed):
    "Return, for each quantity, truth, estimate and half the interval."
    sample, lens, truth = record_drive(seed)
    found, _ = estimate_car(sample, lens.above_m)
    return {name: (truth[name], found[name].value, (found[name].high - found[name].low)/2) for name in truth}


def summarise(fits):
    "Return how often the intervals hold the truth, and their median half-width, a line for each quantity."
    rows = {}
    for name in JUDGED:
        truth, value, half = np.array([f[name] for f in fits]).T
        rows[name] = dict(holds=int((abs(value - truth) <= half).sum()), of=len(fits),
                          half_width=float(np.median(half)), share=float(np.median(half/abs(truth))),
                          error=float(np.median(abs(value - truth))))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--tubs', type=int, default=100)
    parser.add_argument('--first', type=int, default=1000, help='seed of the first; below 1000: calibration')
    args, fits = parser.parse_args(), []
    for seed in range(args.first, args.first + args.tubs):
        began = time.process_time()
        fits.append(fit_one(seed))
        took = round(time.process_time() - began, 1)
        print(json.dumps(dict(seed=seed, cpu_s=took, **fits[-1])), flush=True)
    for name, row in summarise(fits).items():
        print(f"{name:12} holds {row['holds']} of {row['of']}, half-width {row['half_width']:.3f}, "
              f"median error {row['error']:.3f}")
    print(json.dumps(summarise(fits)))


if __name__ == '__main__':
    main()
