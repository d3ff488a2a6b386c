"""A release with the real tools: cosign, skopeo, Debian's registry,
the library that podman and CRI-O check policies with, and policy-controller's tester."""
import base64
import copy
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from support.registry import NAME, Server

from edgecar.contracts.policy import DevicePolicy, ReleaseSlots
from edgecar.core import EdgecarError, write_json
from edgecar.release import diff, push, sign, verify
from edgecar.release.admission import admit_image
from edgecar.release.evidence import (
    EVALUATION_TYPE, NOTEBOOKS_TYPE, PILOT_FOLDER, PROVENANCE_TYPE, toy_release
)
from edgecar.release.oci import OciLayout, open_image_source, parse_ref, read_image

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
PASSWORD = 'a password that nobody may see'
quiet = dict(say=lambda line: None)


@pytest.fixture(scope='module', autouse=True)
def tools():
    "What is missing fails here, with its name; `make test-images` installs it."
    done = subprocess.run([ROOT/'scripts/image-tools'], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr)
    push.find_tool('cosign')


class Between:
    "A wire to a registry on which something may happen: `rule(bytes so far, piece)` says pass, stall or cut."
    def __init__(self, port, rule):
        self.port_to, self.rule, self.sent, self.lock, self.stop_now = (
            port, rule, 0, threading.Lock(), threading.Event())
        self.socket = socket.create_server(('127.0.0.1', 0))
        self.to = f'localhost:{self.socket.getsockname()[1]}/{NAME}'
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while not self.stop_now.is_set():
            try:
                near, _ = self.socket.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(('127.0.0.1', self.port_to))
            except OSError:
                near.close()
                continue
            for a, b, out in ((near, far, True), (far, near, False)):
                threading.Thread(target=self.carry, args=(a, b, out), daemon=True).start()

    def carry(self, a, b, out):
        try:
            while piece := a.recv(65536):
                if out:
                    with self.lock:
                        self.sent += len(piece)
                        what = self.rule(self.sent, piece)
                    if what == 'stall':
                        self.stop_now.wait()
                    if what == 'cut':
                        break
                b.sendall(piece)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def close(self):
        self.stop_now.set()
        self.socket.close()


@pytest.fixture
def registry(tmp_path):
    server = Server(tmp_path/'registry')
    yield server
    server.stop()


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
    "Three key pairs of cosign: the images', the gate's, a stranger's."
    folder = tmp_path_factory.mktemp('keys')
    for name in ('image', 'gate', 'other'):
        subprocess.run([push.find_tool('cosign'), 'generate-key-pair', '--output-key-prefix', name],
                       cwd=folder,
                       env=os.environ | {'COSIGN_PASSWORD': PASSWORD}, check=True, capture_output=True,
                       timeout=60)
    return folder


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ('REGISTRY_AUTH_FILE', 'XDG_RUNTIME_DIR', 'COSIGN_GATE_PASSWORD'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('DOCKER_CONFIG', str(tmp_path/'no-docker'))
    monkeypatch.setenv('COSIGN_PASSWORD', PASSWORD)
    monkeypatch.setattr(push, 'RETRY_WAITS_S', (0, 0))


def repo(folder, pilot=b'pilot'):
    "What `make repro` leaves, as far as a release reads it, in a clone."
    digest = hashlib.sha256(pilot).hexdigest()
    write_json(folder/'build/gate/passed.json',
               dict(pilot=digest, rules=[dict(rule='clean', kind='least', bound=.95, found=1.),
                                         dict(rule='parity', kind='most', bound=.02, found=0.)]))
    write_json(folder/'metrics/evaluate.json', dict(pilot=digest, driving=dict(km=len(pilot))))
    (folder/'runs').mkdir(exist_ok=True)
    write_json(folder/'runs/4_evaluate.ipynb',
               dict(cells=[dict(cell_type='markdown', id='a', metadata={}, source='# It drove')],
                    metadata={}, nbformat=4, nbformat_minor=5))
    (folder/'dvc.lock').write_text('{}')
    if not (folder/'build/images').is_symlink():
        (folder/'build/images').symlink_to(folder.parent/'images')   # where `images` makes them
    if not (folder/'.git').exists():
        for args in (['init', '-q'], ['add', 'dvc.lock'],
                     ['-c', 'user.name=a', '-c', 'user.email=a@b.c', 'commit', '-qm', 'Start']):
            subprocess.run(['git', '-C', folder, *args], check=True)
    return folder


def images(folder, pilot=b'pilot', **kw):
    "Toys of both targets."
    for target in push.RELEASE_TARGETS:
        toy_release(folder/target, pilot,
                    below=[{f'usr/lib/{target}': target.encode() * 999,
                            'p/toy-1.0.dist-info/METADATA': b'Name: toy\nVersion: 1.0\n'}], **kw)
    return folder


@pytest.fixture
def released(tmp_path, registry, keys):
    "v1.0.0 of both targets, pushed, signed and attested."
    registry.images, registry.repo = images(tmp_path/'images'), repo(tmp_path/'repo')
    push.push_images('both', registry.to, 'v1.0.0', registry.images, **quiet)
    sign.sign_images('both', registry.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                     registry.repo, **quiet)
    registry.digest = read_image(OciLayout(registry.images/'car'), 'edgecar').digest
    return registry


def skopeo(*args):
    subprocess.run(['skopeo', 'copy', '-q', '--src-tls-verify=false', '--dest-tls-verify=false', *args],
                   check=True, timeout=60)


def beside(digest, end):
    return digest.replace(':', '-') + end


def cosign(*args):
    return subprocess.run([push.find_tool('cosign'), *map(str, args)], capture_output=True, text=True,
                          timeout=60)


def cosign_sign(keys, name, key='image'):
    push.run_tool('cosign', 'sign', *sign.cosign_args(str(keys/f'{key}.key')), name)


def prove(keys, name, *args, **kw):
    return verify.verify_image(name, keys/'image.pub', keys/'gate.pub', *args, **(quiet | kw))


def tags(ref):
    return [version for version in ('v1.0.0', 'v1.1.0') if open_image_source(ref).manifest(version)]


def test_a_release_from_push_to_proof(released, keys):
    lines = []
    proof = prove(keys, f'{released.to}-car:v1.0.0', say=lines.append)
    assert proof.start == f'{released.to}-car@{released.digest}' and proof.version == 'v1.0.0'
    assert ([line.split()[0] for line in lines] == ['signed', 'gate', 'pilot', 'not']
            and 'kept 2 rules' in lines[1])
    # cosign, who wrote it, agrees with us who read it
    assert cosign('verify', '--key', keys/'image.pub', '--insecure-ignore-tlog=true',
                  proof.start).returncode == 0
    assert cosign('verify', '--key', keys/'gate.pub', '--insecure-ignore-tlog=true', proof.start).returncode
    for kind in ('spdxjson', 'slsaprovenance1', NOTEBOOKS_TYPE, EVALUATION_TYPE):
        done = cosign('verify-attestation', '--key', keys/'gate.pub', '--insecure-ignore-tlog=true',
                      '--type', kind, proof.start)
        assert done.returncode == 0, done.stderr
        said = json.loads(base64.b64decode(json.loads(done.stdout)['payload']))
        assert said['subject'][0]['digest']['sha256'] == released.digest[7:]
        if kind == 'slsaprovenance1':
            assert (said['predicateType'] == PROVENANCE_TYPE
                    and said['predicate']['buildDefinition']['resolvedDependencies'][0]['digest'].keys()
                    == {'gitCommit'})
        if kind == NOTEBOOKS_TYPE:
            assert b'It drove' in gzip.decompress(
                base64.b64decode(said['predicate']['4_evaluate.ipynb']['html_gz']))
        if kind == 'spdxjson':
            assert {'toy', 'pilot.tflite'} <= {p['name'] for p in said['predicate']['packages']}


def test_saying_it_twice_is_saying_it_once(released, keys):
    ref = parse_ref(f'{released.to}-car')
    was = {end: open_image_source(ref).manifest(beside(released.digest, end)) for end in ('.sig', '.att')}
    push.push_images('both', released.to, 'v1.0.0', released.images, **quiet)
    sign.sign_images('both', released.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                     released.repo, **quiet)
    assert was == {end: open_image_source(ref).manifest(beside(released.digest, end)) for end in was}


def test_the_same_image_may_be_released_again(released, keys):
    push.push_images('both', released.to, 'v1.1.0', released.images, **quiet)
    sign.sign_images('both', released.to, 'v1.1.0', str(keys/'image.key'), str(keys/'gate.key'),
                     released.repo, **quiet)
    assert ([prove(keys, f'{released.to}-car:{v}').version for v in ('v1.0.0', 'v1.1.0')]
            == ['v1.0.0', 'v1.1.0'])
    assert prove(keys, f'{released.to}-car@{released.digest}').version == 'v1.1.0'


def test_a_version_never_moves(released, tmp_path):
    with pytest.raises(EdgecarError, match='a version never moves'):
        push.push_images('both', released.to, 'v1.0.0', images(tmp_path/'others', b'another'), **quiet)
    assert read_image(open_image_source(parse_ref(f'{released.to}-car')), 'v1.0.0').digest == released.digest


def test_a_new_pilot_is_a_small_update(released, tmp_path):
    push.push_images('both', released.to, 'v1.1.0', images(tmp_path/'next', b'a better pilot'), **quiet)
    parts, (size, layers, of) = diff.diff_releases(f'{released.to}-car:v1.0.0', f'{released.to}-car:v1.1.0')
    assert ({part for part, rows in parts.items() if rows} == {'pilot', 'layers', 'metrics'} and layers == 1
            and 0 < size < of)
    last = read_image(open_image_source(parse_ref(f'{released.to}-car')), 'v1.1.0')
    assert size == last.bytes + last.manifest['config']['size'] + last.layers[-1]['size']


def forged(keys, registry, tmp_path, key='gate', attest={}, tag='v1.1.0', **image):
    "A release made wrong, and signed all the same."
    toy_release(tmp_path/'forged', tag='edgecar', **image)
    digest = OciLayout(tmp_path/'forged').find('edgecar')
    name = f'{registry.to}-car@{digest}'
    skopeo(f'oci:{tmp_path}/forged:edgecar', f'docker://{name}')
    skopeo(f'docker://{name}', f'docker://{registry.to}-car:{tag}')
    cosign_sign(keys, name)
    predicate = dict(version=tag, target='car',
                     pilot=dict(sha256=hashlib.sha256(image.get('pilot', b'pilot')).hexdigest()),
                     gate=dict(passed=True, rules=[dict(rule='clean', kind='least', bound=.9, found=1.)]),
                     data={'data': 'f' * 32}, params=dict(sha256=sign_params())) | attest
    write_json(tmp_path/'predicate.json', predicate)
    push.run_tool('cosign', 'attest', *sign.cosign_args(str(keys/f'{key}.key')), '--type', EVALUATION_TYPE,
                  '--predicate', tmp_path/'predicate.json', name)
    return f'{registry.to}-car:{tag}'


def sign_params():
    from edgecar.release.evidence import json_digest
    return json_digest(dict(train=dict(seed=1)))


def test_a_good_forgery_would_pass(released, keys, tmp_path):
    "So the refusals below are refusals of what is wrong in them."
    assert prove(keys, forged(keys, released, tmp_path, pilot=b'x')).version == 'v1.1.0'


WRONG = {
    'attested with another key': (dict(key='other'), 'none by gate.pub'),
    'the gate was not passed': (
        dict(attest=dict(gate=dict(passed=False, rules=[dict(rule='a', kind='most', bound=1., found=0.)]))),
        'had not passed'),
    'a rule was broken': (
        dict(attest=dict(gate=dict(passed=True, rules=[dict(rule='a', kind='most', bound=1., found=2.)]))),
        "broke the rule 'a'"),
    'another pilot passed': (dict(attest=dict(pilot=dict(sha256='0' * 64))), '000000000000 passed the gate'),
    'manifest and pilot disagree': (dict(manifest=dict(pilot=dict(sha256='0' * 64))),
                                    "its manifest.json says '000000000000'"),
    'label and pilot disagree': (dict(labels={'dev.edgecar.pilot.sha256': '0' * 64}), 'its label'),
    'a second pilot hides the first': (dict(last={f'./{PILOT_FOLDER}/pilot.tflite': b'another'}), 'twice'),
    'more than the pilot in its layer': (dict(last={'usr/bin/python3': b'#!'}), 'may hold the pilot only'),
    'no rule was looked at': (dict(attest=dict(gate=dict(passed=True, rules=[]))), 'had not passed'),
    'attested as another version': (dict(attest=dict(version='v0.9.0')), 'was attested as v0.9.0'),
    'attested as no version': (dict(attest=dict(version='newest')), 'was attested as|is not a version'),
}


@pytest.mark.parametrize('wrong', WRONG)
def test_verify_refuses_what_is_wrong_in_itself(registry, keys, tmp_path, wrong):
    how, says = WRONG[wrong]
    name = forged(keys, registry, tmp_path, **how)
    with pytest.raises(EdgecarError, match=says):
        prove(keys, name)


def unsigned(r, keys, d):
    toy_release(d/'new', b'new')
    skopeo(f'oci:{d}/new:edgecar', f'docker://{r.to}-car:v1.1.0')
    return 'v1.1.0'


def digest_of_car(to):
    return read_image(open_image_source(parse_ref(f'{to}-car')), 'v1.1.0').digest


def stranger(r, keys, d):
    unsigned(r, keys, d)
    cosign_sign(keys, f'{r.to}-car@{digest_of_car(r.to)}', 'other')
    return 'v1.1.0'


def retagged(r, keys, d):
    skopeo(f'docker://{r.to}-car:v1.0.0', f'docker://{r.to}-car:v1.1.0')
    return 'v1.1.0'


def latest(r, keys, d):
    skopeo(f'docker://{r.to}-car:v1.0.0', f'docker://{r.to}-car:latest')
    return 'latest'


def no_gate(r, keys, d):
    cosign_sign(
        keys, f'{r.to}-car@'
        f'{(unsigned(r, keys, d), digest_of_car(r.to))[1]}')
    return 'v1.1.0'


def borrowed(r, keys, d):
    "Signature and attestation of the good one, put beside another."
    unsigned(r, keys, d)
    digest = digest_of_car(r.to)
    for end in ('.sig', '.att'):
        skopeo(f'docker://{r.to}-car:{beside(r.digest, end)}', f'docker://{r.to}-car:{beside(digest, end)}')
    return 'v1.1.0'


def borrowed_gate(r, keys, d):
    borrowed(r, keys, d)
    cosign_sign(keys, f'{r.to}-car@{digest_of_car(r.to)}')
    return 'v1.1.0'


def changed_layer(r, keys, d):
    layer = read_image(open_image_source(parse_ref(f'{r.to}-car')), 'v1.0.0').layers[-1]
    path = r.blob(layer['digest'])
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    return 'v1.0.0'


def changed_manifest(r, keys, d):
    path = r.blob(r.digest)
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion":  2'))
    return 'v1.0.0'


def missing(r, keys, d):
    return 'v9.0.0'


REFUSED = {
    unsigned: 'is not signed',
    stranger: 'has 1 signatures, none by image.pub',
    retagged: 'has the tag v1.1.0, and was attested as v1.0.0',
    latest: 'has the tag latest',
    no_gate: 'has no attestation',
    borrowed: 'is another image',
    borrowed_gate: 'of another image',
    changed_layer: 'tampered with or cut short',
    changed_manifest: 'is not signed',
    missing: 'is not there',
}


@pytest.mark.parametrize('how', REFUSED, ids=lambda how: how.__name__)
def test_verify_refuses(released, keys, tmp_path, how):
    tag = how(released, keys, tmp_path)
    done = subprocess.run([shutil.which('edgecar'), 'release', 'verify', f'{released.to}-car:{tag}',
                           '--key', keys/'image.pub', '--gate-key', keys/'gate.pub'],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and REFUSED[how] in done.stderr and 'start ' not in done.stdout, (
        done.stdout + done.stderr)


def test_verify_refuses_to_go_back_and_remembers(released, keys, tmp_path):
    name, state = f'{released.to}-car:v1.0.0', tmp_path/'running.json'
    edgecar = [shutil.which('edgecar'), 'release', 'verify', name, '--key', keys/'image.pub',
               '--gate-key', keys/'gate.pub', '--running', state]
    subprocess.run([*edgecar, '--remember'], check=True, capture_output=True, timeout=60)
    assert verify.running_release(state) == {}     # on trial: nothing older is refused yet
    verify.change_slots(state, ReleaseSlots.with_confirmation)
    assert json.loads(state.read_text()) == dict(version='v1.0.0', digest=released.digest)
    subprocess.run(edgecar, check=True, capture_output=True, timeout=60)    # the same again may start
    with pytest.raises(EdgecarError, match='older than v1.0.1'):
        prove(keys, name, 'v1.0.1')
    write_json(state, dict(version='v1.0.0', digest='sha256:' + '0' * 64))
    with pytest.raises(EdgecarError, match='another image of that version'):
        prove(keys, name, state)


def test_a_device_policy_admits_what_cosign_signed(registry, keys, tmp_path):
    "SBOM, provenance and evaluation are those of `edgecar release sign`."
    rules = [dict(rule='clean', kind='least', bound=.95, found=1.),
             dict(rule='parity', kind='most', bound=.02, found=0.)]
    made = images(tmp_path/'images', manifest=dict(gate=dict(passed=True, rules=rules)))
    push.push_images('car', registry.to, 'v1.0.0', made, **quiet)
    sign.sign_images('car', registry.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                     repo(tmp_path/'repo'), **quiet)
    demands = DevicePolicy(
        repository=f'{registry.to}-car', architecture='amd64', image_key=str(keys/'image.pub'),
        gate_key=str(keys/'gate.pub'), state=str(tmp_path/'state.json'), rules=dict(clean=.9, parity=.02),
        builders=('https://edgecar.github.io/laptop/v1',))
    name = f'{registry.to}-car:v1.0.0'
    assert admit_image(demands, name, True, **quiet).version == 'v1.0.0'
    for odd, says in ((dict(target='twin'), "target is 'car'"), (dict(builders=('me',)), 'builders:'),
                      (dict(rules=dict(clean=.99)), "'clean' was judged by at least 0.95"),
                      (dict(rules=dict(speed_ratio=.5)), "'speed_ratio' was not judged")):
        with pytest.raises(EdgecarError, match=says):
            admit_image(replace(demands, **odd), name, True, **quiet)


def test_verify_wants_both_keys(released, keys, tmp_path):
    name = f'{released.to}-car:v1.0.0'
    for key, gate, says in ((tmp_path/'none.pub', keys/'gate.pub', 'cannot be read'),
                            (keys/'image.key', keys/'gate.pub', 'is a private key|no public key'),
                            (keys/'gate.pub', keys/'image.pub', 'none by gate.pub'),
                            (keys/'image.pub', keys/'image.pub', 'are one key')):
        with pytest.raises(EdgecarError, match=says):
            verify.verify_image(name, key, gate, **quiet)


def test_verify_without_the_registry_it_came_from(released, keys, tmp_path):
    name = f'{released.to}-car'
    mirror = Server(tmp_path/'mirror')
    try:
        for tag in ('v1.0.0', beside(released.digest, '.sig'), beside(released.digest, '.att')):
            skopeo(f'docker://{name}:{tag}', f'docker://{mirror.to}-car:{tag}')
        assert cosign('save', '--dir', tmp_path/'stick', f'{name}:v1.0.0').returncode == 0
        released.stop()
        assert prove(keys, f'{mirror.to}-car:v1.0.0', identity=name).version == 'v1.0.0'
        with pytest.raises(EdgecarError, match='--identity'):
            prove(keys, f'{mirror.to}-car:v1.0.0')
        assert prove(keys, f'oci:{tmp_path}/stick', identity=name).digest == released.digest
        alone = subprocess.run(
            ['unshare', '-n', shutil.which('edgecar'), 'release', 'verify', f'oci:{tmp_path}/stick',
             '--key', keys/'image.pub', '--gate-key', keys/'gate.pub', '--identity', name],
            capture_output=True, text=True, timeout=60)
        assert alone.returncode == 0, f'it wants a network: {alone.stderr}'
        with pytest.raises(EdgecarError, match='no registry answers'):
            prove(keys, f'{name}:v1.0.0')
    finally:
        mirror.stop()


def policy(released, keys, folder):
    "A device's policy.json and registries.d, filled in."
    def fill(name):
        return ((ROOT/'deploy/policy'/name).read_text()
                .replace('registry.example.org/club/edgecar', released.to)
                .replace('/etc/pki/containers/edgecar.pub', str(keys/'image.pub')))

    (folder/'registries.d').mkdir()
    (folder/'policy.json').write_text(fill('policy.json'))
    (folder/'registries.d/edgecar.yaml').write_text(fill('registries.d/edgecar.yaml'))

    def pull(name):
        return subprocess.run([push.find_tool('policy'), folder/'policy.json', folder/'registries.d',
                               f'docker://{name}', f'dir:{folder}/pulled'],
                              capture_output=True, text=True, timeout=60)
    return pull


def test_a_devices_policy_lets_the_signed_one_in(released, keys, tmp_path):
    pull = policy(released, keys, tmp_path)
    for name in (f'{released.to}-car:v1.0.0', f'{released.to}-twin:v1.0.0',
                 f'{released.to}-car@{released.digest}'):
        assert pull(name).returncode == 0, pull(name).stderr
    skopeo(f'docker://{released.to}-car:v1.0.0', f'docker://{released.to}-other:v1.0.0')
    assert 'rejected by policy' in pull(f'{released.to}-other:v1.0.0').stderr


@pytest.mark.parametrize('how', [unsigned, stranger, borrowed, changed_layer, changed_manifest],
                         ids=lambda how: how.__name__)
def test_a_devices_policy_keeps_out(released, keys, tmp_path, how):
    pull = policy(released, keys, tmp_path)
    done = pull(f'{released.to}-car:{how(released, keys, tmp_path)}')
    assert done.returncode == 1, done.stderr
    assert re.search('Source image rejected|Digest did not match|invalid', done.stderr), done.stderr


def test_a_devices_policy_keeps_out_what_was_signed_as_another(released, keys, tmp_path):
    pull = policy(released, keys, tmp_path)
    skopeo(f'docker://{released.to}-twin:v1.0.0', f'docker://{released.to}-car:v1.2.0')
    digest = read_image(open_image_source(parse_ref(f'{released.to}-twin')), 'v1.0.0').digest
    skopeo(f'docker://{released.to}-twin:{beside(digest, ".sig")}',
           f'docker://{released.to}-car:{beside(digest, ".sig")}')
    assert 'is not accepted' in pull(f'{released.to}-car:v1.2.0').stderr
    with pytest.raises(EdgecarError, match='was signed as'):
        prove(keys, f'{released.to}-car:v1.2.0')


@pytest.mark.parametrize('how', [retagged, no_gate], ids=lambda how: how.__name__)
def test_what_a_policy_cannot_see_is_why_verify_is_there(released, keys, tmp_path, how):
    name = f'{released.to}-car:{how(released, keys, tmp_path)}'
    assert policy(released, keys, tmp_path)(name).returncode == 0
    with pytest.raises(EdgecarError):
        prove(keys, name)


def admission(released, keys, folder):
    """policy-controller's verdicts: its own tester on each ClusterImagePolicy,
    keys put in the place of Secrets."""
    documents = list(yaml.safe_load_all(
        (ROOT/'deploy/policy/cluster-image-policy.yaml').read_text()
        .replace('registry.example.org/club/edgecar', released.to)))
    assert [d['metadata']['name'] for d in documents] == ['edgecar-signed', 'edgecar-gate']
    def verdict(name, documents=documents):
        found = []
        for d in copy.deepcopy(documents):
            key = d['spec']['authorities'][0]['key']
            key['data'] = (keys/{'edgecar-image-pub': 'image.pub', 'edgecar-gate-pub': 'gate.pub'}[
                key.pop('secretRef')['name']]).read_text()
            (folder/'cip.yaml').write_text(yaml.safe_dump(d))
            done = subprocess.run([push.find_tool('policy-tester'), '-policy', folder/'cip.yaml', '-image',
                                   name],
                                  capture_output=True, text=True, timeout=60)
            found.append('' if done.returncode == 0 else done.stdout + done.stderr)
        return found
    return verdict, documents


def test_a_cluster_admits_what_is_signed_and_passed(released, keys, tmp_path):
    verdict, _ = admission(released, keys, tmp_path)
    assert verdict(f'{released.to}-car@{released.digest}') == ['', '']
    for how, signed, passed in ((unsigned, False, False), (stranger, False, False), (no_gate, True, False)):
        (tmp_path/how.__name__).mkdir()
        tag = how(released, keys, tmp_path/how.__name__)
        digest = read_image(open_image_source(parse_ref(f'{released.to}-car')), tag).digest
        assert [not said for said in verdict(f'{released.to}-car@{digest}')] == [signed, passed], how


@pytest.mark.parametrize('wrong', ['the gate was not passed', 'a rule was broken', 'no rule was looked at',
                                   'attested with another key', 'attested as no version'])
def test_a_cluster_refuses(registry, keys, tmp_path, wrong):
    forged(keys, registry, tmp_path, **WRONG[wrong][0])
    verdict, _ = admission(registry, keys, tmp_path)
    signed, gate = verdict(
        f'{registry.to}-car@{digest_of_car(registry.to)}')
    assert not signed and gate


def test_a_typo_in_a_clusters_policy_is_seen(released, keys, tmp_path):
    verdict, documents = admission(released, keys, tmp_path)
    broken = copy.deepcopy(documents)
    broken[1]['spec']['authorities'][0]['attestations'][0]['policy']['data'] = (
        'predicate: {gate: {passed: true')
    assert [bool(x) for x in verdict(f'{released.to}-car@{released.digest}', broken)] == [False, True]
    for field in ('key', 'attestations'):
        broken = copy.deepcopy(documents)
        broken[1]['spec']['authorities'][0][f'{field}z'] = 'x'
        assert [('unknown field' in said) for said in verdict(
            f'{released.to}-car@{released.digest}', broken)] == [False, True]


def test_cosign_asks_nobody_but_the_registry(registry, keys, tmp_path, monkeypatch):
    "Whoever goes to the internet goes through this proxy, which counts."
    calls = []
    proxy = Between(registry.port, lambda n, piece: calls.append(piece) or 'cut')
    for name in ('HTTPS_PROXY', 'HTTP_PROXY', 'https_proxy', 'http_proxy'):
        monkeypatch.setenv(name, f"http://{proxy.to.partition('/')[0]}")
    monkeypatch.setenv('NO_PROXY', 'localhost,127.0.0.1')
    monkeypatch.setenv('HOME', str(tmp_path))
    try:
        push.push_images('car', registry.to, 'v1.0.0', images(tmp_path/'images'), **quiet)
        sign.sign_images('car', registry.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                         repo(tmp_path/'repo'), **quiet)
        prove(keys, f'{registry.to}-car:v1.0.0')
    finally:
        proxy.close()
    assert not calls


def test_signing_says_what_it_lacks(released, keys, tmp_path, monkeypatch):
    image_key, gate_key = str(keys/'image.key'), str(keys/'gate.key')
    def signing(*args, to=released.to, version='v1.0.0', repo=released.repo):
        return sign.sign_images('both', to, version, *args, repo, **quiet)

    for args, kw, says in (((image_key, 'none.key'), {}, 'none.key: is not there'),
                           ((image_key, image_key), {}, 'two keys'),
                           ((image_key, gate_key), dict(version='v3.0.0'), 'edgecar release push'),
                           ((image_key, gate_key), dict(repo=repo(tmp_path/'other', b'another')),
                            'the image carries the pilot')):
        with pytest.raises(EdgecarError, match=says):
            signing(*args, **kw)
    monkeypatch.setenv('COSIGN_PASSWORD', 'wrong')
    with pytest.raises(EdgecarError, match='has another password') as e:
        signing(image_key, gate_key)
    assert 'wrong' not in str(e.value)
    monkeypatch.setenv('COSIGN_PASSWORD', PASSWORD)
    monkeypatch.setenv('COSIGN_GATE_PASSWORD', 'wrong')
    with pytest.raises(EdgecarError, match='gate.key: has another password'):
        signing(image_key, gate_key)
    monkeypatch.delenv('COSIGN_GATE_PASSWORD')
    monkeypatch.delenv('COSIGN_PASSWORD')
    with pytest.raises(EdgecarError, match='there is no terminal to ask'):
        signing(image_key, gate_key)


def test_finding_2_what_a_registry_serves_is_not_signed_unless_it_was_built(registry, keys, tmp_path):
    "Another image lies under the tag, with our pilot and a layer of somebody's code."
    images(tmp_path/'images')
    strange, ref = tmp_path/'strange', push.target_repository(registry.to, 'car')
    toy_release(strange/'car', below=[{'usr/lib/sitecustomize.py': b'import theirs',
                                       'p/toy-1.0.dist-info/METADATA': b'Name: toy\nVersion: 1.0\n'}])
    push.push_images('car', registry.to, 'v1.0.0', strange, **quiet)
    digest, ours = read_image(OciLayout(strange/'car'), None).digest, repo(tmp_path/'repo')

    def signing(**kw):
        return sign.sign_images('car', registry.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                                ours, **quiet, **kw)

    with pytest.raises(EdgecarError, match='was built.* do not sign it'):
        signing()
    with pytest.raises(EdgecarError, match='was built'):
        signing(digests=dict(car='sha256:' + '0'*64))
    with pytest.raises(EdgecarError, match='--digest car=sha256'):
        signing(images=tmp_path/'nothing')
    assert not any(open_image_source(ref).manifest(beside(digest, end)) for end in ('.sig', '.att'))
    assert signing(images=tmp_path/'nothing', digests=dict(car=digest))   # whoever names it answers for it


def test_a_password_is_seen_nowhere(released, keys):
    done = subprocess.run([shutil.which('edgecar'), 'release', 'sign', 'car', '--to', released.to,
                           '--version', 'v1.0.0', '--key', keys/'image.key', '--gate-key', keys/'gate.key'],
                          capture_output=True, text=True, cwd=released.repo, timeout=120)
    assert PASSWORD not in done.stdout + done.stderr + (released.folder/'log').read_text()


def test_in_a_cluster_somebody_else_signs_the_image(registry, keys, tmp_path):
    push.push_images('car', registry.to, 'v1.0.0', images(tmp_path/'images'), **quiet)
    sign.sign_images('car', registry.to, 'v1.0.0', None, str(keys/'gate.key'), repo(tmp_path/'repo'), **quiet)
    with pytest.raises(EdgecarError, match='is not signed'):
        prove(keys, f'{registry.to}-car:v1.0.0')
    # as Tekton Chains does
    cosign_sign(keys, f"{registry.to}-car@{read_image(OciLayout(tmp_path/'images/car'), None).digest}")
    assert prove(keys, f'{registry.to}-car:v1.0.0').version == 'v1.0.0'


@pytest.fixture
def vault():
    "A key service that speaks as Vault's transit engine does: keys never leave it, and it signs digests."
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    secrets, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def say(self, **data):
            text = json.dumps(dict(data=data)).encode()
            self.send_response(200)
            self.send_header('Content-Length', str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def key(self):
            return secrets.setdefault(self.path.split('/')[4], ec.generate_private_key(ec.SECP256R1()))

        def do_GET(self):
            pem = self.key().public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
            self.say(latest_version=1, keys={'1': dict(public_key=pem, name='P-256')})

        def do_PUT(self):
            said = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            asked.append(self.path)
            mark = self.key().sign(base64.b64decode(said['input']),
                                   ec.ECDSA(utils.Prehashed(hashes.SHA256())))
            self.say(signature='vault:v1:' + base64.b64encode(mark).decode())

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.asked = asked
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_keys_of_a_key_service(registry, keys, tmp_path, monkeypatch, vault):
    monkeypatch.setenv('VAULT_ADDR', f'http://127.0.0.1:{vault.server_port}')
    monkeypatch.setenv('VAULT_TOKEN', 't')
    monkeypatch.delenv('COSIGN_PASSWORD')
    push.push_images('car', registry.to, 'v1.0.0', images(tmp_path/'images'), **quiet)
    for _ in range(2):
        sign.sign_images('car', registry.to, 'v1.0.0', 'hashivault://image', 'hashivault://gate',
                         repo(tmp_path/'repo'), **quiet)
    assert len(vault.asked) == 5, 'a signature and four attestations, said once'
    for name in ('image', 'gate'):
        (tmp_path/f'{name}.pub').write_text(
            push.run_tool('cosign', 'public-key', '--key', f'hashivault://{name}'))
    assert prove(tmp_path, f'{registry.to}-car:v1.0.0').version == 'v1.0.0'
    with pytest.raises(EdgecarError, match='none by image.pub'):
        prove(keys, f'{registry.to}-car:v1.0.0')


def test_a_key_service_that_is_not_there(released, keys, monkeypatch):
    monkeypatch.delenv('VAULT_ADDR', raising=False)
    monkeypatch.delenv('BAO_ADDR', raising=False)
    with pytest.raises(EdgecarError, match='VAULT_ADDR'):
        sign.sign_images('car', released.to, 'v1.0.0', 'hashivault://image', str(keys/'gate.key'),
                         released.repo, **quiet)


def big(folder, mb=8):
    "Images with a layer that takes a moment."
    for target in push.RELEASE_TARGETS:
        toy_release(folder/target, below=[{'big': os.urandom(mb << 20)}, {'small': target.encode()}])
    return folder


def test_a_registry_that_dies_during_a_push(registry, tmp_path):
    made = big(tmp_path/'images')
    def die(n, piece):
        if n > 4 << 20:
            registry.stop()
        return 'pass'
    wire = Between(registry.port, die)
    try:
        with pytest.raises(EdgecarError, match='nothing is tagged v1.0.0') as e:
            push.push_images('both', wire.to, 'v1.0.0', made, timeout_s=60, **quiet)
        assert e.value.hint
    finally:
        wire.close()
    registry.start()
    assert not any(tags(push.target_repository(registry.to, t)) for t in push.RELEASE_TARGETS)
    assert len(push.push_images('both', registry.to, 'v1.0.0', made, **quiet)) == 2


def test_a_push_goes_on_where_it_was(registry, tmp_path):
    made = big(tmp_path/'images')
    # all layers are there by then
    wire = Between(registry.port, lambda n, piece: (
        'cut' if b'PUT /v2/club/edgecar-car/manifests/sha256' in piece else 'pass'))
    try:
        with pytest.raises(EdgecarError, match='nothing is tagged'):
            push.push_images('both', wire.to, 'v1.0.0', made, timeout_s=60, **quiet)
    finally:
        wire.close()
    again = Between(registry.port, lambda n, piece: 'pass')
    try:
        push.push_images('both', again.to, 'v1.0.0', made, **quiet)
        assert again.sent < 1 << 20, 'the layers were sent again'
    finally:
        again.close()


def test_a_line_that_breaks_now_and_then(registry, tmp_path):
    cuts = iter([1 << 20, 3 << 20])
    at = [next(cuts)]
    def rule(n, piece):
        if at[0] is None or n < at[0]:
            return 'pass'
        at[0] = next(cuts, None)
        return 'cut'
    wire, lines = Between(registry.port, rule), []
    try:
        assert len(push.push_images('both', wire.to, 'v1.0.0', big(tmp_path/'images'), say=lines.append)) == 2
    finally:
        wire.close()
    assert at == [None] and tags(push.target_repository(registry.to, 'car')) == ['v1.0.0']


def test_a_registry_that_is_too_slow(registry, tmp_path):
    wire = Between(registry.port, lambda n, piece: 'stall' if n > 4 << 20 else 'pass')
    try:
        with pytest.raises(EdgecarError, match='took more than .* s .nothing is tagged v1.0.0'):
            push.push_images('both', wire.to, 'v1.0.0', big(tmp_path/'images'), timeout_s=5, **quiet)
    finally:
        wire.close()
    assert not any(tags(push.target_repository(registry.to, t)) for t in push.RELEASE_TARGETS)


def test_a_second_tag_that_fails_is_said_and_set_by_the_next_try(registry, keys, tmp_path):
    made = images(tmp_path/'images')
    wire = Between(registry.port, lambda n, piece: (
        'cut' if b'PUT /v2/club/edgecar-car/manifests/v1.0.0' in piece else 'pass'))
    try:
        with pytest.raises(EdgecarError, match='tagged v1.0.0: twin; the rest is not'):
            push.push_images('both', wire.to, 'v1.0.0', made, **quiet)
    finally:
        wire.close()
    with pytest.raises(EdgecarError, match='edgecar-car: has no v1.0.0'):
        sign.sign_images('both', registry.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                         repo(tmp_path/'repo'), **quiet)
    assert not open_image_source(push.target_repository(registry.to, 'twin')).manifest(
        beside(read_image(OciLayout(made/'twin'), None).digest, '.sig')), (
        'half a release was signed')
    assert len(push.push_images('both', registry.to, 'v1.0.0', made, **quiet)) == 2


def test_a_registry_whose_disk_is_full(tmp_path):
    folder = tmp_path/'registry'
    (folder/'data').mkdir(parents=True)
    # root, as in CI
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', folder/'data'], check=True)
    server = None
    try:
        server = Server(folder)
        with pytest.raises(EdgecarError, match='nothing is tagged v1.0.0.* is its disk full'):
            push.push_images('both', server.to, 'v1.0.0', big(tmp_path/'images'), **quiet)
        assert not any(tags(push.target_repository(server.to, t)) for t in push.RELEASE_TARGETS)
    finally:
        if server:
            server.stop()
        subprocess.run(['umount', folder/'data'], check=True)


def login(file, host, user, word):
    file.write_text(json.dumps(
        dict(auths={host: dict(auth=base64.b64encode(f'{user}:{word}'.encode()).decode())})))
    file.chmod(0o600)
    return file


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_credentials(tmp_path, keys):
    import crypt
    (tmp_path/'htpasswd').write_text(
        f"driver:{crypt.crypt('right', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n")
    server = Server(tmp_path/'registry',
                    dict(auth=dict(htpasswd=dict(realm='edgecar', path=str(tmp_path/'htpasswd')))))
    host, made = f'localhost:{server.port}', images(tmp_path/'images')
    try:
        for auth in (None, login(tmp_path/'wrong.json', host, 'driver', 'wrong word')):
            done = subprocess.run([shutil.which('edgecar'), 'release', 'push', '--to', server.to,
                                   '--version', 'v1.0.0', '--images', made,
                                   *(['--auth-file', auth] if auth else [])],
                                  capture_output=True, text=True, timeout=60)
            assert (done.returncode == 1 and 'podman login' in done.stderr
                    and 'wrong word' not in done.stdout + done.stderr), done.stderr
        auth = login(tmp_path/'right.json', host, 'driver', 'right')
        push.push_images('both', server.to, 'v1.0.0', made, auth=auth, **quiet)
        with pytest.raises(EdgecarError, match='other credentials'):
            sign.sign_images('both', server.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                             repo(tmp_path/'repo'), **quiet)
        sign.sign_images('both', server.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                         repo(tmp_path/'repo'), auth=auth, **quiet)
        assert prove(keys, f'{server.to}-car:v1.0.0', auth=auth).version == 'v1.0.0'
        with pytest.raises(EdgecarError, match='podman login'):
            prove(keys, f'{server.to}-car:v1.0.0')
    finally:
        server.stop()


def test_a_certificate_of_ones_own(tmp_path, keys):
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
                    '-nodes', '-days', '2', '-subj', '/CN=localhost',
                    '-addext', 'subjectAltName=DNS:localhost',
                    '-keyout', tmp_path/'tls.key', '-out', tmp_path/'tls.crt'],
                   check=True, capture_output=True)
    server = Server(
        tmp_path/'registry',
        http=dict(tls=dict(certificate=str(tmp_path/'tls.crt'), key=str(tmp_path/'tls.key'))))
    made, ca = images(tmp_path/'images'), tmp_path/'tls.crt'
    try:
        push.push_images('both', server.to, 'v1.0.0', made, ca=ca, **quiet)
        sign.sign_images('both', server.to, 'v1.0.0', str(keys/'image.key'), str(keys/'gate.key'),
                         repo(tmp_path/'repo'), ca=ca, **quiet)
        assert prove(keys, f'{server.to}-car:v1.0.0', ca=ca).version == 'v1.0.0'
        with pytest.raises(EdgecarError):
            push.push_images('both', server.to, 'v1.0.0', made, **quiet)
    finally:
        server.stop()


def test_the_rehearsal(tmp_path):
    "All of it, as a person would see it, on toys."
    done = subprocess.run([ROOT/'scripts/rehearse', images(tmp_path/'images'), 'v0.0.1'], capture_output=True,
                          text=True, timeout=300, cwd=repo(tmp_path/'repo'))
    assert done.returncode == 0 and 'rehearsed: v0.0.1' in done.stdout, done.stdout + done.stderr
    assert 'not signed' in done.stdout and 'let in' in done.stdout
