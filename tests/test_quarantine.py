"""What a repair takes out of a tub is no longer part of it:
neither for DVC nor for our own digest of a folder."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root
from edgecar.data.check import repair_tub, find_faults
from edgecar.contracts.digest import folder_md5
from edgecar.data.public import pinned_md5
from edgecar.data.synthetic import synthetic_tub

ROOT = repo_root(Path(__file__).parent)


@pytest.fixture
def tub(tmp_path):
    "A tub in a repository with DVC and the `.dvcignore` of this one."
    for command in (['git', 'init', '-q'], [sys.executable, '-m', 'dvc', 'init', '-q']):
        subprocess.run(command, cwd=tmp_path, check=True)
    shutil.copy(ROOT/'.dvcignore', tmp_path)
    return synthetic_tub(tmp_path/'tub', n=20)


def dvc(tub, *args):
    return subprocess.run([sys.executable, '-m', 'dvc', *args], cwd=tub.parent, check=True,
                          capture_output=True, text=True).stdout


def litter(tub):
    (tub/'images/._3_cam_image_array_.jpg').write_bytes(b'\0\5\x16\7')


@pytest.mark.slow
def test_a_repaired_tub_is_the_tub_without_its_litter(tub):
    dvc(tub, 'add', '-q', 'tub')
    pin = pinned_md5(tub)
    litter(tub)
    assert folder_md5(tub) != pin and 'modified' in dvc(tub, 'status')
    folder = repair_tub(tub).folder
    assert (folder/'images/._3_cam_image_array_.jpg').is_file() and find_faults(tub) == []
    assert folder_md5(tub) == pin and 'up to date' in dvc(tub, 'status')


def test_dvc_and_we_leave_out_the_same(tub):
    (tub/'images/5_cam_image_array_.jpg').write_bytes(b'')
    folder = repair_tub(tub).folder
    dvc(tub, 'add', '-q', 'tub')
    assert pinned_md5(tub) == folder_md5(tub)
    assert pinned_md5(tub) == folder_md5(shutil.copytree(tub, tub.parent/'copy',
                                                         ignore=shutil.ignore_patterns('.quarantine')))
    (folder/'faults.json').write_text('[]')
    assert pinned_md5(tub) == folder_md5(tub) and 'up to date' in dvc(tub, 'status')


def test_dvc_never_deletes_a_quarantine(tub):
    dvc(tub, 'add', '-q', 'tub')
    litter(tub)
    (tub/'images/5_cam_image_array_.jpg').unlink()
    folder = repair_tub(tub).folder
    dvc(tub, 'checkout', '--force', 'tub.dvc')
    assert (folder_md5(tub) == pinned_md5(tub) and (folder/'faults.json').is_file()
            and (folder/'manifest.json').is_file())
