"`scripts/repro` with the real DVC on a small repository: what ran, was skipped or failed, and for how long."
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
STAGES = '''
stages:
  slow: {cmd: sleep 1 && echo slow > slow, outs: [slow]}
  judge:
    cmd: test ! -e bad && echo good > good
    deps: [slow]
    params: [bound]
    outs: [good]
'''


@pytest.fixture
def repo(tmp_path):
    "A repository with two stages; what makes the data and what prints the results are programs of its own."
    programs = {'scripts/data': '#!/bin/sh\nsleep .3\n', 'bin/edgecar': '#!/bin/sh\necho the results\n'}
    for name, text in {'dvc.yaml': STAGES, 'params.yaml': 'bound: 1\n', **programs}.items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text(text)
        if '/' in name:
            (tmp_path/name).chmod(0o755)
    shutil.copy(ROOT/'scripts/repro', tmp_path/'scripts')
    subprocess.run(['git', 'init', '-q', tmp_path], check=True)
    subprocess.run([sys.executable, '-m', 'dvc', 'init', '-q'], cwd=tmp_path, check=True)
    return tmp_path


def loop(repo, began=None):
    "The exit code, and {step: (seconds or None, note)} of the table that stands at the end."
    path = f'{repo}/bin:{Path(sys.prefix)/"bin"}:{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'BEGAN': str(began or time.time())}
    done = subprocess.run(['scripts/repro'], cwd=repo, env=env, capture_output=True, text=True, timeout=200)
    lines = done.stdout.partition('\nstep ')[2].splitlines()[1:]
    rows = [re.fullmatch(r'(\S+) +([\d.]*) *(.*)', line) for line in lines]
    return done.returncode, {row[1]: (float(row[2]) if row[2] else None, row[3]) for row in rows}, done.stdout


def test_what_runs_is_timed_and_what_need_not_is_named(repo):
    began = time.time()
    code, steps, output = loop(repo)
    took = time.time() - began
    assert code == 0, output
    assert [*steps] == ['set-up', 'data', 'slow', 'judge', 'rest', 'total']
    assert steps['set-up'] == (None, 'skipped: up to date')
    assert steps['data'][0] >= .3 and steps['slow'][0] >= 1
    assert steps['slow'][0] + steps['data'][0] <= steps['total'][0] <= took + .1   # a digit is shown
    total = sum(seconds or 0 for name, (seconds, _) in steps.items() if name != 'total')
    assert abs(total - steps['total'][0]) < .3
    lines = "Running stage 'slow'", "Running stage 'judge'", 'the results', '\nstep '
    places = [output.index(line) for line in lines]
    assert places == sorted(places)

    (repo/'params.yaml').write_text('bound: 2\n')
    _, steps, output = loop(repo)
    assert steps['slow'] == (None, 'skipped: nothing changed') and steps['judge'][0] < steps['total'][0]
    (repo/'params.yaml').write_text('bound: 1\n')
    assert loop(repo)[1]['judge'] == (None, 'skipped: from the cache')


def test_set_up_counts(repo):
    "By the moment at which make began, and the file that set-up ends with."
    ready = Path(sys.prefix)/'.ready'
    if not ready.exists():
        pytest.skip('this environment is not one of ours')
    began = ready.stat().st_mtime - 7
    _, steps, _ = loop(repo, began)
    assert steps['set-up'] == (7, '') and steps['total'][0] > time.time() - began - 30


@pytest.mark.parametrize('step', ['judge', 'data'])
def test_a_step_that_fails(repo, step):
    (repo/'bad').touch()
    if step == 'data':
        (repo/'scripts/data').write_text('#!/bin/sh\nexit 3\n')
    code, steps, output = loop(repo)
    assert code and 'the results' not in output
    assert steps[step][1] == 'failed' and [*steps][-3] == step and steps['total'][0]


@pytest.mark.parametrize('was, now, why', [
    ('  epochs: 4 ', '  epoch: 4 ', 'train has the parameters .* wrong or missing: epoch, epochs'),
    ('  batch: 64 ', '  batch: many ', "train.batch is 'many'"),
    ('train:', 'train: [', 'params.yaml'),
])
def test_a_wrong_params_file_is_found_before_anything_runs(tmp_path, was, now, why):
    "With the file, the section, the name or value, and what would be right."
    (tmp_path/'scripts').mkdir()
    shutil.copy(ROOT/'scripts/data', tmp_path/'scripts')
    text = (ROOT/'params.yaml').read_text()
    assert was in text
    (tmp_path/'params.yaml').write_text(text.replace(was, now, 1))
    path = f'{Path(sys.prefix)/"bin"}:{os.environ["PATH"]}'
    done = subprocess.run([tmp_path/'scripts/data'], env=os.environ | dict(PATH=path, PYTHONPATH=str(ROOT)),
                          capture_output=True, text=True, timeout=200)
    assert done.returncode and re.search(why, done.stderr), done.stderr
    assert not (tmp_path/'runs').exists() and 'Traceback' not in done.stderr
