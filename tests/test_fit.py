"""`edgecar fit` finds cars of the twin again, and writes a twin that its own configuration takes."""
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgecar.cli import app
from edgecar.data.tub import TubWriter
from edgecar.sim import fit

BENCHMARK = runpy.run_path(str(Path(__file__).parents[1]/'benchmarks/fit.py'))


@pytest.mark.slow
def test_fit_finds_known_cars():
    "Of five cars, at most one interval in six misses; five cars cannot tell 90 of 100 more sharply."
    rows = BENCHMARK['summarise']([BENCHMARK['fit_one'](seed) for seed in range(2000, 2005)])
    for name in ('gain_per_m', 'lag_s', 'pitch_deg'):
        assert rows[name]['holds'] >= 4, (name, rows[name])
    assert rows['gain_per_m']['share'] <= .10, rows
    assert rows['lag_s']['half_width'] <= .025, rows
    assert rows['pitch_deg']['half_width'] <= 3, rows


@pytest.mark.slow
def test_the_command_writes_a_twin_and_its_pictures(tmp_path, monkeypatch):
    sample, lens, truth = BENCHMARK['record_drive'](2010, 240)
    monkeypatch.setattr('edgecar.core.repo_root', lambda *_: tmp_path)
    with TubWriter(tmp_path/'garage', ['cam/image_array', 'user/angle', 'user/throttle', 'user/mode'],
                   ['image_array', 'float', 'float', 'str']) as tub:
        for n, (frame, *command) in enumerate(zip(sample.frames, sample.steering, sample.throttle)):
            tub.write({'cam/image_array': frame, 'user/angle': command[0], 'user/throttle': command[1],
                       'user/mode': 'user', '_timestamp_ms': 1767225600000 + 50*n})
    done = CliRunner().invoke(app, ['fit', str(tmp_path/'garage'), '--lens-height', str(lens.above_m)])
    assert done.exit_code == 0, done.output
    twin = fit.read_fitted_twin(tmp_path/'params/twins/garage.yaml')
    assert abs(twin.lens.pitch_deg - truth['pitch_deg']) < 4
    assert Image.open(tmp_path/'runs/fit-garage.png').size == (1920, 480)
    env = fit.fitted_env(twin)
    frame, _ = env.reset(seed=1, options=dict(latency_s=twin.latency_s))
    assert frame.shape == (120, 160, 3)
    assert np.isfinite(env.step(np.array([0., .3]))[1])
