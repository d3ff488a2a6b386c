"""From a tag to a device, on a real control plane: a tag is pushed, its pipeline runs to its end as pods,
Chains signs, Argo CD syncs, the twin proves itself, and the car follows. `make test-cluster` runs it.

The node has two cores, so a step that asks for both asks for one here. The car's pod asks for arm64 and for a
camera, which no node has: its sync is what is shown."""
import base64
import json
import os
import subprocess
from datetime import date, datetime
from pathlib import Path

import pytest
import yaml

from edgecar.core import write_json
from edgecar.release.base import put_blob, write_index
from edgecar.release.evidence import EVALUATION_TYPE
from edgecar.release.image import read_json_blob, write_layer
from edgecar.release.promotion import OVERLAY, overlay_pin, pin_overlay
from edgecar.release.sign import cosign_args
from support.cluster import NODE, ROOT, build_parts, crds, what_is_lacking
from support import story
from support.road import GIT, HUB, Club, Road, bases, replace_in, run
from support.waiting import wait

PARTS = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl', 'kubelet',
         'containerd', 'containerd-shim-runc-v2', 'tekton-controller', 'tekton-webhook', 'tekton-entrypoint',
         'tekton-workingdirinit', 'tekton-nop', 'tkn-pac', 'chains-controller', 'policy-webhook', 'argocd']
VERSION = 'v0.1.0'
# the first build compiles all of it: half an hour of two cores
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]


def script(name):
    "What a script of ours makes, or finds."
    done = subprocess.run([ROOT/'scripts'/name], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, f'scripts/{name} failed, see above'
    return Path(done.stdout.strip())


@pytest.fixture(scope='module')
def road(request, tmp_path_factory):
    "The cluster with its servers and Tekton; at its end it tells the seconds of each step."
    if lacking := what_is_lacking():
        pytest.fail(lacking)
    steps, bin = script('steps'), build_parts(*PARTS)
    road = Road(tmp_path_factory.mktemp('road')/'here', bin)
    road.wheels, road.steps = steps/'wheels', steps/'root'
    road.cosign, road.s3, road.kustomize = script('cosign'), script('s3'), script('kustomize')
    with road:
        road.timed('definitions', road.kubectl, 'create', *[f'--filename={file}' for file in crds()])
        road.timed('servers', road.enter_servers)
        road.timed('node', road.start_node)
        yield road
        road.tell_times(request.config)


@pytest.fixture(scope='module')
def club(road):
    "Who releases, with all controllers and both Applications in place; nothing is promoted yet."
    tools = road.timed('image of the steps', road.tools, road.steps)
    shared = {arch: road.share(f'oci:{layout}:base', f'club/base-{arch}:1')
              for arch, layout in bases().items()}
    club = Club(road, tools, shared)
    road.timed('tekton', road.start_tekton, tools)
    road.timed('club', club.set_up, road.cosign)
    road.timed('chains', road.start_chains, club.keys/'edgecar.key', 'word')
    road.timed('policy-controller', road.start_policy, club.keys)
    road.timed('argocd', road.start_argocd)
    club.devices()
    road.timed('pins are pushed', club.push_pins)
    return club


def newest_run(road):
    runs = road.object('-n', 'club', 'pipelineruns')['items']
    return max(runs, key=lambda run: run['metadata']['creationTimestamp'])


def ended(road, run):
    "The condition of a run that has ended; None before."
    status = road.object('-n', 'club', 'pipelinerun', run['metadata']['name']).get('status', {})
    found = next((c for c in status.get('conditions', []) if c['type'] == 'Succeeded'), {})
    return found if found.get('status') in ('True', 'False') else None


def tasks(road, run):
    "The TaskRuns of a run, by the names of its tasks."
    found = road.object('-n', 'club', 'taskruns', '-l', f'tekton.dev/pipelineRun={run["metadata"]["name"]}')
    return {t['metadata']['labels']['tekton.dev/pipelineTask']: t for t in found['items']}


def note_tasks(road, run):
    "Note the seconds of each task of a run."
    for name, task in sorted(tasks(road, run).items(), key=lambda t: t[1]['status'].get('startTime', '')):
        begin, end = (task['status'].get(key) for key in ('startTime', 'completionTime'))
        if begin and end:
            took = datetime.fromisoformat(end) - datetime.fromisoformat(begin)
            road.seconds[f'  {run["metadata"]["name"]} {name}'] = took.total_seconds()


def log_of(road, run, task):
    pod = tasks(road, run)[task]['status']['podName']
    return road.kubectl('-n', 'club', 'logs', pod, '--all-containers', '--tail=30', ok=False).stdout


def release(club, version):
    "Push a tag, and wait for the end of what it starts: the run, and its condition."
    club.volume(f'run-{version.replace(".", "-")}')
    said = club.tag(version)
    assert 'pipelinerun.tekton.dev/edgecar-release-' in said, said
    run = newest_run(club.road)
    wait(lambda: ended(club.road, run), 3600, pause=2)
    note_tasks(club.road, run)
    return run, ended(club.road, run)


@pytest.fixture(scope='module')
def released(road, club):
    "A release of the tag, run to its end."
    run, condition = road.timed('tag to the end of its run', release, club, VERSION)
    if condition['status'] != 'True':
        failed = [n for n, t in tasks(road, run).items() if t['status']['conditions'][0]['status'] == 'False']
        pytest.fail(f'{condition["message"]}\n' + '\n'.join(log_of(road, run, name) for name in failed))
    return run


def results(road, run):
    "The results of a run: name -> value."
    status = road.object('-n', 'club', 'pipelinerun', run['metadata']['name'])['status']
    return {r['name']: r['value'] for r in status['results']}


def image_of(road, run, target):
    found = results(road, run)
    return f'{found[f"{target}_IMAGE_URL"]}@{found[f"{target}_IMAGE_DIGEST"]}'


def test_a_tag_runs_each_task_of_its_release_as_a_pod(road, released):
    document = yaml.safe_load((ROOT/'.tekton/release.yaml').read_text())['spec']['pipelineSpec']
    found = tasks(road, released)
    assert set(found) == {t['name'] for t in document['tasks'] + document['finally']}
    assert {t['status']['conditions'][0]['status'] for t in found.values()} == {'True'}
    pod = road.object('-n', 'club', 'pod', found['evaluate']['status']['podName'])
    assert pod['spec']['serviceAccountName'] == 'edgecar-release' and pod['spec']['nodeName'] == NODE
    mounts = [m['mountPath'] for c in pod['spec']['containers'] for m in c['volumeMounts']]
    assert not [m for m in mounts if 'serviceaccount' in m], 'a step that could ask the API server'


def cosign(club, *words):
    "Ask cosign in the room, where the registry is."
    key = ['--key', club.keys/'edgecar.pub', '--insecure-ignore-tlog=true']
    return club.road.run(club.road.cosign, words[0], *key, *words[1:], env=club.env)


@pytest.mark.parametrize('target', ['twin', 'car'])
def test_cosign_accepts_what_chains_wrote(road, club, released, target):
    name = image_of(road, released, target)
    signed = cosign(club, 'verify', name)
    assert signed.returncode == 0, signed.stderr
    made = cosign(club, 'verify-attestation', '--type', 'slsaprovenance1', name)
    assert made.returncode == 0, made.stderr
    commit = run(club.folder, 'git', 'rev-parse', VERSION).strip()
    payload = base64.b64decode(json.loads(made.stdout.splitlines()[0])['payload']).decode()
    assert commit in payload, 'the provenance names another commit'


@pytest.mark.parametrize('target', ['twin', 'car'])
def test_a_device_accepts_it_by_both_keys(road, club, released, target):
    said = club.inside('edgecar', 'release', 'verify', image_of(road, released, target), '--ca',
                       road.folder/'hub.crt', '--key', club.keys/'edgecar.pub', '--gate-key',
                       club.keys/'edgecar-gate.pub')
    assert VERSION in said and 'gate' in said


def pin(club, target, revision='main'):
    "What the overlay of a target says in Git, at a revision."
    text = run(club.road.folder/'git/edgecar.git', 'git', 'show', f'{revision}:{OVERLAY.format(target)}')
    return overlay_pin(text, target)[1]


def test_both_overlays_were_promoted_the_car_after_the_proof(road, club, released):
    found = results(road, released)
    for target in ('twin', 'car'):
        assert pin(club, target) == found[f'{target}_IMAGE_DIGEST']
    log = run(road.folder/'git/edgecar.git', 'git', 'log', '-3', '--format=%s', 'main')
    assert log.splitlines() == [f'Promote car to {VERSION}', f'Let the twin prove {VERSION}',
                                f'Promote twin to {VERSION}']


@pytest.fixture(scope='module')
def synced(road, club, released):
    "The twin, synced by Argo CD to its end: what is deployed has driven."
    digest = results(road, released)['twin_IMAGE_DIGEST']
    road.timed('twin is synced and has driven', wait, lambda: state_of(club, digest), 900, 1)
    return club.application('twin')


def test_the_twin_runs_what_was_promoted_and_has_proved_it(road, released, synced):
    assert synced['operationState']['phase'] == 'Succeeded', synced['operationState']
    assert synced['sync']['status'] == 'Synced' and synced['health']['status'] == 'Healthy'
    pod, = driver_pods(road)
    assert {s['image'] for s in pod['spec']['containers']} == {image_of(road, released, 'twin')}
    hooks = [r for r in synced['operationState']['syncResult']['resources'] if r.get('hookType')]
    assert [(r['kind'], r['hookType'], r['hookPhase']) for r in hooks] == [('Job', 'PostSync', 'Succeeded')]


@pytest.fixture(scope='module')
def car_synced(road, club, released, synced):
    "The car's Application, synced to what was promoted."
    digest = results(road, released)['car_IMAGE_DIGEST']
    road.timed('car is synced', wait, lambda: state_of(club, digest, 'car'), 120, .5)
    return club.application('car')


def test_the_car_is_synced_to_what_was_promoted(road, club, released, car_synced):
    assert car_synced['operationState']['phase'] == 'Succeeded', car_synced['operationState']
    assert car_synced['sync']['status'] == 'Synced'
    found = road.object('-n', 'car', 'deployment', 'edgecar-car')['spec']['template']['spec']
    assert found['containers'][0]['image'] == image_of(road, released, 'car')


@pytest.fixture(scope='module')
def told(road, club, released, synced, car_synced):
    "What happened since the tag was pushed, in its order; `EDGECAR_ROAD` names a file that keeps it."
    log = run(road.folder/'git/edgecar.git', 'git', 'log', '-3', '--reverse', '--format=%ct %s',
              'main')
    digests = {target: results(road, released)[f'{target}_IMAGE_DIGEST'] for target in ('twin', 'car')}
    moments = [*story.of_tasks(tasks(road, released)), *story.of_signatures(road.folder/'hub', digests),
               *story.of_commits(log), *story.of_sync('twin', synced['operationState']),
               *story.of_job('twin', road.object('-n', 'edgecar', 'job', 'edgecar-proof-twin')['status']),
               *story.of_sync('car', car_synced['operationState'])]
    moments = story.since(moments, story.at(released['metadata']['creationTimestamp']))
    if kept := os.environ.get('EDGECAR_ROAD'):
        write_json(kept, dict(day=str(date.today()), moments=moments))
    return moments


def test_each_did_its_part_when_the_one_before_had_done_it(told):
    begin = {(m['who'], m['what']): m['begin'] for m in told}
    end = {(m['who'], m['what']): m['end'] for m in told}
    promoted, proved, car = [m for m in told if m['who'] == 'git']
    slack = 1.   # an API server tells whole seconds
    assert end['pipeline', 'evaluate'] <= begin['pipeline', 'build-twin'] + slack
    for target in ('twin', 'car'):
        assert end['pipeline', f'build-{target}'] <= begin['Chains', f'{target} signed'] + slack
    assert begin['Chains', 'twin signed'] <= promoted['begin'] + slack
    assert promoted['begin'] <= begin['twin', 'sync'] + slack
    assert begin['twin', 'sync'] <= begin['twin', 'drives']
    assert end['twin', 'drives'] <= end['twin', 'sync'] + slack
    assert promoted['begin'] < proved['begin'] <= car['begin'] <= begin['car', 'sync'] + slack


def test_a_drift_is_healed(road, synced):
    road.kubectl('-n', 'edgecar', 'scale', 'deployment/edgecar-twin', '--replicas=0')
    def back():
        return road.object('-n', 'edgecar', 'deployment', 'edgecar-twin')['spec']['replicas'] == 1
    road.timed('drift is healed', wait, back, 120, .2)


def a_pod(name, image):
    security = dict(runAsNonRoot=True, runAsUser=1001, allowPrivilegeEscalation=False,
                    capabilities=dict(drop=['ALL']), seccompProfile=dict(type='RuntimeDefault'))
    resources = dict(requests=dict(cpu='10m', memory='16Mi'), limits=dict(cpu='10m', memory='16Mi'))
    resources = {k: v | {'ephemeral-storage': '16Mi'} for k, v in resources.items()}
    return yaml.safe_dump(dict(apiVersion='v1', kind='Pod', metadata=dict(name=name), spec=dict(
        automountServiceAccountToken=False,
        containers=[dict(name='one', image=image, securityContext=security, resources=resources)])))


def admission(road, name, image):
    return road.kubectl('-n', 'edgecar', 'create', '--dry-run=server', '-f', '-', ok=False,
                        input=a_pod(name, image))


def test_admission_takes_what_is_signed_and_refuses_what_is_not(road, club, released):
    good = admission(road, 'good', image_of(road, released, 'twin'))
    assert good.returncode == 0, good.stderr
    other = road.share(f'docker-archive:{road.folder}/pause.tar', 'club/edgecar-twin:other')
    refused = admission(road, 'bad', other)
    assert refused.returncode and 'admission webhook "policy.sigstore.dev" denied' in refused.stderr


def test_a_foreign_image_under_the_tag_reaches_no_device(road, club, released):
    name = f'{HUB}/club/edgecar-twin:{VERSION}'
    road.share(f'docker-archive:{road.folder}/pause.tar', f'club/edgecar-twin:{VERSION}')
    try:
        words = ['edgecar', 'release', 'verify', name, '--ca', road.folder/'hub.crt', '--key',
                 club.keys/'edgecar.pub', '--gate-key', club.keys/'edgecar-gate.pub']
        done = road.run(*words, env=club.env)
        assert done.returncode == 1 and 'is not signed' in done.stderr + done.stdout
        assert admission(road, 'tagged', name).returncode
        assert pin(club, 'twin') == results(road, released)['twin_IMAGE_DIGEST'], 'Git names a digest'
    finally:
        digest = results(road, released)['twin_IMAGE_DIGEST']
        road.share(f'docker://{HUB}/club/edgecar-twin@{digest}', f'club/edgecar-twin:{VERSION}')


def driver_pods(road):
    return road.object('-n', 'edgecar', 'pods', '-l', 'app.kubernetes.io/component=driver,'
                       'app.kubernetes.io/instance=twin')['items']


def is_ready(pod):
    return any((c['type'], c['status']) == ('Ready', 'True') for c in pod['status'].get('conditions', []))


def refusals(road):
    "What the controllers of the devices' namespace were refused: message -> how often."
    events = road.object('-n', 'edgecar', 'events', '--field-selector=reason=FailedCreate')['items']
    return {event['message']: event.get('count') for event in events}


def test_a_registry_that_is_gone_lets_nothing_new_in_until_it_is_back(road, released, synced):
    "Admission reads signatures there, so a device's pod that is lost meanwhile comes back with it."
    wait(lambda: [is_ready(pod) for pod in driver_pods(road)] == [True], 120, pause=.5)
    driving, = driver_pods(road)
    known = refusals(road)
    road.stop('hub')
    try:
        assert admission(road, 'late', image_of(road, released, 'twin')).returncode
        assert [p['metadata']['uid'] for p in driver_pods(road)] == [driving['metadata']['uid']]
        road.kubectl('-n', 'edgecar', 'delete', 'pod', driving['metadata']['name'])
        wait(lambda: refusals(road) != known, 60, pause=.5)
        assert not driver_pods(road) and 'policy.sigstore.dev' in ' '.join(refusals(road))
    finally:
        road.start_hub()
    def drives():
        return [is_ready(pod) for pod in driver_pods(road)] == [True]
    road.timed('twin is back after its registry', wait, drives, 300, .5)


def build_again(road, released):
    "Start the build of the twin once more, as its run did; what asks for it by kubectl."
    task = tasks(road, released)['build-twin']
    spec = {k: v for k, v in task['spec'].items() if not k.startswith('status')}
    name = f'{released["metadata"]["name"]}-again'
    road.apply(dict(apiVersion='tekton.dev/v1', kind='TaskRun', metadata=dict(name=name, namespace='club'),
                    spec=spec))
    return ['-n', 'club', 'taskrun', name]


def parts_of(road, name):
    "The blobs of an image in the registry, by its name there."
    digest = name.rpartition('@sha256:')[2]
    blob = road.folder/'hub/docker/registry/v2/blobs/sha256'/digest[:2]/digest/'data'
    manifest = json.loads(blob.read_text())
    return {part['digest'] for part in [manifest['config'], *manifest['layers']]}


def test_a_build_whose_registry_goes_pushes_when_it_is_back(road, club, released):
    "It goes when the build has its base, and is back when the push has failed: the step is run again."
    base, seen = club.bases['amd64'], len(road.said('hub', None))
    again = build_again(road, released)
    def has_its_base():
        return all(f'GET /v2/club/base-amd64/blobs/{part} ' in road.said('hub', None)[seen:]
                   for part in parts_of(road, base))
    wait(has_its_base, 300, pause=.2)
    road.stop('hub')
    def status():
        return road.object(*again).get('status', {})
    try:
        wait(lambda: status().get('retriesStatus'), 300, pause=.5)
    finally:
        road.start_hub()
    first = status()['retriesStatus'][0]
    assert [s['name'] for s in first['steps'] if s['terminated']['exitCode']] == ['push']
    def done():
        return status().get('completionTime') and road.object(*again)
    road.timed('build after its registry was gone', wait, done, 900, 1)
    assert status()['conditions'][0]['status'] == 'True', status()['conditions'][0]['message']
    made = {result['name']: result['value'] for result in status()['results']}
    assert made['IMAGE_DIGEST'] == results(road, released)['twin_IMAGE_DIGEST'], 'other bytes this time'
    def signed():
        return road.object(*again)['metadata']['annotations'].get('chains.tekton.dev/signed') == 'true'
    wait(signed, 120, pause=1)


def evaluation(club, name):
    "What was attested of the drive of an image."
    words = ['verify-attestation', '--key', club.keys/'edgecar-gate.pub', '--insecure-ignore-tlog=true',
             '--type', EVALUATION_TYPE, name]
    done = club.road.run(club.road.cosign, *words, env=club.env)
    assert done.returncode == 0, done.stderr
    return json.loads(base64.b64decode(json.loads(done.stdout.splitlines()[0])['payload']))['predicate']


def stricter_image(road, club, name, folder):
    """An image with the same pilot, whose manifest asks for more than the pilot can: signed and attested by
    both keys, as whoever holds them could. Its name by digest."""
    certificates = f'{road.folder}/certificates'
    done = road.run('skopeo', 'copy', '-q', f'--src-cert-dir={certificates}', f'docker://{name}',
                    f'oci:{folder}:x')
    assert done.returncode == 0, done.stderr
    manifest = read_json_blob(folder, json.loads((folder/'index.json').read_text())['manifests'][0]['digest'])
    config = read_json_blob(folder, manifest['config']['digest'])
    last = folder/'blobs/sha256'/manifest['layers'][-1]['digest'][7:]
    run(folder, 'tar', '-xzf', last, 'opt/edgecar/pilot')
    file = folder/'opt/edgecar/pilot/manifest.json'
    release = json.loads(file.read_text())
    rule = next(r for r in release['gate']['rules'] if r['rule'] == 'speed_ratio')
    rule |= dict(bound=1.5, found=1.6)
    file.write_text(json.dumps(release))
    layer, tar = write_layer(file.parent, 'opt/edgecar/pilot', folder)
    config['rootfs']['diff_ids'][-1] = tar
    manifest |= dict(config=put_blob(folder, config, 'config.v1+json'),
                     layers=[*manifest['layers'][:-1], layer])
    write_index(folder, put_blob(folder, manifest, 'manifest.v1+json'), 'amd64', 'x')
    made = road.share(f'oci:{folder}:x', 'club/edgecar-twin:stricter')
    (folder/'evaluation.json').write_text(json.dumps(evaluation(club, name)))
    for key, words in {'edgecar': ['sign'], 'gate': ['attest', '--type', EVALUATION_TYPE, '--predicate',
                                                     folder/'evaluation.json']}.items():
        done = road.run(road.cosign, words[0], *cosign_args(club.keys/f'{key}.key'), *words[1:], made,
                        env=club.env | dict(COSIGN_PASSWORD='word'))
        assert done.returncode == 0, done.stderr
    return made


def promote_by_hand(club, name):
    "Write a digest into the twin's overlay, as somebody with an editor would."
    repository, digest = name.split('@')
    run(club.folder, 'git', 'checkout', '-q', '-B', 'main')
    club.inside('git', 'pull', '-q', '--rebase', 'origin', 'main')
    file = club.folder/'deploy/overlays/twin/kustomization.yaml'
    file.write_text(pin_overlay(file.read_text(), 'twin', repository, digest))
    run(club.folder, 'git', 'commit', '-q', '-a', '-m', 'Try another twin')
    club.inside('git', 'push', '-q', 'origin', 'HEAD:main')
    return digest


def state_of(club, digest, target='twin'):
    """How a device's sync to a digest ended; None while it has not.

    A commit that leaves the device as it is starts no sync, so the last commit may be a later one."""
    state = club.application(target).get('operationState', {})
    ended = state.get('phase') in ('Succeeded', 'Failed', 'Error')
    revision = state.get('syncResult', {}).get('revision')
    return state['phase'] if ended and revision and pin(club, target, revision) == digest else None


@pytest.fixture(scope='module')
def below_the_gate(road, club, released, synced, tmp_path_factory):
    "The digest of a twin whose pilot breaks a rule of its manifest, synced to its end."
    folder = tmp_path_factory.mktemp('stricter')
    digest = promote_by_hand(club, stricter_image(road, club, image_of(road, released, 'twin'), folder))
    road.timed('twin below the gate has driven', wait, lambda: state_of(club, digest), 900, 1)
    return digest


def release_command(club, *words):
    "A command of a release on somebody's machine."
    words = ['edgecar', 'release', *words, '--registry', f'{HUB}/club/edgecar', '--git', GIT, '--ca',
             club.road.folder/'hub.crt', '--key', club.keys/'edgecar.pub', '--gate-key',
             club.keys/'edgecar-gate.pub']
    return club.road.run('env', '-C', club.folder, *words, env=club.env)


def test_below_the_gate_the_sync_fails_and_the_car_is_untouched(road, club, released, below_the_gate):
    assert state_of(club, below_the_gate) == 'Failed'
    hooks = [r for r in club.application('twin')['operationState']['syncResult']['resources']
             if r.get('hookType')]
    assert [(r['hookType'], r['hookPhase']) for r in hooks] == [('PostSync', 'Failed')]
    digest = results(road, released)['car_IMAGE_DIGEST']
    refused = release_command(club, 'promote', 'car', '--to', digest)
    assert refused.returncode == 1 and 'the twin has not proved' in refused.stdout + refused.stderr
    assert pin(club, 'car') == digest
    found = road.object('-n', 'car', 'deployment', 'edgecar-car')['spec']['template']['spec']
    assert found['containers'][0]['image'] == image_of(road, released, 'car')


def test_a_roll_back_brings_the_twin_that_drove(road, club, released, below_the_gate):
    done = release_command(club, 'rollback', 'twin')
    assert done.returncode == 0, done.stdout + done.stderr
    digest = results(road, released)['twin_IMAGE_DIGEST']
    assert pin(club, 'twin') == digest
    road.timed('rolled back, and has driven', wait, lambda: state_of(club, digest), 900, 1)
    assert state_of(club, digest) == 'Succeeded'


def test_a_broken_gate_signs_nothing(road, club, released):
    "The same pilot, under a bound that it breaks: the run ends where it drives, and keeps its notebooks."
    replace_in(club.folder/'settings.ini', ('version = 0.1.0', 'version = 0.1.1'))
    replace_in(club.folder/'params.yaml', ('cte_p95_m: 0.1 ', 'cte_p95_m: 0.01 '))
    run(club.folder, 'git', 'commit', '-q', '-a', '-m', 'Ask for more than the pilot can')
    tagged, condition = road.timed('tag to the end of a run below the gate', release, club, 'v0.1.1')
    assert condition['status'] == 'False'
    found = tasks(road, tagged)
    assert 'build-twin' not in found and 'promote-twin' not in found
    failed = [n for n, t in found.items() if t['status']['conditions'][0]['status'] == 'False']
    assert failed == ['evaluate'] and 'keep-notebooks' in found
    assert 'cte_p95_m' in log_of(road, tagged, 'evaluate')
    for target in ('twin', 'car'):
        tags = run(club.folder, 'find', f'{road.folder}/hub', '-path', f'*edgecar-{target}/_manifests/tags/*',
                   '-prune', '-printf', '%f\n').split()
        assert VERSION in tags and 'v0.1.1' not in tags
        assert pin(club, target) == results(road, released)[f'{target}_IMAGE_DIGEST']
