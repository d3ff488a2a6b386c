"What a device lets in: real images in OCI layout, signatures and TUF metadata, and what is wrong with each."
import json
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.registry import Server
from support.signing import BOUNDS, BUILDER, CAR, SBOM_TYPE, Club

from edgecar.contracts.policy import ReleaseSlots, slots_to_dict
from edgecar.core import EdgecarError, write_json
from edgecar.release.admission import (
    admit_image, admit_or_fall_back, confirm_start, note_start, read_policy_file, wait_until_healthy
)
from edgecar.release.evidence import PROVENANCE_TYPE
from edgecar.release.oci import MANIFEST_TYPE, OciLayout, Registry, parse_ref, read_image, toy_image
from edgecar.release.trust import revoke_trust, rotate_trust
from edgecar.release.verify import change_slots, release_slots, verify_image

EDGECAR = Path(sys.prefix)/'bin/edgecar'
quiet = dict(say=lambda line: None)


@pytest.fixture
def club(tmp_path):
    return Club(tmp_path)


def admit(club, name, first=True, **demands):
    return admit_image(read_policy_file(club.policy(**demands)), name, first, **quiet)


def start(club, name, **kw):
    "Verify a release, and start it."
    policy, lines = read_policy_file(club.policy()), []
    proof = admit_or_fall_back(policy, name, not Path(policy.state).exists(), say=lines.append, **kw)
    return proof, note_start(policy, proof), lines


def test_a_good_release_starts(club):
    lines = []
    proof = admit_image(read_policy_file(club.policy()), club.release(), True, say=lines.append)
    assert proof.version == 'v1.0.0' and [line.split()[0] for line in lines] == [
        'signed', 'gate', 'pilot', 'not', 'for', 'rules', 'evidence', 'fresh']


def foreign_layer(club):
    "Another image is put under the tag of the signed one, with the same pilot in its last layer."
    good = parse_ref(club.release())
    other = parse_ref(Club.release(club, 'v0.9.0', below=b'other code', listed=False))
    layout, digest = Path(other.folder), OciLayout(other.folder).find('v0.9.0')
    for blob in (layout/'blobs/sha256').iterdir():
        shutil.copy(blob, Path(good.folder)/'blobs/sha256')
    index = json.loads((Path(good.folder)/'index.json').read_text())
    for entry in index['manifests']:
        if entry['annotations']['org.opencontainers.image.ref.name'] == 'v1.0.0':
            entry['digest'] = digest
    (Path(good.folder)/'index.json').write_text(json.dumps(index))
    return f'oci:{good.folder}:v1.0.0'


BAD = {   # what is wrong -> how it is made, what the device demands otherwise, what it says
    'a foreign layer under the tag': (foreign_layer, {}, 'is not signed'),
    'a twin as a car': (lambda c: c.release(target='twin'), {},
                        "target is 'twin', and the policy demands 'car'"),
    'the wrong architecture': (Club.release, dict(architecture='arm64'),
                               "architecture is 'amd64', and the policy demands 'arm64'"),
    'a folder of another repository': (lambda c: c.release(repository='registry.example.org/other/car'), {},
                                       f'signed as registry.example.org/other/car, not as {CAR}'),
    'a gate of one rule': (lambda c: c.release(bounds=dict(clean=1.)), {},
                           "the rule 'off_track_per_km' was not judged"),
    'a bound of 1e9': (lambda c: c.release(bounds=BOUNDS | dict(parity=1e9)), {},
                       "the rule 'parity' was judged by at most 1000000000.0"),
    'a strange builder': (lambda c: c.release(builder='https://example.org/me'), {},
                          f"builders: 'https://example.org/me' built it, and the policy demands one of "
                          f'{BUILDER}'),
    'a modified tree': (lambda c: c.release(modified=True), {}, 'modified: it was built from files'),
    'an old commit': (lambda c: c.release(days=31), {}, 'max_age_days: its commit is 31.0 days old'),
    'no provenance': (lambda c: c.release(lacks=[PROVENANCE_TYPE]), {},
                      f'no attestation of {PROVENANCE_TYPE}|none by gate.pub'),
    'no SBOM': (lambda c: c.release(lacks=[SBOM_TYPE]), {}, f'no attestation of {SBOM_TYPE}'),
    'not in the list': (lambda c: c.release(listed=False), {}, 'v1.0.0 is not in the list of releases'),
}


@pytest.mark.parametrize('what', BAD)
def test_a_bad_release_is_refused_by_name(club, what):
    make, demands, says = BAD[what]
    with pytest.raises(EdgecarError, match=says) as e:
        admit(club, make(club), **demands)
    assert e.value.where and e.value.hint


def test_what_a_policy_allows_is_let_in(club):
    name = club.release(modified=True, builder='https://example.org/me', days=400, listed=False,
                        lacks=[SBOM_TYPE])
    admit(club, name, modified=True, builders=['https://example.org/me'], max_age_days=500., sbom=False,
          trust='', trust_root='')


def test_the_manifest_on_board_lists_the_rules_too(club):
    "What the car's strict gate reads is what was attested."
    from edgecar.car.guard import check_release
    from edgecar.contracts.manifest import read_model_release
    proof = admit(club, club.release())
    check_release(read_model_release(proof.manifest.to_dict()), 'pilot.tflite', BOUNDS)
    said = read_model_release(proof.manifest.to_dict() | dict(gate=dict(passed=True)))
    with pytest.raises(EdgecarError, match='nothing says that it has passed the gate'):
        check_release(said, 'pilot.tflite', BOUNDS)


def test_metadata_that_expired_is_refused(club):
    name = club.release()
    admit(club, name)
    club.trust(lifetimes=dict(timestamp=-1)).publish()
    with pytest.raises(EdgecarError, match='list of releases has expired') as e:
        admit(club, name)
    assert 'release trust refresh' in e.value.hint
    club.trust().publish()
    admit(club, name)


def test_frozen_metadata_is_refused_when_its_time_is_over(club):
    "A server that serves the same list for ever: it is valid, until it expires. Nobody else is asked."
    name = club.release()
    club.trust(lifetimes=dict(timestamp=2/86400)).publish()
    shutil.copytree(club.folder/'trust', club.folder/'frozen')
    club.trust().remove(f'{CAR}/v1.0.0')
    frozen = dict(trust='frozen', trust_root='trust/1.root.json')
    stamp = json.loads((club.folder/'frozen/timestamp.json').read_text())['signed']['expires']
    end = time.monotonic() + 10
    while time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()) <= stamp:   # the second in which it ends
        assert time.monotonic() < end
        threading.Event().wait(.05)
    with pytest.raises(EdgecarError, match='has expired: it is frozen'):
        admit(club, name, **frozen)


def test_an_old_list_is_refused_and_a_removed_release(club):
    name = club.release()
    shutil.copytree(club.folder/'trust', club.folder/'old')
    club.trust().remove(f'{CAR}/v1.0.0')
    with pytest.raises(EdgecarError, match='is not in the list'):
        admit(club, name)
    with pytest.raises(EdgecarError, match='older than what this device has seen'):
        admit(club, name, trust='old')


def test_a_revoked_key_is_refused(club):
    "The thief of the timestamp's key goes on signing; the device has seen the new root."
    name = club.release()
    admit(club, name)
    shutil.copytree(club.folder/'trust', club.folder/'thief')
    rotate_trust(club.trust(*club.roots, club.folder/'new.key'), 'timestamp', [club.folder/'new.pub'])
    admit(club, name)
    thief = type(club.trust())(club.folder/'thief', club.everyday)
    for _ in range(3):
        thief.publish()
    with pytest.raises(EdgecarError, match='is not signed by enough of the keys that count'):
        admit(club, name, trust='thief')
    with pytest.raises(EdgecarError, match='would have too few keys'):
        revoke_trust(club.trust(*club.roots), club.folder/'root2.pub')


def test_a_root_below_its_threshold_is_refused(club):
    "One of two root keys is stolen: the thief writes a root of his own, and signs it with the one he has."
    from edgecar.release.trust import Metadata, trust_key, trust_signer
    name = club.release()
    admit(club, name)
    root = Metadata.from_file(str(club.folder/'trust/1.root.json'))
    root.signed.version = 2
    root.signed.roles['root'].threshold = 1
    root.signed.add_key(trust_key(club.folder/'new.key'), 'targets')
    root.sign(trust_signer(club.roots[0]))
    root.to_file(str(club.folder/'trust/2.root.json'))
    with pytest.raises(EdgecarError, match='is not signed by enough of the keys that count'):
        admit(club, name)


def test_the_list_comes_from_a_web_server_or_from_the_copy(club):
    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(club.folder/'trust'))

        def log_message(self, *args):
            pass

    name, lines = club.release(), []
    server = ThreadingHTTPServer(('127.0.0.1', 0), Files)
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    demands = dict(trust=f'http://127.0.0.1:{server.server_port}', trust_root='trust/1.root.json')
    try:
        admit(club, name, **demands)
    finally:
        server.shutdown()
        server.server_close()
    admit_image(read_policy_file(club.policy(**demands)), name, True, say=lines.append)
    assert 'from the copy on this device' in lines[-1]
    shutil.rmtree(club.folder/'car')
    with pytest.raises(EdgecarError, match='is not whole') as e:     # no copy yet
        admit(club, name, **demands)
    assert 'does not answer' in e.value.where


def test_a_missing_state_file_wants_a_word(club):
    with pytest.raises(EdgecarError, match='nothing is known to be too old') as e:
        admit(club, club.release(), first=False)
    assert '--first' in e.value.hint


def test_a_start_does_not_raise_the_floor_and_a_confirmation_does(club):
    old, new = club.release('v1.0.0'), club.release('v1.1.0', b'another pilot')
    proof, slots, _ = start(club, old)
    assert slots.confirmed is None and slots.trial.version == 'v1.0.0'
    state = read_policy_file(club.policy()).state
    confirm_start(state, proof.start)
    start(club, new)
    assert admit(club, old, first=False).version == 'v1.0.0'     # the new one has not driven yet
    confirm_start(state)
    with pytest.raises(EdgecarError, match='older than v1.1.0'):
        admit(club, old, first=False)


def test_a_bad_release_is_rolled_back(club):
    old, new = club.release('v1.0.0'), club.release('v1.1.0', b'another pilot')
    proof, *_ = start(club, old)
    state = read_policy_file(club.policy()).state
    confirm_start(state, proof.start)
    bad, *_ = start(club, new)
    with pytest.raises(EdgecarError, match='was not healthy'):
        wait_until_healthy('http://127.0.0.1:9/readyz', .1, .2)
    change_slots(state, ReleaseSlots.with_rejection)
    with pytest.raises(EdgecarError, match='v1.1.0 was rejected here'):
        admit(club, new, first=False)
    assert start(club, old)[1].confirmed.version == 'v1.0.0'
    assert release_slots(state).rejected == (bad.digest,)


def test_a_release_that_never_confirms_ends_by_itself(club):
    new = club.release('v1.1.0', b'another pilot')
    for n in (1, 2, 3):
        assert start(club, new)[1].trial.starts == n
    with pytest.raises(EdgecarError, match='was started 3 times and never confirmed'):
        admit(club, new, first=False)


def test_a_clock_that_went_back_is_an_error(club):
    name = club.release()
    state = Path(read_policy_file(club.policy()).state)
    write_json(state, slots_to_dict(ReleaseSlots(checked_s=time.time() + 3600)))
    with pytest.raises(EdgecarError, match='the clock went back by 3[56]'):
        admit(club, name, first=False)


def test_a_state_file_is_whole_while_others_write_it(tmp_path):
    "Four processes start and confirm; whoever reads in between reads a file that makes sense."
    script = ('import sys; from edgecar.release.verify import change_slots as c\n'
              'for n in range(25): c(sys.argv[1], '
              'lambda s: s.with_start(f"v1.0.{n}", "sha256:" + sys.argv[2]))')
    state = tmp_path/'running.json'
    running = [subprocess.Popen([sys.executable, '-c', script, state, str(n)]) for n in range(4)]
    while any(p.poll() is None for p in running):
        release_slots(state)
        threading.Event().wait(.002)
    assert [p.returncode for p in running] == [0] * 4
    assert release_slots(state).trial.starts >= 1 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_the_command_line(club):
    def edgecar(*words):
        return subprocess.run([EDGECAR, 'release', *map(str, words)], capture_output=True, text=True,
                              timeout=60)
    name, policy = club.release(), club.policy()
    verify = ['verify', name, '--policy', policy, '--remember', '--start-file', club.folder/'start.env']
    done = edgecar(*verify)
    assert done.returncode == 1 and '--first' in done.stderr
    done = edgecar(*verify, '--first')
    assert done.returncode == 0 and 'trial       start 1 of 3' in done.stdout, done.stderr
    image = (club.folder/'start.env').read_text().splitlines()[0].removeprefix('EDGECAR_IMAGE=')
    assert done.stdout.splitlines()[-1] == f'start       {image}'
    done = edgecar('confirm', '--policy', policy, '--image', image)
    assert done.returncode == 0 and 'confirmed   v1.0.0' in done.stdout, done.stderr
    done = edgecar(*verify)
    assert done.returncode == 0 and 'it has proved itself here' in done.stdout


def test_a_car_proves_its_health(club):
    "Ready, not ready, ready: only a whole stretch counts."
    answers = iter([200, 503, *[200] * 1000])

    class Health(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send_response(next(answers))
            self.end_headers()

    server = ThreadingHTTPServer(('127.0.0.1', 0), Health)
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    try:
        wait_until_healthy(f'http://127.0.0.1:{server.server_port}/readyz', .3, 20)
        assert next(answers, None) == 200
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def flood():
    "A registry that serves a manifest of many large attestations, and counts the bytes of blobs it sent."
    state = dict(sent=0, manifests={}, pieces=lambda: iter(()))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            text = state['manifests'].get(self.path.rpartition('/')[2])
            self.send_response(200 if text or '/blobs/' in self.path else 404)
            self.end_headers()
            try:
                for piece in [text] if text else state['pieces']():
                    self.wfile.write(piece)
                    state['sent'] += 0 if text else len(piece)
            except OSError:
                pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    state['host'] = f'127.0.0.1:{server.server_port}'
    yield state
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('n, size', [(200, 2**25), (65, 10), (3, 2**25)], ids=['both', 'many', 'large'])
def test_many_large_attestations_are_refused_unread(club, flood, n, size):
    ref = parse_ref(club.release(listed=False))
    layout = OciLayout(ref.folder)
    digest = layout.find('v1.0.0')
    blob = dict(mediaType='x', digest='sha256:' + '0'*64, size=size)
    signed = layout.manifest(digest.replace(':', '-') + '.sig')
    flood['manifests'] = {
        'v1.0.0': layout.manifest('v1.0.0'), digest.replace(':', '-') + '.sig': signed,
        digest.replace(':', '-') + '.att': json.dumps(dict(
            schemaVersion=2, mediaType=MANIFEST_TYPE, config=blob, layers=[blob] * n)).encode()}
    [signature] = read_image(layout, digest.replace(':', '-') + '.sig').layers
    text = layout.blob(signature['digest'], signature['size']).read()
    flood['pieces'] = lambda: iter([text])
    with pytest.raises(EdgecarError, match=f'holds {n} statements') as e:
        verify_image(f"{flood['host']}/car:v1.0.0", club.folder/'image.pub', club.folder/'gate.pub',
                     identity=CAR, **quiet)
    assert 'floods' in e.value.hint and flood['sent'] == len(text)


def test_a_registry_that_drips_has_one_limit_for_all(flood):
    "A byte now and then, in each of many answers: each answer is in time, all together are not."
    def drops():
        for _ in range(200):
            yield b'x'
            threading.Event().wait(.02)
    flood['pieces'] = drops
    registry, began = Registry(flood['host'], 'car', timeout_s=.3, total_s=1.), time.monotonic()
    for _ in range(20):
        with pytest.raises(EdgecarError, match='too slow') as e:
            registry.blob('sha256:' + '0'*64, 2**20)
        if ' 1 s have passed' in str(e.value):
            break
    assert ' 1 s have passed' in str(e.value) and time.monotonic() - began < 5


def test_a_layout_with_a_flood_beside_it(club):
    name = club.release()
    ref = parse_ref(name)
    digest = OciLayout(ref.folder).find('v1.0.0')
    toy_image(ref.folder, [b'{}'] * 65, tag=digest.replace(':', '-') + '.att')
    with pytest.raises(EdgecarError, match='holds 65 statements'):
        admit(club, name)


@pytest.mark.images
def test_a_real_registry_serves_what_is_admitted_and_what_is_not(club, tmp_path):
    "Debian's registry: a trial, a confirmation, a bad release, the fall back by digest, and a flood."
    server = Server(tmp_path/'registry')
    car = f'{server.to}-car'

    def push(name):
        ref = parse_ref(name)
        digest = OciLayout(ref.folder).find(ref.tag).replace(':', '-')
        for tag in (ref.tag, f'{digest}.sig', f'{digest}.att'):
            subprocess.run(['skopeo', 'copy', '-q', '--preserve-digests', '--dest-tls-verify=false',
                            f'oci:{ref.folder}:{tag}', f'docker://{car}:{tag}'], check=True, timeout=60)
        return f'{car}:{ref.tag}'

    try:
        good = push(club.release())
        proof, slots, _ = start(club, good)
        assert proof.start == f'{car}@{proof.digest}' and slots.trial.starts == 1
        confirm_start(read_policy_file(club.policy()).state, proof.start)
        bad = push(club.release('v1.1.0', b'another pilot', target='twin'))
        with pytest.raises(EdgecarError, match="target is 'twin'"):
            admit(club, bad, first=False)
        again, slots, lines = start(club, bad)
        assert again.digest == proof.digest and slots.trial is None
        assert 'fall back   v1.0.0 was confirmed here' in lines
        ref = parse_ref(club.release('v1.2.0', b'a third pilot'))
        digest = OciLayout(ref.folder).find('v1.2.0')
        toy_image(ref.folder, [b'{}'] * 65, tag=digest.replace(':', '-') + '.att')
        with pytest.raises(EdgecarError, match='holds 65 statements'):
            admit(club, push(f'oci:{ref.folder}:v1.2.0'), first=False)
    finally:
        server.stop()
