"What a pull request is shown: its pilot beside another one, on the same frames and on the same tracks."
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import read_json
from edgecar.pilot.compare import compare_pilots, write_comparison

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]   # after `make repro`


def test_two_pilots_are_compared_on_the_same_frames_and_tracks(tmp_path):
    export, before = ROOT/'build/export', read_json(ROOT/'metrics/evaluate.json')
    found = compare_pilots(ROOT, export/'pilot.tflite', export/'int8.tflite', before, tracks=2, steps=60)
    assert 0 < found.difference()['mean'] < .2, 'the same net, in eight bits'
    assert len(found.tracks) == 2 and all(new > 0 and old > 0 for _, new, old in found.tracks)
    assert len({len(values) for values in found.steering.values()}) == 1
    text = write_comparison(tmp_path, found, 'Two pilots').read_text()
    assert 'differ by' in text and len(re.findall(r'\| kept \|', text)) == len(found.rules)
    assert (tmp_path/'report.html').read_text().count('data:image/png') == 2


def test_the_command_writes_it_without_an_old_pilot_too(tmp_path):
    done = subprocess.run([Path(sys.prefix)/'bin/edgecar', 'report', '--branch', 'HEAD', '--to', tmp_path],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and '# The pilot against HEAD' in done.stdout, done.stderr
    assert {'report.md', 'report.html', 'frames.png', 'tracks.png'} <= {p.name for p in tmp_path.iterdir()}
