"""Does deploy/ run on a real control plane? etcd, API server, controllers, scheduler and kubelet of this
machine take the overlays, and pods drive. `make test-cluster` runs it, and prints the seconds of each step.

Not covered: the bridge that carries the pods' packets knows no NetworkPolicy. `test_road.py` has the way that
a release takes to these overlays."""
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgecar.release import image
from support.cluster import (
    NODE, REGISTRY, Cluster, build_parts, crds, program_image, what_is_lacking
)
from support.waiting import wait

ROOT = Path(__file__).parents[1]
CONTROL = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl']
RUNS_PODS = ['kubelet', 'containerd', 'containerd-shim-runc-v2']
SOME = f'{REGISTRY}/club/edgecar-twin@sha256:{"5eed" * 16}'   # for what asks the API server alone
# the first build compiles Kubernetes: a quarter of an hour of two cores
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope='module')
def cluster(request, tmp_path_factory):
    "The cluster, with the definitions of others' resources; at its end it tells the seconds of each step."
    if lacking := what_is_lacking():
        pytest.fail(lacking)
    with Cluster(tmp_path_factory.mktemp('cluster')/'here', build_parts(*CONTROL)) as cluster:
        cluster.timed('definitions', cluster.kubectl, 'create', *[f'--filename={file}' for file in crds()])
        cluster.kubectl('wait', '--for=condition=Established', 'crd', '--all')
        yield cluster
        cluster.tell_times(request.config)


@pytest.fixture(scope='module')
def node(cluster):
    "The cluster, with a node that runs pods."
    build_parts(*RUNS_PODS)
    cluster.timed('node', cluster.start_node)
    return cluster


@pytest.fixture(scope='module')
def namespace(cluster):
    "Where it all runs, as deploy/README.md sets it up."
    cluster.apply(yaml.safe_load((ROOT/'deploy/base/namespace.yaml').read_text()))
    cluster.kubectl('-n', 'edgecar', 'create', 'secret', 'generic', 'edgecar-page',
                    f'--from-literal=token={"5eed" * 8}')   # what `openssl rand -hex 16` prints
    return 'edgecar'


@pytest.fixture(scope='module')
def twin(cluster, tmp_path_factory):
    "The twin's image, built here and pushed to the registry of the cluster: its name by digest."
    if not (ROOT/'build/bundle/twin').is_dir():
        pytest.fail('there is nothing to make an image of -> make repro')
    layout = cluster.timed('build the twin', image.build_image, 'twin', ROOT,
                           tmp_path_factory.mktemp('image')/'twin')
    return cluster.timed('push the twin', cluster.push, f'oci:{layout}:edgecar', 'club/edgecar-twin:v0')


def overlay(folder, name, reference):
    "What an overlay says after `edgecar release promote`, as documents."
    shutil.copytree(ROOT/'deploy', folder/'deploy')
    repository, digest = reference.split('@')
    kind = repository.rpartition('-')[2]
    for file in (folder/'deploy/overlays').glob('*/kustomization.yaml'):
        file.write_text(file.read_text().replace('digest: undeployed', f'digest: {digest}').replace(
            f'newName: registry.example.org/club/edgecar-{kind}', f'newName: {repository}'))
    tool = subprocess.run([ROOT/'scripts/kustomize'], capture_output=True, text=True, check=True)
    done = subprocess.run([tool.stdout.strip(), 'build', folder/'deploy/overlays'/name], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def is_hook(document):
    return 'argocd.argoproj.io/hook' in document['metadata'].get('annotations', {})


@pytest.fixture(scope='module')
def deployed(node, namespace, twin, tmp_path_factory):
    "The twin, running; its Job after a sync, not yet applied."
    documents = overlay(tmp_path_factory.mktemp('overlay'), 'twin-kubernetes', twin)
    node.timed('apply the twin', node.apply, *[d for d in documents if not is_hook(d)])
    ready = ['-n', namespace, 'rollout', 'status', 'deployment/edgecar-twin', '--timeout=240s']
    node.timed('twin is ready', node.kubectl, *ready)
    return next(d for d in documents if is_hook(d))


def pods(cluster, component='driver'):
    return cluster.object('-n', 'edgecar', 'pods', '-l', f'app.kubernetes.io/component={component}')['items']


def test_the_twin_runs_from_the_image_that_was_built_here(cluster, deployed, twin):
    pod, = pods(cluster)
    states = pod['status']['containerStatuses'] + pod['status']['initContainerStatuses']
    assert {s['name'] for s in states if s['ready']} == {'driver', 'simulator'}
    assert {s['imageID'] for s in states} == {twin}
    mounts = [m['mountPath'] for c in pod['spec']['containers'] for m in c['volumeMounts']]
    assert not [m for m in mounts if 'serviceaccount' in m], 'a pod that could ask the API server'


def test_the_job_after_a_sync_drives_and_keeps_the_gate(cluster, deployed):
    cluster.apply(deployed)
    name = f'job/{deployed["metadata"]["name"]}'
    cluster.timed('proof drives', cluster.kubectl, '-n', 'edgecar', 'wait', name, '--timeout=600s',
                  '--for=condition=Complete')
    said = cluster.kubectl('-n', 'edgecar', 'logs', name)
    assert len(re.findall('kept$', said, re.MULTILINE)) >= 8 and re.search(r'^drove \d', said, re.MULTILINE)


def may(cluster, who, *what):
    done = cluster.kubectl('auth', 'can-i', *what, f'--as=system:serviceaccount:{who}', ok=False)
    return done.stdout.strip()


@pytest.mark.parametrize('what', ['get secrets', 'create pods', 'patch deployments',
                                  'get pods --subresource=log'])
def test_what_drives_may_do_nothing_in_the_cluster(cluster, namespace, what):
    assert may(cluster, 'edgecar:default', *what.split(), '-n', 'edgecar') == 'no'


def test_a_release_has_the_account_that_its_page_makes_and_no_rights(cluster):
    page = (ROOT/'.tekton/README.md').read_text()
    lines = re.findall(r'^    kubectl (.* serviceaccount edgecar-release.*)$', page, re.MULTILINE)
    assert lines, 'the page does not say how'
    for line in lines:
        cluster.kubectl(*shlex.split(line))
    run = yaml.safe_load((ROOT/'.tekton/release.yaml').read_text())
    account = cluster.object('serviceaccount', run['spec']['taskRunTemplate']['serviceAccountName'])
    registry = next(w['secret'] for w in run['spec']['workspaces'] if w['name'] == 'registry')
    assert {'name': registry['secretName']} in account['imagePullSecrets']
    assert may(cluster, 'default:edgecar-release', 'create', 'pods') == 'no'
    assert may(cluster, 'default:edgecar-release', 'get', 'secrets') == 'no'


def test_the_router_reads_its_certificate_and_no_other_secret(cluster, namespace, tmp_path):
    documents = overlay(tmp_path, 'twin', SOME)
    cluster.apply(*[d for d in documents if d['kind'] in ('Route', 'Role', 'RoleBinding')])
    router = 'openshift-ingress:router'
    binding = next(d for d in documents if d['kind'] == 'RoleBinding')
    role = next(d for d in documents if d['kind'] == 'Role')
    secret, = role['rules'][0]['resourceNames']
    assert binding['roleRef']['name'] == role['metadata']['name']
    assert may(cluster, router, 'get', f'secrets/{secret}', '-n', 'edgecar') == 'yes'
    assert may(cluster, router, 'get', 'secrets/edgecar-page', '-n', 'edgecar') == 'no'
    assert may(cluster, router, 'list', 'secrets', '-n', 'default') == 'no'


@pytest.mark.parametrize('name', ['twin', 'twin-kubernetes', 'car'])
def test_an_api_server_takes_what_is_promoted_and_no_field_is_unknown(cluster, namespace, tmp_path, name):
    documents = overlay(tmp_path, name, SOME.replace('edgecar-twin', f'edgecar-{name.split("-")[0]}'))
    apart = yaml.safe_load((ROOT/'deploy/base/namespace.yaml').read_text())
    apart['metadata']['name'] = 'apart'   # beside what runs, whose port and Job are taken
    cluster.apply(apart)
    text = yaml.safe_dump_all(documents).replace('namespace: edgecar\n', 'namespace: apart\n')
    text = text.replace('nodePort: 30887', 'nodePort: 30888')
    ask = ['apply', '--dry-run=server', '--validate=strict', '-f', '-']
    said = cluster.kubectl(*ask, input=text)
    assert len(said.splitlines()) == len(documents)
    broken = text.replace('terminationGracePeriodSeconds', 'terminationGrace')
    refused = cluster.kubectl(*ask, ok=False, input=broken)
    assert refused.returncode and 'unknown field' in refused.stderr


def a_pod(name, image, **security):
    return dict(apiVersion='v1', kind='Pod', metadata=dict(name=name), spec=dict(
        automountServiceAccountToken=False, terminationGracePeriodSeconds=0,
        containers=[dict(name='one', image=image, securityContext=security)]))


def test_a_pod_that_asks_for_more_is_refused(cluster, namespace):
    done = cluster.kubectl('-n', 'edgecar', 'create', '-f', '-', ok=False,
                           input=yaml.safe_dump(a_pod('greedy', SOME, privileged=True)))
    assert done.returncode and 'violates PodSecurity "restricted' in done.stderr


def waiting(cluster, name):
    "Why a pod of the default namespace waits; None while nobody knows, or when it runs."
    found = cluster.object('pod', name)['status'].get('containerStatuses', [])
    return found[0]['state'].get('waiting', {}).get('reason') if found else None


def running(cluster, name):
    return cluster.object('pod', name)['status']['phase'] == 'Running'


def test_what_nobody_promoted_starts_nowhere(node):
    node.apply(a_pod('undeployed', f'{REGISTRY}/club/edgecar-twin@undeployed'))
    wait(lambda: waiting(node, 'undeployed') == 'InvalidImageName', 60, pause=.2)


def test_a_registry_that_is_gone_stops_what_is_new_until_it_is_back(node, tmp_path):
    file = program_image(tmp_path/'other.tar', node.folder/'pause', '/other')
    name = node.push(f'docker-archive:{file}', 'club/other:1')
    node.stop('registry')
    try:
        node.apply(a_pod('new', name))
        wait(lambda: waiting(node, 'new') in ('ErrImagePull', 'ImagePullBackOff'), 60, pause=.2)
    finally:
        node.start_server_of_images()
    wait(lambda: running(node, 'new'), 120, pause=.2)


def test_a_digest_that_the_registry_does_not_hold_is_not_replaced_by_a_tag(node):
    node.apply(a_pod('foreign', f'{REGISTRY}/pause:1@sha256:{"5eed" * 16}'))
    wait(lambda: waiting(node, 'foreign') in ('ErrImagePull', 'ImagePullBackOff'), 60, pause=.2)


def test_no_packet_leaves_the_room(node):
    assert 'default' not in node.run('ip', 'route').stdout
    assert ':6443' not in subprocess.run(['ss', '-ltn'], capture_output=True, text=True).stdout
    assert node.object('node', NODE)['status']['addresses'][0]['address'] == NODE


CRASH = """
import sys, time
from support.cluster import Room, child
from support.waiting import wait
room = Room(sys.argv[1])
room.start('sleeper', 'sleep', '1000')
enter = room.running['sleeper'].pid
wait(lambda: child(enter))
print(room.first, child(enter), flush=True)
time.sleep(1000)
"""


def test_nothing_runs_on_after_a_crash(tmp_path):
    env = os.environ | dict(PYTHONPATH=str(ROOT/'tests'))
    with subprocess.Popen([sys.executable, '-c', CRASH, tmp_path/'room'], stdout=subprocess.PIPE, text=True,
                          env=env) as process:
        alive = [*map(int, process.stdout.readline().split())]
        assert all(Path(f'/proc/{pid}').exists() for pid in alive)
        process.send_signal(signal.SIGKILL)
    wait(lambda: not any(Path(f'/proc/{pid}').exists() for pid in alive), 20)
