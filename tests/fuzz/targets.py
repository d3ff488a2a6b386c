"""What reads bytes that nobody vouches for: one function a reader, from bytes to nothing.

A target may raise `EdgecarError`, or what is named beside it in `DOCUMENTED`. Anything else is a defect.
Modules load when a target is asked for, since a process fuzzes one of them.
"""
import base64
import contextlib
import functools
import hashlib
import importlib
import json
import os
import shutil
import signal
import tempfile
import zlib
from pathlib import Path

TARGETS, DOCUMENTED = {}, {}


def target(documented=()):
    "Return a decorator that lists a function as a target, with the names of errors that it may raise."
    def add(function):
        TARGETS[function.__name__], DOCUMENTED[function.__name__] = function, frozenset(documented)
        return function
    return add


@functools.cache
def folder():
    "An empty folder of this process."
    place = Path(tempfile.mkdtemp(prefix='fuzz-'))
    import atexit
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@contextlib.contextmanager
def empty(name):
    "A folder that is new, and gone afterwards."
    place = folder()/name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def attempt(function, *args, **words):
    "Return what a function returns; None when it raises EdgecarError."
    from edgecar.core import EdgecarError
    with contextlib.suppress(EdgecarError):
        return function(*args, **words)


def texts(data):
    "Bytes as a text, as a server hands one over."
    return data.decode(errors='replace')


# A tub, one of whose files comes from a stranger

INPUTS = ['cam/image_array', 'user/angle', 'user/throttle'], ['image_array', 'float', 'float']


@functools.cache
def jpeg():
    import numpy as np

    from edgecar.sim.protocol import encode_sim_image
    return encode_sim_image(np.zeros((8, 8, 3), np.uint8))


def tub(place, **files):
    "Write a tub of one catalog; `files` replace or add some, by name with _ for a dot."
    catalogs = dict(paths=['catalog_0.catalog'], current_index=2, max_len=1000, deleted_indexes=[])
    records = [{'_index': i, '_session_id': 's', '_timestamp_ms': 1000*i, 'cam/image_array': '0.jpg',
                'user/angle': .5, 'user/throttle': .5} for i in range(2)]
    lines = [*INPUTS, {}, dict(created_at=0, sessions={}), catalogs]
    usual = dict(manifest_json='\n'.join(map(json.dumps, lines)).encode(),
                 catalog_0_catalog=b''.join(json.dumps(r).encode() + b'\n' for r in records))
    (place/'images').mkdir()
    (place/'images'/'0.jpg').write_bytes(jpeg())
    for name, data in (usual | files).items():
        stem, _, ending = name.rpartition('_')
        if ending == 'lengths':
            stem, ending = 'catalog_0', 'catalog_manifest'
        (place/f'{stem}.{ending}').write_bytes(data)


def use_tub(place):
    "Read a tub in every way, repair it and continue it. After a repair nothing is left to mend."
    from edgecar.data.check import find_faults, repair_tub
    from edgecar.data.frames import load_recording
    from edgecar.data.tub import Tub, TubWriter, find_tubs
    attempt(Tub, place)
    attempt(find_tubs, place)
    attempt(find_faults, place)
    attempt(load_recording, place, size=(8, 8), cache=place/'.cache', bar=False)
    if attempt(repair_tub, place, yes=True):
        Tub(place)
        left = [f for f in find_faults(place) if f.kind != 'missing field']
        assert not left, f'a repair leaves {left[0]}'
    if writer := attempt(TubWriter, place, sync_s=None):
        with writer:
            attempt(writer.write, {'user/angle': 0., 'user/throttle': 0.})
            attempt(writer.delete_last, 1)


@target()
def tub_manifest(data):
    with empty('tub') as place:
        tub(place, manifest_json=data)
        use_tub(place)


@target()
def tub_catalog(data):
    with empty('tub') as place:
        tub(place, catalog_0_catalog=data)
        use_tub(place)


@target()
def tub_lengths(data):
    with empty('tub') as place:
        tub(place, catalog_0_lengths=data)
        use_tub(place)


@target()
def tub_alone(data):
    "A catalog without a manifest, from which one is made."
    with empty('tub') as place:
        tub(place, catalog_0_catalog=data)
        (place/'manifest.json').unlink()
        use_tub(place)


# Pictures

@target({'InvalidRecordError'})
def picture(data):
    from edgecar.data.picture import decode_image
    decode_image(data)


# Models

def forked_probe(module, *words, data=b'', limit_s=None):
    "Do what `run_probe` does, by a fork, which takes a hundredth of the time, for a second at most."
    with tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        if pid := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for name in 'SEGV', 'BUS', 'ABRT', 'FPE', 'ILL', 'ALRM':
            signal.signal(signal.Signals[f'SIG{name}'], signal.SIG_DFL)   # a fuzzer has its own
        signal.alarm(1)
        os.dup2(given.fileno(), 0)
        try:
            importlib.import_module(module).main(*map(str, words))
        finally:
            os._exit(0)


@functools.cache
def with_forked_probes():
    "Have files tried by a fork in this process."
    from edgecar.data import probe
    probe.run_probe = forked_probe


@target()
def tflite(data):
    import numpy as np

    from edgecar.pilot.runtime import Pilot, interface_of
    with_forked_probes()
    path = folder()/'pilot.tflite'
    path.write_bytes(data)
    pilot = Pilot(path)
    interface_of(pilot).rows()
    frame = np.zeros((*pilot.size, 3), np.uint8)
    attempt(pilot, frame, imu=np.zeros(6))


@target()
def transform_note(data):
    from edgecar.data.transform import Transform
    Transform.from_json(texts(data), (120, 160))


@target()
def keras_h5(data):
    from edgecar.pilot.train import open_model
    with_forked_probes()
    path = folder()/'pilot.h5'
    path.write_bytes(data)
    open_model(path)


# The simulator, on both sides of the line

@functools.cache
def scene():
    from edgecar.sim.scene import Scene
    return Scene('oval', 20.)


def sim_message(message):
    "Give a message to whatever takes one, in the server and in the client."
    from edgecar.sim.client import SimConnection, count_lap, parse_telemetry
    from edgecar.sim.protocol import (
        BodyConfig, CameraConfig, ControlMessage, LidarConfig, decode_sim_image, message_number, track_name
    )
    from edgecar.sim.scene import place_car, road_node, telemetry_message
    line = SimConnection.__new__(SimConnection)
    line.laps, line.lap_s, line.crossed = 0, 0., None
    for reader in ControlMessage, BodyConfig, CameraConfig, LidarConfig:
        attempt(reader.from_message, message)
    attempt(track_name, message.get('scene_name'))
    slot = scene().join()
    try:
        attempt(place_car, slot, message)
        scene().step()
        telemetry_message(slot)
    finally:
        scene().leave(slot)
    if (index := attempt(message_number, message, 'index', -1, 1e6)) is not None:
        road_node(scene(), int(index))
    attempt(count_lap, line, message)
    attempt(count_lap, line, message)
    attempt(parse_telemetry, message, line)
    if isinstance(image := message.get('image'), str):
        with contextlib.suppress(ValueError):
            attempt(decode_sim_image, base64.b64decode(image))


@target()
def sim_stream(data):
    from edgecar.sim.protocol import MessageFramer, parse_sim_message
    framer, left = MessageFramer(), 100   # a server bounds their rate
    for at in range(0, len(data), 4096):
        for raw in framer.feed(data[at:at + 4096]):
            left -= 1
            if left > 0 and (message := attempt(parse_sim_message, raw)) is not None:
                sim_message(message)


# The page

@target()
def driver_message(data):
    from edgecar.contracts.message import parse_driver_message
    from edgecar.web.arbiter import ControlArbiter
    for text in data, texts(data):
        wheel = ControlArbiter()
        wheel.seat(wheel)
        message = parse_driver_message(text)
        wheel.handle_message(wheel, message)
        json.dumps(wheel.tick(), allow_nan=False)


# What a car remembers, read after a kill or a hand that edits

@target()
def box_ring(data):
    from edgecar.car.ring import find_segments, read_entries
    from edgecar.contracts.box import read_pin
    with empty('ring') as place:
        (place/'00000001.seg').write_bytes(data)
        for segment in find_segments(place):
            list(read_entries(segment.path))
    read_pin(data)


@target()
def audit_log(data):
    from edgecar.car.audit import AuditWriter, check_audit
    log, _, head = data.partition(b'\0')
    with empty('audit') as place:
        (place/'audit.jsonl').write_bytes(log)
        (place/'audit.head').write_bytes(head or b'{}')
        attempt(check_audit, place)
        AuditWriter(place).close()


@target()
def view_question(data):
    from edgecar.contracts.ask import asked_number, asked_ranges, asked_text
    from edgecar.contracts.ask import pack_answer, parse_ask, unpack_answer
    attempt(unpack_answer, data)
    for text in data, texts(data):
        ask = parse_ask(text)
        attempt(asked_number, ask, 'place', 0, 99)
        attempt(asked_text, ask, 'expression')
        assert all(0 <= r.start < r.stop <= 99 for r in attempt(asked_ranges, ask, 99) or ())
        assert unpack_answer(pack_answer(dict(id=ask['id']), [data])) == (dict(id=ask['id']), [data])


@target()
def access(data):
    from edgecar.contracts.access import ListenGuard, is_loopback, is_own_name, same_secret
    host, _, origin = texts(data).partition('\n')
    is_loopback(host)
    is_own_name(host)
    same_secret(host, 'a secret')
    guard = ListenGuard('127.0.0.1', 'a long token')
    guard.knows(host, origin)
    guard.refusal(host, host, origin)
    ListenGuard('127.0.0.1').refusal(host, host, origin)


# Images and what is attached to them

TAG = 'edgecar'
LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip'


def put(place, data, kind='', **more):
    "Add a blob to a layout; return its descriptor."
    digest = hashlib.sha256(data).hexdigest()
    (place/'blobs/sha256').mkdir(parents=True, exist_ok=True)
    (place/'blobs/sha256'/digest).write_bytes(data)
    return dict(mediaType=kind, digest=f'sha256:{digest}', size=len(data), **more)


def put_index(place, manifest, tag=TAG):
    "Let a layout's index name a manifest, beside those that it names."
    from edgecar.release.oci import MANIFEST_TYPE
    index = place/'index.json'
    others = json.loads(index.read_text())['manifests'] if index.exists() else []
    top = put(place, manifest, MANIFEST_TYPE, annotations={'org.opencontainers.image.ref.name': tag})
    index.write_text(json.dumps(dict(schemaVersion=2, manifests=[*others, top])))
    return top['digest']


def put_image(place, config, *layers, tag=TAG):
    "Write an image of descriptors; return the digest of its manifest."
    from edgecar.release.oci import MANIFEST_TYPE
    manifest = dict(schemaVersion=2, mediaType=MANIFEST_TYPE, config=config, layers=[*layers])
    return put_index(place, json.dumps(manifest).encode(), tag)


def use_image(place, key=TAG):
    "Read all that is read of an image in a layout."
    from edgecar.release.evidence import installed_packages, package_files, verified_manifest
    from edgecar.release.oci import OciLayout, read_image
    source = OciLayout(place)
    attempt(source.find, None)
    image = read_image(source, key)
    if image is not None:
        attempt(image.config)
        attempt(verified_manifest, image)
        if (files := attempt(package_files, image)) is not None:
            attempt(installed_packages, files)


@target()
def image_name(data):
    from edgecar.release.oci import parse_ref
    str(parse_ref(texts(data)))


@target()
def oci_index(data):
    with empty('layout') as place:
        put(place, b'{}')
        (place/'index.json').write_bytes(data)
        use_image(place)
        use_image(place, None)


@target()
def oci_manifest(data):
    with empty('layout') as place:
        put(place, b'{}')
        put_index(place, data)
        use_image(place)


@target()
def oci_config(data):
    from edgecar.release.oci import toy_layer
    with empty('layout') as place:
        layer = toy_layer({'etc/os-release': b'ID=debian\n'})
        put_image(place, put(place, data), put(place, layer, LAYER_TYPE))
        use_image(place)


@target()
def oci_layer(data):
    "A layer as it is, and the same bytes packed, so that a mutation reaches the archive."
    for layer in data, zlib.compress(data, wbits=31):
        with empty('layout') as place:
            bare = data
            with contextlib.suppress(zlib.error):
                bare = zlib.decompressobj(wbits=31).decompress(layer, 1 << 22)
            diff = f'sha256:{hashlib.sha256(bare).hexdigest()}'
            labels = dict(Labels={'dev.edgecar.pilot.sha256': hashlib.sha256(b'pilot').hexdigest()})
            config = dict(config=labels, rootfs=dict(type='layers', diff_ids=[diff]))
            put_image(place, put(place, json.dumps(config).encode()), put(place, layer, LAYER_TYPE))
            use_image(place)


@functools.cache
def signer():
    "A key pair: the private key, and a `PublicKey`."
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from edgecar.release.verify import PublicKey
    key = ec.generate_private_key(ec.SECP256R1())
    file = folder()/'gate.pub'
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, PublicKey(file)


def signed(text):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    return base64.b64encode(signer()[0].sign(text, ec.ECDSA(hashes.SHA256()))).decode()


def use_attached(data, end, notes={}):
    "Attach a text to an image, then read what is attached."
    from edgecar.release.evidence import EVALUATION_TYPE
    from edgecar.release.oci import OciLayout, read_image
    from edgecar.release.verify import attested_predicates, choose_evaluation, kept_rules, signed_as
    with empty('layout') as place:
        config = put(place, b'{}')
        digest = put_image(place, config)
        put_image(place, config, put(place, data, annotations=notes),
                  tag=digest.replace(':', '-') + end)
        image, key = read_image(OciLayout(place), digest), signer()[1]
        if end == '.sig':
            signed_as(image, key)
        else:
            attempt(attested_predicates, image, EVALUATION_TYPE)
            predicates = attested_predicates(image, EVALUATION_TYPE, key)
            kept_rules(choose_evaluation(predicates, None, 'here'), 'here')


@target()
def dsse_envelope(data):
    use_attached(data, '.att')


@target()
def dsse_statement(data):
    "A statement that the right key signed: what is in it is still to be checked."
    from edgecar.release.verify import dsse_pae
    kind = 'application/vnd.in-toto+json'
    envelope = dict(payloadType=kind, payload=base64.b64encode(data).decode(),
                    signatures=[dict(sig=signed(dsse_pae(kind.encode(), data)))])
    use_attached(json.dumps(envelope).encode(), '.att')


@target()
def image_signature(data):
    use_attached(data, '.sig', {'dev.cosignproject.cosign/signature': signed(data)})


@target()
def release_file(data):
    "A manifest of a release, the gate's own file, and the note of what runs."
    from edgecar.contracts.manifest import read_manifest, read_model_release
    from edgecar.contracts.untrusted import parse_untrusted_json
    from edgecar.release.verify import running_release
    file = folder()/'running.json'
    file.write_bytes(data)
    attempt(running_release, file)
    values = parse_untrusted_json(data, 'manifest.json')
    attempt(read_manifest, values)
    release = read_model_release(values)
    release.evidence()


# A car's configuration

@target()
def myconfig(data):
    from edgecar.car.config import myconfig_changes
    file = folder()/'myconfig.py'
    file.write_bytes(data)
    for car in True, False:
        attempt(myconfig_changes, file, car)


def probe(data):
    "Do what a defect does, so that a test can see that it is seen."
    import signal
    if data == b'killed':
        os.kill(os.getpid(), signal.SIGSEGV)
    elif data == b'memory':
        bytearray(b'x')*(300 << 20)
    elif data == b'room':
        bytearray(1 << 40)
    elif data:
        raise KeyError(texts(data))


def run(name, data):
    "Run a target; raise what is a defect, and return the name of the error otherwise, or an empty text."
    from edgecar.core import EdgecarError
    try:
        TARGETS.get(name, probe)(data)
    except EdgecarError as e:
        str(e).encode()   # so that it can be shown
        return 'EdgecarError'
    except Exception as e:
        if type(e).__name__ in DOCUMENTED.get(name, ()):
            return type(e).__name__
        raise
    return ''
