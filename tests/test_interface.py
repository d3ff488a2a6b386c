"""Models that are sound and no pilots: refused with the file and what is wrong with it,
in the library and on the command line."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import EdgecarError
from edgecar.data.synthetic import synthetic_tub
from edgecar.pilot.runtime import Pilot


@pytest.fixture(scope='module')
def models(tmp_path_factory, tf):
    "Real .tflite files that TensorFlow made, by name."
    keras, layers, folder = tf.keras, tf.keras.layers, tmp_path_factory.mktemp('models')

    def model(outputs, channels=3):
        frame = keras.Input((120, 160, channels), name='frame')
        x = layers.Flatten()(layers.AveragePooling2D(40)(frame))
        return keras.Model(frame, [layers.Dense(n, name=name)(x) for name, n in outputs.items()])
    made = dict(classifier=model(dict(label=10)), wide=model(dict(n_outputs0=3, n_outputs1=3)),
                steering=model(dict(steering=1)), grey=model(dict(n_outputs0=1, n_outputs1=1), 1))
    for name, net in made.items():
        (folder/f'{name}.tflite').write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())
    whole = (folder/'classifier.tflite').read_bytes()
    (folder/'cut.tflite').write_bytes(whole[:len(whole) // 2])
    return folder


REFUSED = {
    'classifier': r'has the outputs label (1, 10)',
    'wide': r'has the outputs n_outputs0 (1, 3), n_outputs1 (1, 3)',
    'steering': r'has the outputs steering (1, 1)',
    'grey': r'has an input of shape (1, 120, 160, 1)',
    'cut': r'is not a TFLite model that can run here',
}
MEND = ('-> a pilot takes one frame (1, h, w, 3) and gives n_outputs0 and n_outputs1, '
        'or angle_out and throttle_out')


@pytest.mark.parametrize('name', REFUSED)
def test_is_no_pilot(models, name):
    with pytest.raises(EdgecarError) as e:
        Pilot(models/f'{name}.tflite')
    assert str(e.value).startswith(f'{models}/{name}.tflite: {REFUSED[name]}') and MEND in str(e.value)


@pytest.mark.parametrize('name', REFUSED)
def test_score_says_so_in_one_line(models, tmp_path, name):
    "`edgecar score` is the one command that loads a pilot."
    synthetic_tub(tmp_path/'tub', n=3)
    done = subprocess.run([Path(sys.prefix)/'bin/edgecar', 'score', models/f'{name}.tflite', 'tub'],
                          cwd=tmp_path, env={**os.environ, 'COLUMNS': '200'}, capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, '')
    assert (done.stderr.startswith(f'edgecar: {models}/{name}.tflite: {REFUSED[name]}')
            and MEND in done.stderr and done.stderr.count('\n') == 1), done.stderr
