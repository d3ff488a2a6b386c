"The loop in a clone: dvc repro twice, a changed parameter, an experiment with a bad pilot."
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgecar.data.toy import toy_tub

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = list(yaml.safe_load((ROOT/'dvc.yaml').read_text())['stages'])


@pytest.fixture
def clone(tmp_path):
    "A clone of the tracked files as they are now, with its own git history and a toy recording for data."
    to = tmp_path/'edgecar'
    files = subprocess.check_output(['git', 'ls-files', '-z'], cwd=ROOT, text=True).split('\0')[:-1]
    for name in files:
        if (ROOT/name).is_file() and not name.startswith('README_files'):
            (to/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT/name, to/name)
    git = lambda *a: subprocess.run(['git', '-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'core.hooksPath=/dev/null', *a], cwd=to, check=True, capture_output=True)
    git('init', '-q')
    (to/'data.dvc').unlink()
    (to/'dvc.lock').unlink(missing_ok=True)
    git('add', '-A')
    git('commit', '-qm', 'clone')
    return to


def run(clone, *command, ok=True):
    env = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}', 'PYTHONPATH': str(clone), 'EDGECAR_CACHE': str(clone/'.cache/frames'),
           'GIT_AUTHOR_NAME': 't', 'GIT_AUTHOR_EMAIL': 't@t', 'GIT_COMMITTER_NAME': 't', 'GIT_COMMITTER_EMAIL': 't@t'}
    done = subprocess.run(command, cwd=clone, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode == 0) is ok, done.stdout[-4000:]
    return done.stdout


def ran(output):
    return [s for s in STAGES if f"Running stage '{s}'" in output]


def test_loop_runs_once_and_then_only_what_changed(clone):
    toy_tub(clone/'data', n=240)
    run(clone, 'dvc', 'add', 'data')
    assert ran(run(clone, 'dvc', 'exp', 'run', '-S', 'train.epochs=2')) == STAGES
    assert ran(run(clone, 'dvc', 'repro')) == []
    assert (clone/'build/export/pilot.tflite').is_file() and json.loads((clone/'metrics/evaluate.json').read_text())['frames'] == 48
    lock = (clone/'dvc.lock').read_text()

    params = (clone/'params.yaml').read_text()
    (clone/'params.yaml').write_text(params.replace('threads: 1 ', 'threads: 2 '))
    assert ran(run(clone, 'dvc', 'repro')) == ['evaluate']
    (clone/'params.yaml').write_text(params)
    run(clone, 'dvc', 'repro')
    assert (clone/'dvc.lock').read_text() == lock, 'the same inputs give the same digests'

    run(clone, 'dvc', 'repro', '--force', '--downstream', 'train')
    assert (clone/'dvc.lock').read_text() == lock, 'trained again, the same bits'

    bad = run(clone, 'dvc', 'exp', 'run', '-n', 'bad', '-S', 'train.epochs=1', '-S', 'train.lr=1e-9')
    assert ran(bad) == ['train', 'export', 'evaluate']
    assert json.loads((clone/'metrics/evaluate.json').read_text())['ratio_to_constant'] > .5, 'an untrained pilot is recorded as what it is'
    assert 'bad' in run(clone, 'dvc', 'exp', 'show', '--csv')
    assert 'evaluate.json' in run(clone, 'dvc', 'metrics', 'diff', '--all')
    run(clone, 'dvc', 'plots', 'show', '-o', 'plots')
    assert (clone/'plots/index.html').is_file()

