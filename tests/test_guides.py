"""The guides, each executed from its first cell to its last as a reader would."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root

GUIDES = sorted((repo_root(Path(__file__).parent)/'nbs/guides').glob('*.ipynb'))


@pytest.mark.slow
@pytest.mark.parametrize('path', GUIDES, ids=lambda p: p.stem)
def test_guide_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'papermill', '-k', 'python3', '-l', 'python', '--no-progress-bar',
         '--cwd', str(path.parent), str(path), str(tmp_path/path.name)],
        env=os.environ | dict(TMPDIR=str(tmp_path)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
