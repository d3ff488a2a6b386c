"""What a repair takes out of a tub is no longer part of it:
neither for DVC nor for our own digest of a folder."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root
from edgecar.data.check import repair, verify
from edgecar.data.public import digest, pinned
from edgecar.data.toy import toy_tub

ROOT = repo_root(Path(__file__).parent)


@pytest.fixture
def tub(tmp_path):
    "A tub in a repository with DVC and the `.dvcignore` of this one."
    for command in (['git', 'init', '-q'], [sys.executable, '-m', 'dvc', 'init', '-q']):
        subprocess.run(command, cwd=tmp_path, check=True)
    shutil.copy(ROOT/'.dvcignore', tmp_path)
    return toy_tub(tmp_path/'tub', n=20)


def dvc(tub, *args):
    return subprocess.run([sys.executable, '-m', 'dvc', *args], cwd=tub.parent, check=True,
                          capture_output=True, text=True).stdout


def litter(tub):
    (tub/'images/._3_cam_image_array_.jpg').write_bytes(b'\0\5\x16\7')


def test_a_repaired_tub_is_the_tub_without_its_litter(tub):
    dvc(tub, 'add', '-q', 'tub')
    pin = pinned(tub)
    litter(tub)
    assert digest(tub) != pin and 'modified' in dvc(tub, 'status')
    folder = repair(tub).folder
    assert (folder/'images/._3_cam_image_array_.jpg').is_file() and verify(tub) == []
    assert digest(tub) == pin and 'up to date' in dvc(tub, 'status')


def test_dvc_and_we_leave_out_the_same(tub):
    (tub/'images/5_cam_image_array_.jpg').write_bytes(b'')
    folder = repair(tub).folder
    dvc(tub, 'add', '-q', 'tub')
    assert pinned(tub) == digest(tub)
    assert pinned(tub) == digest(shutil.copytree(tub, tub.parent/'copy',
                                                 ignore=shutil.ignore_patterns('.quarantine')))
    (folder/'faults.json').write_text('[]')
    assert pinned(tub) == digest(tub) and 'up to date' in dvc(tub, 'status')


def test_dvc_never_deletes_a_quarantine(tub):
    dvc(tub, 'add', '-q', 'tub')
    litter(tub)
    (tub/'images/5_cam_image_array_.jpg').unlink()
    folder = repair(tub).folder
    dvc(tub, 'checkout', '--force', 'tub.dvc')
    assert (digest(tub) == pinned(tub) and (folder/'faults.json').is_file()
            and (folder/'manifest.json').is_file())
