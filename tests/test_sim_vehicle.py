"""The car at the edges of its ranges, late commands, resets,
and the same bits in every process and on every processor."""
import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from edgecar.core import EdgecarError, rng
from edgecar.sim.vehicle import (MAX_DELAY_STEPS, DRIVE, N_STATE, YAW_RATE, PHYSICS_HZ, STEER_ANGLE, VX, VY,
                                 YAW, Vehicle, advance)

FIELDS = {f.name: f for f in fields(Vehicle)}


def drive(vehicle, seed, seconds=10, row=None):
    "The row after each quarter second of random commands."
    row, param, g, rows = np.zeros(N_STATE) if row is None else row, vehicle.array(), rng(seed), []
    for _ in range(4 * seconds):
        advance(row, param, 2 * g.random() - 1, 2 * g.random() - .8, PHYSICS_HZ // 4)
        rows.append(row.copy())
    return np.array(rows)


@pytest.mark.parametrize('name', FIELDS)
@pytest.mark.parametrize('end', ['low', 'high'])
def test_ends_of_the_ranges(name, end):
    vehicle = Vehicle(**{name: FIELDS[name].metadata[end]})
    rows = drive(vehicle, 1)
    assert (np.isfinite(rows).all() and np.abs(rows[:, VX]).max() <= 1.2 * vehicle.top_mps
            and np.abs(rows[:, VY]).max() < 5)


@pytest.mark.parametrize('seed', range(30))
def test_cars_far_from_any_other_stay_finite(seed):
    g = rng(seed)
    vehicle = Vehicle(**{n: f.metadata['low'] + (f.metadata['high'] - f.metadata['low']) * g.random()
                         * (g.random() > .5) for n, f in FIELDS.items()})
    rows = drive(vehicle, seed)
    assert np.isfinite(rows).all() and np.abs(rows[:, VX]).max() <= 1.2 * vehicle.top_mps


@pytest.mark.parametrize('name', FIELDS)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -1, 1e9, None, '1', True])
def test_bad_number(name, value):
    with pytest.raises(EdgecarError, match=name):
        Vehicle(**{name: value})


@pytest.mark.parametrize('amount', [-.1, 2.1, float('nan')])
def test_bad_amount(amount):
    with pytest.raises(EdgecarError, match='amount'):
        Vehicle.random(rng(0), amount)


@pytest.mark.parametrize('late', [0, 1, 12, 40, MAX_DELAY_STEPS - 4])
def test_delay_is_exact(late):
    row, param = np.zeros(N_STATE), Vehicle(delay_s=late / PHYSICS_HZ, steer_lag_s=0, drive_lag_s=0).array()
    for k in range(2 * MAX_DELAY_STEPS):
        advance(row, param, -1. if k % 2 else 1., .5, 1)
        heard = 0. if k < late else .4 if (k - late) % 2 else -.4
        assert row[STEER_ANGLE] == heard and row[DRIVE] == (.5 if k >= late else 0.)


def test_lag_is_its_time_constant():
    row, param = np.zeros(N_STATE), Vehicle(delay_s=0, steer_lag_s=.1, drive_lag_s=.2).array()
    advance(row, param, -1., 1., 40)
    assert (row[STEER_ANGLE] == pytest.approx(.4 * (1 - np.exp(-1)), abs=.003)
            and row[DRIVE] == pytest.approx(1 - np.exp(-.5), abs=.003))


def test_nothing_survives_a_reset():
    row = np.zeros(N_STATE)
    first = drive(Vehicle(), 3, row=row)
    row[:] = 0
    assert (drive(Vehicle(), 3, row=row) == first).all()


def test_left_alone_it_stays():
    row = np.zeros(N_STATE)
    row[YAW] = 1
    advance(row, Vehicle().array(), .7, 0., 4000)
    assert row[YAW] == 1 and not row[[0, 1, VX, VY, YAW_RATE]].any()


def test_no_sub_step_changes_nothing():
    row = drive(Vehicle(), 4)[-1]
    before = row.copy()
    advance(row, Vehicle().array(), 1., 1., 0)
    assert (row == before).all()


def test_too_fast_for_its_front_tyres():
    "At one steering angle, curvature falls with speed: the car understeers."
    curvature = []
    for throttle in (.2, .5, .8, 1.):
        row = np.zeros(N_STATE)
        advance(row, Vehicle().array(), -.7, throttle, 4000)
        curvature.append(row[YAW_RATE] / row[VX])
    assert (np.diff(curvature) < 0).all() and curvature[-1] < .9 * curvature[0]


def test_same_bits_in_every_process():
    code = '''if True:
        from hashlib import sha256
        import numpy as np
        from edgecar.core import rng
        from edgecar.sim.vehicle import N_STATE, Vehicle, advance
        g, seen = rng(5), sha256()
        for _ in range(5):
            row, param = np.zeros(N_STATE), Vehicle.random(g).array()
            for _ in range(200):
                advance(row, param, 2 * g.random() - 1, 2 * g.random() - .8, 20)
                seen.update(row.tobytes())
        print(seen.hexdigest())'''
    def run(**env):
        return subprocess.run([sys.executable, '-c', code], env=os.environ | env,
                              capture_output=True, text=True, check=True).stdout
    assert len({run(), run(PYTHONHASHSEED='7'), run(NUMBA_CPU_NAME='generic')}) == 1
