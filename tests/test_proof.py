"""`edgecar prove`: what a cluster asks of the deployed image before a car gets it."""
import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter

from edgecar.core import read_json, sha256_file, write_json

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT/'build/bundle/twin'
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def bundle(tmp_path):
    if not (BUNDLE/'pilot.tflite').is_file():
        pytest.skip('no pilot is here -> make repro')
    for name in ('pilot.tflite', 'manifest.json'):
        shutil.copy(BUNDLE/name, tmp_path)
    return tmp_path


def prove(folder):
    return subprocess.run(['edgecar', 'prove', folder/'pilot.tflite', '--tracks', '16', '--steps', '200'],
                          capture_output=True, text=True)


def test_the_released_pilot_proves_itself(bundle):
    done = prove(bundle)
    assert done.returncode == 0 and 'BROKEN' not in done.stdout, done.stdout + done.stderr


def test_a_pilot_that_turned_bad_is_held_back(bundle):
    "Its weights are as they would be after a broken conversion: the file loads, and drives nowhere."
    model = bundle/'pilot.tflite'
    net, text = Interpreter(str(model)), model.read_bytes()
    net.allocate_tensors()
    broken = 0
    for tensor in net.get_tensor_details():
        with contextlib.suppress(ValueError):   # what is no constant
            weights = net.get_tensor(tensor['index'])
            if weights.nbytes > 4000 and text.count(weights.tobytes()) == 1:
                text = text.replace(weights.tobytes(), weights[..., ::-1].tobytes())
                broken += 1
    assert broken
    model.write_bytes(text)
    manifest = read_json(bundle/'manifest.json')
    manifest['pilot']['sha256'] = sha256_file(model)
    write_json(bundle/'manifest.json', manifest)
    done = prove(bundle)
    assert done.returncode == 1 and 'off_track_per_km' in done.stdout and 'BROKEN' in done.stdout, (
        done.stdout + done.stderr)
