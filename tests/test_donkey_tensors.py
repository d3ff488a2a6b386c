"Pilots that DonkeyCar wrote with TensorFlow before 2.7: no signature, read by the names of their tensors."
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.donkey import BESIDE, H, IMU, W, donkey

from edgecar.core import EdgecarError
from edgecar.data.synthetic import synthetic_tub
from edgecar.pilot.runtime import Pilot, decode_command

pytestmark = pytest.mark.usefixtures('tf')
OUTPUTS = {  # DonkeyCar's kind -> its output layers, steering first
    'linear': ('n_outputs0', 'n_outputs1'),
    'categorical': ('angle_out', 'throttle_out'),
    'memory': ('n_outputs0', 'n_outputs1'),
    'inferred': ('n_outputs0',),
    'imu': ('out_0', 'out_1'),
    'behavior': ('angle_out', 'throttle_out'),
    'localizer': ('angle', 'throttle', 'zloc'),
}
LAYERS_OF_2020 = dict(zloc='loc', xbehavior_in='behavior_in')   # today's name -> the name of then


def tf1(layer, number, ending):
    return f'{layer}/{ending}'


def tf22(layer, number, ending):
    return f'Identity_{number}' if number else 'Identity'


def tf24(layer, number, ending):
    return f'StatefulPartitionedCall:{number}'


def fused(layer, number, ending):
    return f'model/{layer}/{ending};model/{layer}/MatMul;model/{layer}/Read'


STYLES = {  # how a converter named the inputs, and the outputs
    'tf1': ('{}', tf1),
    'tf2.2': ('{}', tf22),
    'tf2.4': ('serving_default_{}:0', tf24),
    'fused': ('{}', fused),
}


@pytest.fixture(scope='module')
def signed(tmp_path_factory, tf):
    "kind -> the .tflite file that today's converter makes of DonkeyCar's net; with a signature."
    from donkeycar.parts.interpreter import keras_to_tflite
    folder, made = tmp_path_factory.mktemp('signed'), {}

    def get(kind):
        if kind not in made:
            tf.keras.utils.set_random_seed(1)
            net = donkey(kind).interpreter.model
            net.set_weights([w + np.random.normal(0, .01, w.shape) for w in net.get_weights()])   # biases too
            made[kind] = folder/f'{kind}.tflite'
            keras_to_tflite(net, made[kind])
        return made[kind]
    return get


def rewrite(source, to, rename, order=None):
    "Write a .tflite file without its signature: its tensors renamed by index, its outputs in another order."
    from tensorflow.lite.tools import flatbuffer_utils
    model = flatbuffer_utils.read_model(str(source))
    graph, = model.subgraphs
    model.signatureDefs = None
    for index, name in rename.items():
        graph.tensors[index].name = name.encode()
    if order is not None:
        graph.outputs = np.array([graph.outputs[n] for n in order], np.int32)
    flatbuffer_utils.write_model(model, str(to))
    return to


def tensors_of(source):
    "Inputs and outputs of a file with a signature: layer -> index of its tensor."
    import tensorflow as tf
    runner = tf.lite.Interpreter(str(source)).get_signature_runner()
    both = runner.get_input_details(), runner.get_output_details()
    return [{layer: detail['index'] for layer, detail in details.items()} for details in both]


def of_2020(source, to, kind, style, swapped):
    "Write the file as a converter of then would have named it; the numbers count layers by the alphabet."
    before, name = STYLES[style]
    inputs, outputs = tensors_of(source)
    then = {layer: LAYERS_OF_2020.get(layer, layer) for layer in (*inputs, *outputs)}
    ending = 'Softmax' if kind in ('categorical', 'behavior') else 'BiasAdd'
    rename = {index: before.format(then[layer]) for layer, index in inputs.items()}
    for number, layer in enumerate(sorted(outputs, key=then.get)):
        rename[outputs[layer]] = name(then[layer], number, ending)
    return rewrite(source, to, rename, range(len(outputs))[::-1 if swapped else 1])


def peer(path, kind, frames, outputs):
    "What TensorFlow's own interpreter says of each frame, its own last commands fed back: commands."
    import tensorflow as tf
    net = tf.lite.Interpreter(str(path))
    net.allocate_tensors()
    answers, past = [], np.zeros(6, np.float32)
    beside = dict(memory=lambda: past, imu=lambda: IMU, behavior=lambda: BESIDE['behavior'][0])
    for frame in frames:
        for detail in net.get_input_details():
            x = frame.astype(np.float32)*np.float32(1/255) if len(detail['shape']) == 4 else beside[kind]()
            net.set_tensor(detail['index'], x[None])
        net.invoke()
        out = [net.get_tensor(outputs[layer])[0] for layer in OUTPUTS[kind]]
        if kind == 'memory':
            past = np.concatenate([past[2:], *out])
        answers.append((*decode_command(out, .8), int(out[2].argmax()) if len(out) > 2 else None))
    return answers


@pytest.mark.parametrize('swapped', [False, True], ids=['listed', 'turned'])
@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize('kind', OUTPUTS)
def test_drives_as_in_tensorflow(kind, style, swapped, signed, tmp_path):
    source = signed(kind)
    path = of_2020(source, tmp_path/'old.tflite', kind, style, swapped)
    frames = np.random.default_rng(1).integers(0, 256, (6, H, W, 3), np.uint8)
    given = dict(imu=IMU) if kind == 'imu' else {}
    pilot, today = (Pilot(p, **dict(behavior=1) if kind == 'behavior' else {}) for p in (path, source))
    want = peer(path, kind, frames, tensors_of(source)[1])
    answers = [(*pilot(f, **given), pilot.location) for f in frames]
    np.testing.assert_allclose([c[:2] for c in answers], [c[:2] for c in want], atol=1e-6)
    assert [c[2] for c in answers] == [c[2] for c in want]
    assert [c[:2] for c in answers] == [today(f, **given) for f in frames], 'the signature says the same'
    steering, throttle = np.array([c[:2] for c in want]).T
    assert np.abs(steering - throttle).max() > 1e-3, 'the two could not be confused'
    assert (pilot.size, pilot.needs, set(pilot.beside)) == (today.size, today.needs, set(today.beside))


UNTOLD = 'neither names nor numbers say which of its outputs is steering'
STRANGE = 'its inputs are not those of a pilot of DonkeyCar'
NUMBERS = dict(n_outputs0='Identity', n_outputs1='Identity_1')
REFUSED = {  # kind, what its tensors are called, why it is refused
    'unnamed': ('linear', dict(n_outputs0='dense_3/BiasAdd', n_outputs1='dense_4/BiasAdd'), UNTOLD),
    'same name': ('linear', dict(n_outputs0='Identity', n_outputs1='Identity'), UNTOLD),
    'a number is missing': ('linear', dict(n_outputs0='Identity', n_outputs1='Identity_2'), UNTOLD),
    'half named': ('linear', dict(n_outputs0='n_outputs0/BiasAdd', n_outputs1='Identity_1'), 'only some'),
    'not of DonkeyCar': ('linear', dict(img_in='input_1', **NUMBERS), STRANGE),
    'another input': ('memory', dict(img_in='img_in', mem_in='input_2', **NUMBERS), 'wants 2 inputs'),
    'two frames': ('memory', dict(img_in='img_in', mem_in='img_in', **NUMBERS), STRANGE),
}


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('order', [(0, 1), (1, 0)], ids=['listed', 'turned'])
def test_what_cannot_be_told_apart_is_refused(name, order, signed, tmp_path):
    kind, called, why = REFUSED[name]
    inputs, outputs = tensors_of(signed(kind))
    rename = {(inputs | outputs)[layer]: text for layer, text in called.items()}
    path = rewrite(signed(kind), tmp_path/'odd.tflite', rename, order)
    with pytest.raises(EdgecarError) as e:
        Pilot(path)
    assert str(e.value).startswith(f'{path}: ') and why in str(e.value) and 'edgecar convert' in str(e.value)


def test_a_classifier_without_a_signature_is_no_pilot(tf, tmp_path):
    frame = tf.keras.Input((H, W, 3), name='img_in')
    net = tf.keras.Model(frame, tf.keras.layers.Dense(10)(tf.keras.layers.GlobalAveragePooling2D()(frame)))
    (whole := tmp_path/'whole.tflite').write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())
    path = rewrite(whole, tmp_path/'bare.tflite', {i: 'Identity' for i in tensors_of(whole)[1].values()})
    with pytest.raises(EdgecarError, match=r'has the outputs Identity \(1, 10\)'):
        Pilot(path)


def test_the_command_line_takes_it(signed, tmp_path):
    path = of_2020(signed('linear'), tmp_path/'old.tflite', 'linear', 'tf2.4', swapped=True)
    synthetic_tub(tmp_path/'tub', n=3, size=(H, W))
    edgecar = Path(sys.prefix)/'bin/edgecar'
    command = [edgecar, 'score', path, 'tub']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and 'steering' in done.stdout, done.stderr
