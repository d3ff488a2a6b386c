"`make check` in a clone: silence when all is in step, else the files and what to do."
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    repo = tmp_path_factory.mktemp('check')/'repo'
    subprocess.run(['git', 'clone', '-q', ROOT, repo], check=True)
    return repo


def check(repo):
    env = ({k: v for k, v in os.environ.items() if not k.startswith(('GIT_', 'MAKE'))}
           | {'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}'})
    return subprocess.run(['make', '-o', 'setup', 'check'], cwd=repo, env=env, capture_output=True, text=True,
                          timeout=250)  # with our environment


def test_in_step(clone):
    done = check(clone)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('file, old, new', [
    ('edgecar/core.py', 'import json', 'import json  # by hand'),
    ('nbs/00_core.ipynb', '"execution_count": null', '"execution_count": 3'),
    ('README.md', '# ', '# By hand: '),
])
def test_out_of_step(clone, file, old, new):
    (clone/file).write_text((clone/file).read_text().replace(old, new, 1))
    subprocess.run(['git', 'add', '.'], cwd=clone, check=True)
    done = check(clone)
    assert done.returncode and file in done.stdout and '-> look at git diff' in done.stderr
    subprocess.run(['git', 'reset', '-q', '--hard'], cwd=clone, check=True)
