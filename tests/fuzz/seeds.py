"""Makes the corpus: `python tests/fuzz/seeds.py`. Every input is synthesised; nobody's data are in it."""

import base64
import io
import json
import os
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from fuzz.targets import INPUTS, LAYER_TYPE, TARGETS, jpeg, signer

CORPUS = Path(__file__).parent / 'corpus'
DIGEST = 'sha256:' + '0' * 64


def lines(*values):
    return ''.join(json.dumps(x) + '\n' for x in values).encode()


def record(i, **more):
    return {
        '_index': i,
        '_session_id': 's',
        '_timestamp_ms': 1000 * i,
        'cam/image_array': '0.jpg',
        'user/angle': 0.5,
        'user/throttle': 0.5,
    } | more


def tubs():
    catalogs = dict(paths=['catalog_0.catalog'], current_index=2, max_len=1000, deleted_indexes=[1])
    about = dict(created_at=1.5, sessions=dict(all_full_ids=['s'], last_id=0, last_full_id='s'))
    length = len(json.dumps(record(0))) + 1
    catalog = dict(
        two=lines(record(0), record(1)),
        odd=lines(
            record(0, **{'user/angle': '.5', '_timestamp_ms': '2020-01-01T00:00:00'}),
            {'__empty__': True, '_index': 1},
            record(1, **{'user/throttle': None}),
        ),
    )
    return dict(
        tub_manifest=dict(usual=lines(*INPUTS, {'note': 'a'}, about, catalogs)),
        tub_catalog=catalog,
        tub_alone=catalog,
        tub_lengths=dict(
            usual=lines(
                dict(
                    created_at=1.5,
                    line_lengths=[length, length],
                    start_index=0,
                    path='catalog_0.catalog_manifest',
                )
            )
        ),
    )


def pictures():
    from PIL import Image

    made = {}
    for kind in 'JPEG', 'PNG', 'TGA', 'BMP', 'GIF', 'TIFF', 'WEBP':
        Image.new('RGB', (9, 7), (200, 90, 10)).save(out := io.BytesIO(), kind)
        made[kind.lower()] = out.getvalue()
    Image.new('L', (9, 7)).save(out := io.BytesIO(), 'JPEG', progressive=True)
    return dict(picture=made | dict(grey=out.getvalue(), cv2=jpeg()))


def models():
    "A pilot of a few weights, as .h5 and as .tflite, with a note and without."
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
    from edgecar.pilot.model import tf
    from edgecar.pilot.runtime import with_note
    from edgecar.pilot.train import save_model

    keras = tf.keras
    keras.utils.set_random_seed(0)
    frame = keras.Input((8, 8, 3), name='img_in')
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, 2, activation='relu')(frame))
    net = keras.Model(frame, [keras.layers.Dense(1, name=f'n_outputs{i}')(x) for i in (0, 1)])
    save_model(path := CORPUS / 'keras_h5' / 'usual', net)
    usual = tf.lite.TFLiteConverter.from_keras_model(net).convert()
    note = json.dumps(dict(transform='CROP(top=2), RESIZE(width=8, height=8)', camera=[10, 10]))
    no_buffers = usual[:16] + bytes(2) + usual[18:]   # by its table, the model has no such list
    endless = bytearray(path.read_bytes())
    heap = endless.index(b'GCOL')
    endless[heap + 16:heap + 32] = bytes(16)   # free space, without a length
    return dict(
        keras_h5=dict(usual=path.read_bytes(), endless=bytes(endless)),
        tflite=dict(usual=usual, note=with_note(usual, note), no_buffers=no_buffers),
        transform_note=dict(usual=note.encode()),
    )


def remembered():
    """Return seeds of what a car remembers: turns and a pin of a black box, an audit log."""
    from edgecar.car.ring import encode_entry
    from edgecar.contracts.audit import FIRST_DIGEST, AuditEvent, AuditHead, line_digest
    from edgecar.contracts.box import BoxPin, BoxTurn

    turns = [BoxTurn('a', n / 20, 1.7e9, n / 20, 'local', state='armed-pilot') for n in range(2)]
    pin = BoxPin('1-a', 'a', 0.0, 33.0, ((30.0, 'page'),))
    wall = '2026-11-28T10:00:00.000Z'
    event = AuditEvent(1, FIRST_DIGEST, wall, 1.0, 'take', 'page', '192.0.2.7').to_line()
    head = json.dumps(AuditHead(number=1, digest=line_digest(event)).to_dict()).encode()
    return dict(
        box_ring=dict(
            turns=b''.join(encode_entry(turn, bytes(9)) for turn in turns),
            pin=json.dumps(pin.to_dict()).encode(),
            huge=json.dumps(pin.to_dict() | dict(until_s=10**400)).encode(),
        ),
        audit_log=dict(usual=event + b'\n\0' + head, torn=event + b'\n{"number"'),
    )


def drives():
    messages = [
        dict(msg_type='control', steering='0,5', throttle=0.3, brake=0),
        dict(
            msg_type='cam_config',
            fov=90,
            fish_eye_x=0.1,
            img_w=64,
            img_h=48,
            img_d=3,
            img_enc='PNG',
            offset_y=1,
            rot_x=5,
        ),
        dict(
            msg_type='lidar_config',
            degPerSweepInc=2,
            degAngDown=0,
            degAngDelta=-1,
            numSweepsLevels=1,
            maxRange=50,
        ),
        dict(msg_type='car_config', body_style='f1', body_r=1, body_g=2, body_b=3, car_name='me'),
        dict(msg_type='set_position', pos_x=1, pos_y=0, pos_z=2, Qx=0, Qy=0, Qz=0, Qw=1),
        dict(msg_type='load_scene', scene_name='seed:5'),
        dict(msg_type='node_position', index=3),
    ]
    told = dict(
        msg_type='telemetry',
        image=base64.b64encode(jpeg()).decode(),
        pos_x=1.0,
        speed=2,
        hit='none',
        cte=0.3,
        time=1,
        timeStamp=2.0,
        lidar=[],
        vel_z=1.0,
    )
    say = dict(
        angle=0.5,
        throttle=-0.25,
        drive_mode='user',
        recording=True,
        take=True,
        ping=5,
        echo=1e12,
        buttons=dict(w1=True, arm=True, estop=False, erase=100, model='a', throttle_limit=0.5),
    )
    return dict(
        sim_stream=dict(commands=lines(*messages), telemetry=lines(told)),
        driver_message=dict(usual=json.dumps(say).encode(), take=b'{"take": false}'),
        view_question=dict(
            frame=b'{"id": 7, "ask": "frame", "place": 12}',
            edit=b'{"id": 8, "ask": "delete", "ranges": [[0, 3], [7, 7]], "expression": "steering > 0"}',
        ),
        access=dict(usual=b'127.0.0.1:80\nhttp://127.0.0.1:80', six=b'[::1]:80\nhttp://[::1]:80'),
        **remembered(),
    )


def archive(**more):
    import tarfile

    pilot = dict(schema=1, pilot=dict(sha256=DIGEST[7:], bytes=5, interface={}), gate=dict(passed=True))
    files = {
        'opt/edgecar/pilot/pilot.tflite': b'pilot',
        'etc/os-release': b'ID=debian\nVERSION="12"\n',
        'opt/edgecar/pilot/manifest.json': json.dumps(pilot).encode(),
        'var/lib/dpkg/status': b'Package: a\nVersion: 1:2+3\nStatus: install ok installed\n',
        'usr/lib/python3/toy-1.0.dist-info/METADATA': b'Name: toy\nVersion: 1.0\n',
        'etc/.wh.passwd': b'',
    }
    with tarfile.open(fileobj=(out := io.BytesIO()), mode='w', bufsize=512, **more) as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.pax_headers = dict(comment='c') if more else {}
            t.addfile(info, io.BytesIO(data))
    return out.getvalue().rstrip(b'\0') + bytes(1024)


def images():
    from edgecar.release.oci import INDEX_TYPE, MANIFEST_TYPE

    def blob(kind, **more):
        return dict(mediaType=kind, digest=DIGEST, size=2, **more)

    name, label = 'org.opencontainers.image.ref.name', 'dev.edgecar.pilot.sha256'
    layer = blob(LAYER_TYPE, annotations={'predicateType': 'x'})
    index = dict(
        schemaVersion=2,
        mediaType=INDEX_TYPE,
        manifests=[
            blob(MANIFEST_TYPE, annotations={name: 'edgecar'}),
            blob(MANIFEST_TYPE, annotations={name: 'x.att', 'kind': 'dev.cosign/atts'}),
        ],
    )
    config = dict(
        architecture='amd64',
        created='2020-01-01T00:00:00Z',
        config=dict(Labels={label: DIGEST[7:]}),
        rootfs=dict(diff_ids=[DIGEST]),
    )
    manifest = dict(schemaVersion=2, mediaType=MANIFEST_TYPE, config=blob('c'), layers=[layer])
    names = ('localhost:5000/a/b:v1.2.0', f'[::1]:5000/a@{DIGEST}', 'oci:some/folder:tag', 'docker://a.b/c')
    layers = dict(tar=archive(), pax=archive(format=1), packed=zlib.compress(archive(), wbits=31))
    return dict(
        oci_index=dict(usual=lines(index)),
        oci_manifest=dict(usual=lines(manifest)),
        oci_config=dict(usual=lines(config)),
        oci_layer=layers,
        image_name={str(n): name.encode() for n, name in enumerate(names)},
    )


def evidence():
    from edgecar.release.evidence import EVALUATION_TYPE

    rules = [dict(rule='parity', kind='most', bound=0.1, found=0.05)]
    gate = dict(passed=True, rules=rules, examined_latency_ms=[25, 150])
    statement = dict(
        predicateType=EVALUATION_TYPE,
        subject=[dict(digest=dict(sha256=DIGEST[7:]))],
        predicate=dict(version='v1.2.0', gate=gate),
    )
    envelope = dict(
        payloadType='application/vnd.in-toto+json',
        signatures=[dict(sig='MEUC')],
        payload=base64.b64encode(json.dumps(statement).encode()).decode(),
    )
    identity = {'docker-reference': 'a.b/c'}
    says = dict(
        critical=dict(
            type='cosign container image signature',
            identity=identity,
            image={'docker-manifest-digest': DIGEST},
        ),
        optional=None,
    )
    pilot = dict(sha256=DIGEST[7:], bytes=5, interface={})
    release = dict(
        schema=1,
        pilot=pilot,
        gate=gate,
        data={'data': 'f'},
        params=dict(train=dict(seed=1)),
        packages=dict(lock='0'),
    )
    passed = dict(pilot=DIGEST[7:], version='v1.2.0', digest=DIGEST) | gate
    return dict(
        dsse_envelope=dict(usual=lines(envelope)),
        dsse_statement=dict(usual=lines(statement)),
        image_signature=dict(usual=lines(says)),
        release_file=dict(manifest=lines(release), passed=lines(passed)),
    )


def configurations():
    real = b'''"""A car."""
import os
DRIVE_LOOP_HZ = 20
CAMERA_TYPE = "PICAM"
IMAGE_W = 160; IMAGE_H = 120
CAMERA_VFLIP = True
STEERING_CHANNEL, THROTTLE_CHANNEL = 1, 0
DRIVE_TRAIN_TYPE = "PWM_STEERING_THROTTLE"
PWM_STEERING_THROTTLE = {
    "PWM_STEERING_PIN": "PCA9685.1:40.1", "PWM_THROTTLE_PIN": "PCA9685.1:40.0",
    "PWM_STEERING_SCALE": 1.0, "PWM_STEERING_INVERTED": False, "STEERING_LEFT_PWM": 460,
}
PWM_STEERING_THROTTLE["STEERING_RIGHT_PWM"] = 2*145
USE_JOYSTICK_AS_DEFAULT = True
CONTROLLER_TYPE = "xbox"
HAVE_IMU = True
IMU_ADDRESS = 0x68
DONKEY_GYM_ENV_NAME = "donkey-generated-track-v0"
JOYSTICK_MAX_THROTTLE = -(-1/2) + .0
DONKEY_GYM = True
WEB_CONTROL_PORT = int(os.getenv("P", 8887))
'''
    return dict(myconfig=dict(usual=real))


def corpus():
    "Return {target: {name: input}} of all that can be made here."
    signer()
    parts = tubs(), pictures(), models(), drives(), images(), evidence(), configurations()
    return {name: inputs for part in parts for name, inputs in part.items()}


FOUND = {   # target -> label -> name of a mutation of 'note' and 'usual' that broke something once
    'tflite': dict(claims=(1, 3313), no_data=(1, 4378), no_index=(1, 15611), other_shape=(1, 10641))
}
SMALL = 2500   # bytes of a bomb that is kept as well, so that it runs with each test


def write_corpus():
    "Write the corpus: usual inputs, what was found by a mutation, small bombs."
    from fuzz.bombs import bombs
    from fuzz.mutate import mutated
    for name in TARGETS:
        (CORPUS/name).mkdir(parents=True, exist_ok=True)
    for name, inputs in corpus().items():
        found = {label: mutated([inputs['note'], inputs['usual']], name, *key)
                 for label, key in FOUND.get(name, {}).items()}
        small = {label: data for label, data in bombs(name).items() if len(data) <= SMALL}
        for label, data in (small | found | inputs).items():
            (CORPUS/name/label.replace(' ', '_')).write_bytes(data)


if __name__ == '__main__':
    write_corpus()
