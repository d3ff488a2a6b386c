"""The example of a sweep, whole, on a small recording: killed on its way, begun again, listed by DVC, drawn.
And a trial that is stopped early."""
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import yaml
from PIL import Image

from edgecar.pilot.trial import TrialSpec, change_params, git_output, run_sweep_trial

ROOT = Path(__file__).parents[1]
NO_OPTUNA = not importlib.util.find_spec('optuna') and not os.environ.get('CI')
pytestmark = [pytest.mark.scale, pytest.mark.timeout(1800),
              pytest.mark.skipif(NO_OPTUNA, reason='scripts/scale-tools installs Optuna')]
SMALL = {'data.tracks': 'oval,seed:1', 'data.frames': 240, 'data.episode': 240}
BIN = Path(sys.executable).parent


def environment(clone):
    return os.environ | dict(PATH=f'{BIN}:{os.environ["PATH"]}', PYTHONPATH=str(clone),
                             EDGECAR_CACHE=str(clone/'.cache/frames'))


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A clone with a small recording, prepared."
    to = tmp_path_factory.mktemp('sweep')/'edgecar'
    subprocess.run(['git', 'clone', '-q', ROOT, to], check=True)
    change_params(to/'params.yaml', SMALL)
    for name in ('data.dvc', 'dvc.lock'):
        (to/name).unlink()
    for command in (['scripts/data'], ['dvc', 'add', '-q', 'data'], ['dvc', 'repro', '-q', 'prepare']):
        done = subprocess.run(command, cwd=to, env=environment(to), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    git_output(to, 'add', '-A')
    git_output(to, 'commit', '-q', '--no-verify', '-m', 'A small recording')
    return to


def start(clone):
    "Start the sweep in a process group of its own."
    command = [BIN/'edgecar', 'sweep', 'params/sweeps/example.yaml', '--workers', '2']
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=clone, env=environment(clone), process_group=0, **pipes)


def kill(process):
    "Kill a sweep, and all that it started."
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.communicate()


def test_the_example_is_killed_and_ends(clone):
    trials, commit = clone/'build/sweep/example/trials', git_output(clone, 'rev-parse', 'HEAD')
    first, until = start(clone), time.monotonic() + 900
    try:
        while len([*trials.glob('*.json')]) < 3 and first.poll() is None and time.monotonic() < until:
            time.sleep(.2)
    finally:
        kill(first)
    kept = {file: file.stat().st_mtime_ns for file in trials.glob('*.json')}
    assert 3 <= len(kept) < 12
    second = start(clone)
    out, errors = second.communicate(timeout=1500)
    assert second.returncode == 0, errors[-3000:]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, 'what had ended is not done again'
    results = [json.loads(file.read_text()) for file in sorted(trials.glob('*.json'))]
    assert [r['number'] for r in results] == [*range(12)]
    assert {r['state'] for r in results} <= {'complete', 'stopped'}, results
    assert sum(r['state'] == 'complete' for r in results) >= 4
    assert len({r['changes']['train.lr'] for r in results}) == 12
    listed = subprocess.run(['dvc', 'exp', 'show', '--json'], cwd=clone, env=environment(clone), check=True,
                            capture_output=True, text=True).stdout
    for r in results:
        name = f'sweep-example-{r["number"]:03}'
        assert listed.count(f'"{name}"') >= 1 and name in out
        ref = f'refs/exps/{commit[:2]}/{commit[2:]}/{name}'
        made = yaml.safe_load(git_output(clone, 'show', f'{ref}:params.yaml'))
        assert made['train']['lr'] == r['changes']['train.lr'] and made['train']['epochs'] == 4
        cost = json.loads(git_output(clone, 'show', f'{ref}:metrics/sweep/cost.json'))
        assert cost['state'] == r['state'] and cost.get('cost') == pytest.approx(r.get('cost'), abs=1e-4)
    assert '"cost"' in listed
    assert git_output(clone, 'status', '--porcelain', '-uno') == '', 'the repository itself is as it was'
    page = (clone/'build/sweep/example/report.html').read_text()
    assert page.count('<tr>') == 13
    for kind in ('parallel', 'history'):
        with Image.open(clone/f'build/sweep/example/{kind}.png') as picture:
            assert picture.width > 600


def test_a_trial_is_stopped_after_the_epochs_that_all_get(clone):
    commit = git_output(clone, 'rev-parse', 'HEAD')
    changes = {'train.threads': 1, 'train.epochs': 40, 'train.rounds': 0, 'train.more_rounds': 0,
               'train.lr': 1e-6}
    spec = TrialSpec(0, 'stopped', str(clone), commit, changes, 4, 40, {'2': 1e-6})
    result = run_sweep_trial(asdict(spec))
    assert result['state'] == 'stopped' and result['epochs'] == 2 == len(result['values'])
    files = git_output(clone, 'ls-tree', '-r', '--name-only', spec.ref).splitlines()
    assert 'metrics/sweep/cost.json' in files
    assert not {'metrics/train.json', 'metrics/evaluate.json'} & {*files}, 'numbers of another pilot'
    assert result['seconds'] < 120
