"""The guides, each executed from its first cell to its last as a reader would."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
GUIDES = sorted((ROOT/'nbs/guides').glob('*.ipynb'))


@pytest.mark.slow
@pytest.mark.parametrize('path', GUIDES, ids=lambda p: p.stem)
def test_guide_runs(path, tmp_path):
    if "repo_root()/'data" in path.read_text():
        subprocess.run([ROOT/'scripts/data'], check=True)   # nothing to do where it is there
    done = subprocess.run(
        [sys.executable, '-m', 'papermill', '-k', 'python3', '-l', 'python', '--no-progress-bar',
         '--cwd', str(path.parent), str(path), str(tmp_path/path.name)],
        env=os.environ | dict(TMPDIR=str(tmp_path)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
