"""The loop in a clone, on a small recording of the twin: dvc repro twice, a changed parameter,
an experiment with a bad pilot, a real tub beside it."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgecar.data.synthetic import synthetic_tub

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = {
    'data.tracks': 'oval,seed:1', 'data.frames': 240, 'data.episode': 240,
    'train.epochs': 2, 'train.rounds': 1, 'train.round_frames': 200, 'train.round_epochs': 1,
    'train.more_rounds': 0,
    'evaluate.tracks': 8, 'evaluate.trouble': 1, 'evaluate.steps': 200, 'evaluate.alone': 8,
}
STAGES = list(yaml.safe_load((ROOT/'dvc.yaml').read_text())['stages'])


@pytest.fixture
def clone(tmp_path):
    """A clone of the tracked files as they are now,
    with its own git history and the recipe of a small recording."""
    to = tmp_path/'edgecar'
    files = subprocess.check_output(['git', 'ls-files', '-z'], cwd=ROOT, text=True).split('\0')[:-1]
    for name in files:
        if (ROOT/name).is_file():
            (to/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT/name, to/name)
    def git(*a):
        return subprocess.run(
            ['git', '-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'core.hooksPath=/dev/null', *a],
            cwd=to, check=True, capture_output=True)
    git('init', '-q')
    for name in ('data.dvc', 'dvc.lock'):
        (to/name).unlink(missing_ok=True)
    text = (to/'params.yaml').read_text()
    for name, value in SMALL.items():
        section, name = name.split('.')
        text, replaced = re.subn(rf'(?ms)^({section}:.*?^  {name}: )\S+', rf'\g<1>{value}', text, count=1)
        assert replaced, f'params.yaml has no {section}.{name}'
    (to/'params.yaml').write_text(text)
    git('add', '-A')
    git('commit', '-qm', 'clone')
    return to


def run(clone, *command, ok=True):
    env = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
           'PYTHONPATH': str(clone), 'EDGECAR_CACHE': str(clone/'.cache/frames'), 'GIT_AUTHOR_NAME': 't',
           'GIT_AUTHOR_EMAIL': 't@t', 'GIT_COMMITTER_NAME': 't', 'GIT_COMMITTER_EMAIL': 't@t'}
    done = subprocess.run(command, cwd=clone, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert (done.returncode == 0) is ok, done.stdout[-4000:]
    return done.stdout


def ran(output):
    return [s for s in STAGES if f"Running stage '{s}'" in output]


def test_loop_runs_once_and_then_only_what_changed(clone):
    assert 'data: recorded' in run(clone, 'scripts/data')
    run(clone, 'dvc', 'add', 'data')
    run(clone, 'edgecar', 'data', 'check')
    shutil.rmtree(clone/'data'), shutil.rmtree(clone/'.dvc/cache')
    assert 'data: recorded' in run(clone, 'scripts/data'), 'again, and it is what is pinned'
    assert ran(run(clone, 'dvc', 'repro', 'evaluate')) == STAGES[:STAGES.index('gate')], (
        'what a pilot did is recorded, whatever it did')
    assert ran(run(clone, 'dvc', 'repro', 'evaluate')) == []
    output = run(clone, 'dvc', 'repro', ok=False)
    assert ran(output) == ['gate'] and not (clone/'build/gate/passed.json').exists()
    assert re.search(r'(speed_ratio|off_track_per_km) .*BROKEN by', output)
    assert ((clone/'build/export/pilot.tflite').is_file()
            and json.loads((clone/'metrics/evaluate.json').read_text())['frames'] == 96)
    lock = (clone/'dvc.lock').read_text()

    params = (clone/'params.yaml').read_text()
    (clone/'params.yaml').write_text(params.replace('threads: 1 ', 'threads: 2 '))
    assert ran(run(clone, 'dvc', 'repro', 'evaluate')) == ['evaluate']
    (clone/'params.yaml').write_text(params)
    run(clone, 'dvc', 'repro', 'evaluate')
    assert (clone/'dvc.lock').read_text() == lock, 'the same inputs give the same digests'

    run(clone, 'dvc', 'repro', '--force', 'train')
    run(clone, 'dvc', 'repro', 'evaluate')
    assert (clone/'dvc.lock').read_text() == lock, 'trained again, the same bits'

    bad = run(clone, 'dvc', 'exp', 'run', 'evaluate', '-n', 'bad',
              '-S', 'train.epochs=1', '-S', 'train.lr=1e-9')
    assert ran(bad) == ['train', 'export', 'evaluate']
    assert json.loads((clone/'metrics/evaluate.json').read_text())['ratio_to_constant'] > .5, (
        'an untrained pilot is recorded as what it is')
    assert 'bad' in run(clone, 'dvc', 'exp', 'show', '--csv')
    assert 'evaluate.json' in run(clone, 'dvc', 'metrics', 'diff', '--all')
    run(clone, 'dvc', 'plots', 'show', '-o', 'plots')
    assert (clone/'plots/index.html').is_file()


def test_a_real_tub_beside_it(clone):
    "Named in params.yaml; through EDGECAR_MIRROR when it is set, else a toy in its place."
    run(clone, 'edgecar', 'data', 'get')
    if os.environ.get('EDGECAR_MIRROR'):
        run(clone, 'edgecar', 'data', 'get', 'donkeycar-test-tub')
    else:
        synthetic_tub(clone/'tubs/donkeycar-test-tub', n=1000)
    (clone/'params.yaml').write_text(
        (clone/'params.yaml').read_text().replace('tubs: data ', 'tubs: data,tubs/donkeycar-test-tub '))
    assert ran(run(clone, 'dvc', 'repro', 'train')) == ['prepare', 'train']
    assert json.loads((clone/'metrics/prepare.json').read_text())['frames'] == 480 + 1000
