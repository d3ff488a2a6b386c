"""A replay passes what drives the same, and catches what does not:
here a crop and a scale that somebody changed."""
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edgecar.data.frames import fit_frame
from edgecar.data.synthetic import synthetic_tub
from edgecar.pilot.replay import read_reference
from edgecar.pilot.runtime import Pilot


@pytest.fixture(scope='module')
def rig(tmp_path_factory, tf):
    "A tub, and a pilot whose weights are drawn, not trained: it reacts to every pixel."
    from edgecar.core import seed_all
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.model import make_kind
    folder = tmp_path_factory.mktemp('replay')
    synthetic_tub(folder/'tub', n=40)
    seed_all(3)
    k, wide = make_kind('edge'), make_kind('edge', top=.3)
    net = k.net()
    net.set_weights([w*1.3 if w.ndim > 1 else w for w in net.get_weights()])
    (other := wide.net()).set_weights(net.get_weights())
    blobs = dict(pilot=convert_to_tflite(k.whole(net)), scaled=convert_to_tflite(k.whole(net, 1/128)),
                 cropped=convert_to_tflite(wide.whole(other)))
    for name, blob in blobs.items():
        (folder/f'{name}.tflite').write_bytes(blob)
    return folder


def replay(folder, model, *more):
    return subprocess.run(
        [Path(sys.executable).parent/'edgecar', 'replay', 'tub', '--model', f'{model}.tflite',
         '--refs', 'refs/tub.csv', *more], cwd=folder, capture_output=True, text=True)


def test_what_drives_the_same_passes(rig):
    assert replay(rig, 'pilot', '--update-refs').stdout == 'refs/tub.csv: 40 frames\n'
    before = (rig/'refs/tub.csv').read_bytes()
    done = replay(rig, 'pilot')
    assert done.returncode == 0 and 'none changed' in done.stdout
    assert replay(rig, 'pilot', '--update-refs').returncode == 0
    assert (rig/'refs/tub.csv').read_bytes() == before


@pytest.mark.parametrize('model', ['scaled', 'cropped'])
def test_changed_preprocessing_is_caught(rig, model):
    replay(rig, 'pilot', '--update-refs')
    done = replay(rig, model)
    assert done.returncode == 1 and 'of 40 frames have changed' in done.stderr
    assert re.search(r'^ *\d+  (steering|throttle) ', done.stdout, re.MULTILINE), done.stdout   # the largest


@pytest.mark.parametrize('size, done', [
    ((224, 224), '224x224 cropped to 168x224, resized to 120x160'),
    ((720, 1280), '720x1280 cropped to 720x960, resized to 120x160'),
    ((96, 160), '96x160 cropped to 96x128, resized to 120x160'),
], ids=['224x224', '1280x720', '160x96'])
def test_a_recording_of_another_size_is_fitted_and_the_report_says_so(rig, tmp_path, size, done):
    synthetic_tub(tmp_path/'tub', n=4, size=size)
    model, edgecar = rig/'pilot.tflite', Path(sys.executable).parent/'edgecar'
    for more, report in ((['--update-refs'], 'refs/tub.csv: 4 frames'),
                         ([], '4 frames, none changed by more than 0.01')):
        command = [edgecar, 'replay', 'tub', '--model', model, *more]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout) == (0, f'tub: 4 of {done}\n{report}\n'), ran.stderr
    frames = [fit_frame(cv2.imread(str(f))[..., ::-1], (120, 160))
              for f in sorted((tmp_path/'tub/images').iterdir())]
    want = Pilot(model).drive(frames)
    commands = [row[1:] for row in read_reference(tmp_path/'refs/tub.csv')]
    assert abs(want - commands).max() < .05, 'the same frames, but for the decoder of their pictures'
