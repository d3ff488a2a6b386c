"""A survey of a pilot: the same rollouts as the exam's, films of the worst, a table, from the command."""
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edgecar.pilot.exam import carry_backs, rollout_suite
from edgecar.pilot.rollout import run_rollouts
from edgecar.pilot.survey import film_worst, survey_drives

DRIVES = rollout_suite(tracks=4, longest=True, steps=80)


@pytest.fixture(scope='module')
def untrained(tmp_path_factory, tf):
    "A pilot that has learned nothing, and leaves the road."
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.model import Edge
    tf.keras.utils.set_random_seed(1)
    pilot, path = Edge(), tmp_path_factory.mktemp('pilot')/'pilot.tflite'
    path.write_bytes(convert_to_tflite(pilot.whole(pilot.net())))
    return path


@pytest.mark.slow
def test_the_worst_are_filmed_in_their_order(untrained, tmp_path):
    runs, expert = survey_drives(untrained, DRIVES, workers=2, bar=False)
    plain = run_rollouts(DRIVES, untrained, workers=2, bar=False)
    assert [{name: run[name] for name in other} for run, other in zip(runs, plain)] == plain
    assert not carry_backs(expert).any()
    films = film_worst(tmp_path/'films', DRIVES, runs, untrained, 2, workers=2, bar=False)
    assert len(films) == 2 and [Path(film).name[:4] for film in films] == ['001_', '002_']
    worst = max(range(4), key=lambda i: (carry_backs(runs)[i], runs[i]['cte_p95_m']))
    assert DRIVES[worst].track.replace(':', '') in films[0]
    for film in films:
        with Image.open(film) as picture:
            assert picture.size == (640, 260) and picture.n_frames > 10


@pytest.mark.scale
def test_the_command_keeps_what_it_found(untrained, tmp_path):
    from pyarrow import parquet
    done = subprocess.run(
        [Path(sys.executable).with_name('edgecar'), 'evaluate', untrained, '--tracks', '8', '--steps', '60',
         '--to', tmp_path/'survey', '--films', '1'], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and 'off_track_per_km' in done.stdout, done.stderr
    table = parquet.read_table(tmp_path/'survey/rollouts.parquet')
    assert table.num_rows == 8 and {'exposure', 'curvature_per_m', 'expert_metres'} <= {*table.column_names}
    assert [path.name[:4] for path in (tmp_path/'survey/films').iterdir()] == ['001_']
    with Image.open(tmp_path/'survey/map.png') as picture:
        assert picture.width > 1000
