"""DonkeyCar's models: those that are trained here drive in an unmodified DonkeyCar,
and those that it made drive here; both ways with the transformations that they were trained through."""
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from support.donkey import BESIDE, H, IMU, W, donkey

from edgecar.core import EdgecarError, read_json
from edgecar.data.frames import load_recording
from edgecar.data.split import split_by_time
from edgecar.data.synthetic import synthetic_tub
from edgecar.pilot.rollout import RolloutSpec, run_rollouts, rollout
from edgecar.pilot.runtime import Pilot, note_of, with_note

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.usefixtures('tf'), pytest.mark.slow]
KINDS = 'linear', 'categorical', 'inferred', 'memory'
STEPS = ('CROP(top=30), TRAPEZE(left=10, right=86, bottom_right=96, top=20, bottom=96), '
         'RGB2GRAY, GRAY2RGB, BLUR')
THEIRS = dict(TRANSFORMATIONS=['CROP', 'TRAPEZE', 'RGB2GRAY', 'GRAY2RGB', 'BLUR'], ROI_CROP_TOP=30,
              ROI_TRAPEZE_UL=10, ROI_TRAPEZE_UR=86, ROI_TRAPEZE_LR=96, ROI_TRAPEZE_MIN_Y=20,
              ROI_TRAPEZE_MAX_Y=96)


def clipped(commands):
    return np.clip(np.array([[float(x) for x in c[:2]] for c in commands]), -1, 1)


@pytest.fixture(scope='module')
def rec(tmp_path_factory):
    folder = tmp_path_factory.mktemp('rec')
    whole = load_recording([synthetic_tub(folder/'tub', n=160, seed=2)], cache=folder/'cache', bar=False)
    return replace(whole, frames=np.ascontiguousarray(whole.frames[:, 120 - H:, 32:32 + W]))


@pytest.fixture(scope='module')
def trained(rec, tmp_path_factory):
    """kind, transform -> a folder with pilot.h5 and the exported files, its net and its kind;
    each trained once."""
    from edgecar.pilot.export import export_formats
    from edgecar.pilot.train import Training, save_model, train
    made = {}

    def get(kind, transform='none'):
        if (kind, transform) not in made:
            folder = tmp_path_factory.mktemp(kind)
            net, k, _ = train(
                rec, split_by_time(rec.session),
                Training(kind=kind, epochs=2, average=.5, lr=1e-3, transform=transform), bar=False)
            save_model(folder/'pilot.h5', k.whole(net))
            export_formats(net, k, rec.frames[::20], folder)
            made[kind, transform] = folder, net, k
        return made[kind, transform]
    return get


@pytest.fixture(scope='module')
def existing(tmp_path_factory):
    "type -> .h5 and .tflite as DonkeyCar makes them, with its pilot."
    from donkeycar.parts.interpreter import keras_to_tflite
    from tensorflow.keras.utils import set_random_seed
    folder, made = tmp_path_factory.mktemp('theirs'), {}

    def get(kind):
        if kind not in made:
            set_random_seed(1)   # now and then a memory is born dead: nothing reaches the wheel
            pilot = donkey(kind, *((120, 160) if kind == '3d' else (H, W)))
            net = pilot.interpreter.model
            # biases too
            net.set_weights([w + np.random.default_rng(0).normal(0, .01, w.shape) for w in net.get_weights()])
            net.save(folder/f'{kind}.h5')
            keras_to_tflite(net, folder/f'{kind}.tflite')
            made[kind] = folder/f'{kind}.h5', folder/f'{kind}.tflite', pilot
        return made[kind]
    return get


@pytest.mark.parametrize('kind', KINDS)
def test_what_is_trained_here_drives_in_donkeycar(kind, trained, rec):
    folder, *_ = trained(kind)
    h5, lite, fresh = donkey(kind), donkey(f'tflite_{kind}'), donkey(kind)
    h5.load(str(folder/'pilot.h5'))
    lite.load(str(folder/'donkey.tflite'))
    for theirs in h5, lite:
        assert ([sorted(x) for x in (theirs.interpreter.input_keys, theirs.interpreter.output_keys)]
                == [sorted(x) for x in (fresh.interpreter.input_keys, fresh.interpreter.output_keys)])
    assert h5.interpreter.shapes == fresh.interpreter.shapes
    frames = rec.frames[:12]
    ours = Pilot(folder/'donkey.tflite').drive(frames)
    assert ours.std() > 0 and (kind == 'categorical' or ours[:, 0].std() > 1e-4)
    for theirs in h5, lite:
        np.testing.assert_allclose(clipped(theirs.run(f) for f in frames), ours, atol=1e-4)   # memory and all


@pytest.mark.parametrize('kind', KINDS)
def test_every_format_drives_like_the_net(kind, trained, rec):
    from edgecar.pilot.export import parity
    folder, net, k = trained(kind)
    files = {name: folder/f'{name}.tflite' for name in ('float32', 'int8', 'donkey')
             if (folder/f'{name}.tflite').exists()}
    assert ('int8' in files) is (kind != 'memory')
    report = parity(net, k, files, rec.frames[:40])
    for name, r in report.items():
        # a vote may flip to another bin
        assert r['steering_mean'] < .15 if name == 'int8' else r['steering_max'] < 1e-4, (name, r)
    files['donkey'] = ROOT/'no.tflite'
    with pytest.raises(EdgecarError):
        parity(net, k, files, rec.frames[:2])


@pytest.mark.parametrize('kind, form',
                         [(kind, form) for kind in (*KINDS, 'imu', 'behavior', 'localizer', 'rnn')
                          for form in ('h5', 'tflite') if (kind, form) != ('rnn', 'tflite')])
def test_what_donkeycar_made_drives_here(kind, form, existing, rec, tmp_path):
    from edgecar.pilot.export import convert_h5
    h5, lite, theirs = existing(kind)
    more = dict(behavior=1) if kind == 'behavior' else {}
    pilot = (Pilot(lite, **more) if form == 'tflite'
             else Pilot(convert_h5(h5, tmp_path/'made.tflite').path, **more))
    fresh = donkey(kind)   # with nothing remembered
    fresh.load(str(h5))
    given = dict(imu=IMU) if kind == 'imu' else {}
    commands, places = [], []
    for f in rec.frames[:8]:
        commands.append(pilot(f, **given))
        places.append(pilot.location)
    want = [fresh.run(f, *BESIDE.get(kind, ())) for f in rec.frames[:8]]
    np.testing.assert_allclose(commands, clipped(want), atol=1e-4)
    assert places == ([int(w[2]) for w in want] if kind == 'localizer' else [None]*8)


def test_an_owner_converts_what_the_car_has(existing, tmp_path):
    done = subprocess.run([Path(sys.executable).with_name('edgecar'), 'convert', existing('imu')[0],
                           to := tmp_path/'imu.tflite'], capture_output=True, text=True)
    assert ((done.returncode, done.stdout) == (0, f'{to}: frames of {W} x {H}, and imu with each\n')
            and Pilot(to).needs == ('imu',)), done.stderr


@pytest.mark.parametrize('kind, form, ops', [('rnn', 'tflite', 'FlexTensorListReserve'),
                                             ('3d', 'tflite', 'FlexMaxPool3D'), ('3d', 'h5', 'MaxPooling3D')])
def test_what_cannot_run_here_says_so(kind, form, ops, existing, tmp_path):
    from edgecar.pilot.export import convert_h5
    h5, lite, _ = existing(kind)
    with pytest.raises(EdgecarError) as e:
        Pilot(lite) if form == 'tflite' else convert_h5(h5, tmp_path/'made.tflite')
    assert (str(e.value).startswith(f'{lite if form == "tflite" else h5}: '
                                    'needs TensorFlow operations that LiteRT does not have')
            and ops in str(e.value) and '-> drive it with DonkeyCar' in str(e.value))
    assert not (tmp_path/'made.tflite').exists()


def test_what_a_model_wants_beside_the_frame(existing, rec):
    imu, frame = Pilot(existing('imu')[1]), rec.frames[0]
    assert imu.needs == ('imu',) and imu(frame, IMU) != imu(frame, -IMU)
    for wrong in None, IMU[:3]:
        with pytest.raises(EdgecarError, match='wants 6 numbers of an IMU'):
            imu(frame, wrong)
    one, other = (Pilot(existing('behavior')[1], behavior=n).infer(frame)[0] for n in (0, 1))
    assert np.abs(one - other).max() > 1e-6
    with pytest.raises(EdgecarError, match='has behaviors 0..1, not 2'):
        Pilot(existing('behavior')[1], behavior=2)(frame)


@pytest.mark.parametrize('kind', ['memory', 'rnn'])
def test_what_is_remembered_ends_with_the_episode(kind, existing, rec, tmp_path):
    from edgecar.pilot.export import convert_h5
    pilot = Pilot(convert_h5(existing(kind)[0], tmp_path/'made.tflite').path)
    first, second = pilot(rec.frames[0]), pilot(rec.frames[0] if kind == 'memory' else rec.frames[60])
    assert first != second and pilot.peek(rec.frames[0]) == pilot.peek(rec.frames[0]), (
        'peeking is not driving')
    pilot.reset()
    assert pilot(rec.frames[0]) == first


def test_a_memory_drives_the_twin_the_same_on_any_number_of_processes(tmp_path):
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.model import make_kind
    k = make_kind('memory')
    (path := tmp_path/'memory.tflite').write_bytes(convert_to_tflite(k.whole(k.net())))
    drives = [RolloutSpec('oval', seed=i, steps=90)
              for i in range(3)]   # with what it knows it is carried back
    assert (run_rollouts(drives, path, workers=1, bar=False)
            == run_rollouts(drives, path, workers=2, bar=False)
            == [rollout(d, Pilot(path)) for d in drives])


@pytest.mark.parametrize('kind', ['edge', 'linear', 'memory'])
def test_the_transformation_travels_with_the_model(kind, trained, rec, tmp_path):
    from edgecar.data.transform import Transform
    from edgecar.pilot.export import parity, convert_to_tflite
    from edgecar.pilot.model import net_and_kind
    from edgecar.pilot.train import open_model
    folder, net, k = trained(kind, STEPS)
    again, was = net_and_kind(open_model(folder/'pilot.h5'))
    assert (was.transform.text == k.transform.text == Transform(STEPS, (H, W)).text
            and all((a == b).all() for a, b in zip(again.get_weights(), net.get_weights())) or kind == 'edge')
    candidate = convert_to_tflite(k.whole(net))   # what drives in the twin during the training
    assert note_of(candidate) == k.transform.to_json()
    for path in sorted(folder.glob('*.tflite')):
        assert note_of(path.read_bytes()) == k.transform.to_json(), path
        plain = path.read_bytes()[:path.stat().st_size - len(with_note(b'', k.transform.to_json()))]
        (bare := tmp_path/path.name).write_bytes(plain)
        frames = Transform(STEPS, (H, W)).apply_all(rec.frames[:10])
        np.testing.assert_array_equal(Pilot(path).drive(rec.frames[:10]), Pilot(bare).drive(frames))
        assert np.abs(Pilot(path).drive(rec.frames[:10])
                      - Pilot(bare).drive(rec.frames[:10])).max() > 1e-3, 'the steps matter'
    assert parity(net, k, dict(donkey=folder/'donkey.tflite'),
                  rec.frames[:10])['donkey']['steering_max'] < 1e-4


def test_donkeycar_with_the_same_list_drives_alike(trained, rec):
    import donkeycar.templates.cfg_complete as defaults
    from donkeycar.parts.image_transformations import ImageTransformations
    folder, *_ = trained('linear', STEPS)
    part = ImageTransformations(
        SimpleNamespace(**{k: x for k, x in vars(defaults).items() if k.isupper()} | THEIRS),
        'TRANSFORMATIONS')
    theirs = donkey('tflite_linear')
    theirs.load(str(folder/'donkey.tflite'))
    np.testing.assert_allclose(clipped(theirs.run(part.run(f)) for f in rec.frames[:10]),
                               Pilot(folder/'donkey.tflite').drive(rec.frames[:10]), atol=1e-4)


def test_another_size_of_the_camera_is_refused(trained, rec, tmp_path):
    folder, net, k = trained('linear', STEPS)
    with pytest.raises(EdgecarError, match='the pilot wants'):
        Pilot(folder/'donkey.tflite')(np.zeros((120, 160, 3), np.uint8))
    data = (folder/'donkey.tflite').read_bytes()
    (odd := tmp_path/'odd.tflite').write_bytes(
        with_note(data[:len(data) - len(with_note(b'', k.transform.to_json()))],
                  '{"transform": "RESIZE(width=80, height=60)", "camera": [96, 96]}'))
    with pytest.raises(EdgecarError, match='wants frames of 96x96, and RESIZE'):
        Pilot(odd)
    (torn := tmp_path/'torn.tflite').write_bytes(data.replace(b'CROP', b'CRAP', 1))
    with pytest.raises(EdgecarError, match='note that cannot be read'):
        Pilot(torn)


@pytest.mark.parametrize('kind', ['linear', 'memory'])
def test_transfer_begins_with_the_weights_of_a_donkeycar_file(kind, existing, rec):
    from edgecar.pilot.train import Training, train
    h5, _, theirs = existing(kind)
    cfg = Training(kind=kind, epochs=1, lr=1e-7, weight_decay=0., average=.5, transfer=str(h5))
    net = train(rec, split_by_time(rec.session), cfg, bar=False)[0]
    assert max(np.abs(a - b).max()
               for a, b in zip(net.get_weights(), theirs.interpreter.model.get_weights())) < 1e-4
    with pytest.raises(EdgecarError, match=re.escape(f'{h5}: is {kind}, not categorical')):
        train(rec, split_by_time(rec.session), replace(cfg, kind='categorical'), bar=False)
    wide = replace(rec, frames=np.zeros((len(rec), 120, 160, 3), np.uint8))
    with pytest.raises(EdgecarError, match='was trained on frames of 96x96 .* here it is 120x160'):
        train(wide, split_by_time(rec.session), cfg, bar=False)


def test_transfer_of_what_is_no_pilot(rec, existing, tmp_path):
    from edgecar.pilot.train import Training, train
    (junk := tmp_path/'junk.h5').write_bytes(b'no model')
    for path, why in [(junk, 'is not a Keras model'), (tmp_path/'none.h5', 'cannot be a start'),
                      (existing('imu')[0], "there is no pilot kind 'imu'")]:
        with pytest.raises(EdgecarError, match=why) as e:
            train(rec, split_by_time(rec.session), Training(kind='linear', epochs=1, transfer=str(path)),
                  bar=False)
        assert str(path) in str(e.value)


def flow(stage, folder, ok=True, **params):
    "Run a stage's command of dvc.yaml in another folder, as DVC would: through a shell."
    section = yaml.safe_load((ROOT/'params.yaml').read_text())[stage] | params
    cmd = re.sub(
        r'\$\{\w+\.(\w+)\}', lambda m: str(section[m[1]]),
        yaml.safe_load((ROOT/'dvc.yaml').read_text())['stages'][stage]['cmd'],
    ).replace(' nbs/flows/', f' {ROOT}/nbs/flows/')
    env = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
           'PYTHONPATH': str(ROOT), 'EDGECAR_CACHE': str(folder/'.cache')}
    done = subprocess.run(['sh', '-c', cmd], cwd=folder, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert (done.returncode == 0) is ok, done.stdout[-3000:]
    return done.stdout


@pytest.mark.timeout(300)
def test_the_flow_keeps_the_records_that_are_asked_for(tmp_path):
    synthetic_tub(tmp_path/'data/tub', n=300, seed=1)
    kept = {}
    for keep in ('all', "mode == 'user' and abs(throttle) > .05 and steering < .9 and index >= 100",
                 "mode == 'pilot'"):
        output = flow('prepare', tmp_path, ok='pilot' not in keep, keep=keep)
        if 'pilot' in keep:
            assert 'that keeps none of 300 records' in output
        else:
            kept[keep] = read_json(tmp_path/'metrics/prepare.json')
    some, every = kept[keep := [*kept][1]], kept['all']
    assert (every['dropped'] == 0 and 100 <= some['dropped'] < 200 and some['train'] < every['train']
            and some['frames'] == every['frames'] == 300)
    assert 'no record has a field speed' in flow('prepare', tmp_path, ok=False, keep='speed > 1')


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize('kind', ['edge', 'inferred', 'memory'])
def test_the_flows_carry_a_transformation_through(kind, tmp_path):
    "prepare, train, export: what ships has the list of params.yaml in it."
    synthetic_tub(tmp_path/'data/tub', n=200, seed=1)
    flow('prepare', tmp_path)
    flow('train', tmp_path, kind=kind, epochs=1, rounds=0,
         transform='CROP(top=30), RESIZE(width=128, height=96)', blur=.01)
    flow('export', tmp_path, calibrate=10)
    pilot = Pilot(tmp_path/'build/export/pilot.tflite')
    assert ((pilot.size, pilot.transform.size, pilot.transform.text)
            == ((120, 160), (96, 128),
                'CROP(left=0, top=30, right=0, bottom=0), RESIZE(width=128, height=96)'))
    assert set(pilot.beside) == ({'past'} if kind == 'memory' else set())
