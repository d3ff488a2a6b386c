"""What would a cluster say? Kubernetes' own validation, the Pod Security standard and the CRDs of others, for
every overlay; each broken copy is refused. `make test-platform` runs it."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT/'deploy'
OVERLAYS = sorted(str(p.parent.relative_to(DEPLOY)) for folder in ('overlays', 'fleet/rings', 'microshift')
                  for p in (DEPLOY/folder).glob('*/kustomization.yaml'))
ALONE = sorted(str(p.relative_to(DEPLOY)) for p in [*(DEPLOY/'argocd').glob('*.yaml'),
                                                    DEPLOY/'policy/cluster-image-policy.yaml',
                                                    DEPLOY/'ray/namespace.yaml'])
PLACEHOLDER, DIGEST = 'undeployed', 'sha256:' + '5eed'*16
# the first build compiles Kubernetes' validation: two minutes of two cores
pytestmark = [pytest.mark.platform, pytest.mark.timeout(1200)]


@pytest.fixture(scope='session')
def tools():
    "kustomize and the checker, built."
    found = {}
    for name in ('kustomize', 'platform'):
        done = subprocess.run([ROOT/f'scripts/{name}'], capture_output=True, text=True)
        if done.returncode:
            pytest.fail(done.stderr)
        found[name] = done.stdout.strip()
    return found


def build(tools, folder):
    "What kustomize makes of an overlay."
    done = subprocess.run([tools['kustomize'], 'build', folder], capture_output=True, text=True)
    return done.returncode, done.stdout or done.stderr


def check(tools, file, *options):
    "What the checker says."
    env = os.environ | dict(PATH=os.environ['PATH'] + ':/usr/local/go/bin')
    done = subprocess.run([tools['platform'], *options, file], capture_output=True, text=True, env=env,
                          cwd=ROOT/'tests/platform')
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_a_cluster_takes_what_is_promoted(tools, tmp_path, overlay):
    shutil.copytree(DEPLOY, tmp_path/'deploy')
    for file in (tmp_path/'deploy').rglob('kustomization.yaml'):
        file.write_text(file.read_text().replace(f'digest: {PLACEHOLDER}', f'digest: {DIGEST}'))
    code, text = build(tools, tmp_path/'deploy'/overlay)
    assert code == 0, text
    (tmp_path/'all.yaml').write_text(text)
    code, said = check(tools, tmp_path/'all.yaml')
    assert code == 0, said
    documents = [d for d in yaml.safe_load_all(text) if d]
    assert f'{len(documents)} documents' in said, 'a document was passed over'
    for word in ('hostPath', 'privileged', 'hostNetwork', 'hostPID'):
        assert word not in re.sub('"[^"]*"|#.*', '', text), word
    assert f'@{DIGEST}' in text and ':latest' not in text


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_what_nobody_promoted_is_refused(tools, tmp_path, overlay):
    (tmp_path/'all.yaml').write_text(build(tools, DEPLOY/overlay)[1])
    code, said = check(tools, tmp_path/'all.yaml')
    if f'@{PLACEHOLDER}' in (tmp_path/'all.yaml').read_text():
        assert code == 1 and 'is undeployed' in said
    code, said = check(tools, tmp_path/'all.yaml', '-undeployed')
    assert code == 0, said


@pytest.mark.parametrize('file', ALONE)
def test_a_cluster_takes_the_other_files(tools, file):
    code, said = check(tools, DEPLOY/file)
    assert code == 0, said


def test_an_application_stands_on_what_is_there():
    for file in (DEPLOY/'argocd').glob('*.yaml'):
        spec = yaml.safe_load(file.read_text())['spec']
        if 'source' in spec:
            assert (ROOT/spec['source']['path']/'kustomization.yaml').is_file(), file
            assert spec['syncPolicy']['retry']['limit'] == 0 and spec['syncPolicy']['automated']['selfHeal']


def test_a_project_allows_the_kinds_that_are_deployed_and_no_more(tools):
    project = yaml.safe_load((DEPLOY/'argocd/project.yaml').read_text())['spec']
    allowed = {(k['group'], k['kind']) for key in ('clusterResourceWhitelist', 'namespaceResourceWhitelist')
               for k in project[key]}
    used = set()
    for overlay in OVERLAYS:
        for document in yaml.safe_load_all(build(tools, DEPLOY/overlay)[1]):
            used.add((document['apiVersion'].rpartition('/')[0], document['kind']))
    assert used == allowed


BASE = 'base/deployment.yaml'
TWIN, CAR = (f'overlays/{name}/kustomization.yaml' for name in ('twin', 'car'))
ROUTE, RULES = 'components/route/route.yaml', 'components/monitoring/alerts.yaml'
BROKEN = {   # what, file, right, wrong, what is said
    'a field that is not there': (BASE, 'revisionHistoryLimit', 'revisionHistoryLimits', 'unknown field'),
    'a field twice': (BASE, 'replicas: 1', 'replicas: 1\n  replicas: 2', 'already (defined|set)'),
    'a word for a number': (BASE, 'memory: 512Mi', 'memory: plenty', 'quantities must match'),
    'requests above limits': (BASE, 'memory: 320Mi', 'memory: 640Mi', 'must be less than or equal to memory'),
    'a port that is none': (BASE, 'containerPort: 8887', 'containerPort: 88870', 'must be between'),
    'a volume that is not there': (BASE, 'name: tubs, mountPath', 'name: tub, mountPath', 'Not found: "tub"'),
    'a selector of nothing': (BASE, 'labels: {app.kubernetes.io/name: edgecar,', 'labels: {app: edgecar,',
                              'selector|does not match'),
    'root allowed': (BASE, 'runAsNonRoot: true', 'runAsNonRoot: false', 'runAsNonRoot'),
    'capabilities kept': (BASE, 'drop: [ALL]', 'add: [SYS_ADMIN]', 'capabilities'),
    'no seccomp': (BASE, 'type: RuntimeDefault', 'type: Unconfined', 'seccomp'),
    'privileged': (BASE, 'allowPrivilegeEscalation: false', 'privileged: true', 'privileged'),
    'a folder of the host': (BASE, 'emptyDir: {sizeLimit: 64Mi}', 'hostPath: {path: /dev}', 'hostPath'),
    'an image by tag': (TWIN, 'digest: undeployed', 'newTag: v1.0.0', 'not named by a digest'),
    'a digest of zeros': (TWIN, 'digest: undeployed', f'digest: sha256:{"0"*64}', 'not named by a digest'),
    'a short digest': (CAR, 'digest: undeployed', 'digest: sha256:5eed', 'not named by a digest'),
    'a Route without its end': (ROUTE, 'termination: edge', 'termination: middle', 'Unsupported value'),
    'a Route with a typo': (ROUTE, 'insecureEdgeTerminationPolicy', 'insecureEdgePolicy', 'unknown field'),
    'an alert without a query': (RULES, 'expr: up{', 'expression: up{', 'unknown field|Required value'),
    'a time that is none': (RULES, 'for: 1m', 'for: a minute', 'should match'),
    'a typo for Prometheus': ('components/monitoring/service-monitor.yaml', 'scrapeTimeout', 'timeout',
                              'unknown field'),
    'a policy to no port': ('base/network-policy.yaml', 'port: page', 'port: 99999', 'must be between'),
    'a quota of nothing': ('base/quota.yaml', 'pods: "4"', 'pods: "-4"', 'greater than or equal to 0'),
    'a role that may do all': (ROUTE, 'verbs: [get, list, watch]', 'verbs: []', 'at least one'),
}


@pytest.mark.parametrize('mistake', BROKEN)
def test_a_cluster_refuses(tools, tmp_path, mistake):
    file, right, wrong, says = BROKEN[mistake]
    shutil.copytree(DEPLOY, tmp_path/'deploy')
    text = (tmp_path/'deploy'/file).read_text()
    assert right in text
    (tmp_path/'deploy'/file).write_text(text.replace(right, wrong, 1))
    said = ''
    for overlay in ('overlays/twin', 'overlays/car'):
        code, text = build(tools, tmp_path/'deploy'/overlay)
        if code == 0:
            (tmp_path/'all.yaml').write_text(text)
            text = check(tools, tmp_path/'all.yaml', '-undeployed')[1]
        said += text
    assert re.search(says, said), said


LOOSE = {   # what, file, right, wrong, what is said
    'an Application with a typo': ('argocd/car.yaml', 'selfHeal', 'selfHeals', 'unknown field'),
    'an Application without a project': ('argocd/car.yaml', '  project: edgecar\n', '', 'spec.project'),
    'a policy with a typo': ('policy/cluster-image-policy.yaml', 'authorities', 'authority', 'unknown field'),
    'a policy of a word for a list': ('policy/cluster-image-policy.yaml',
                                      'images: [{glob: "registry.example.org/club/edgecar-**"}]',
                                      'images: all', 'must be of type array'),
}


@pytest.mark.parametrize('mistake', LOOSE)
def test_a_cluster_refuses_a_loose_file(tools, tmp_path, mistake):
    file, right, wrong, says = LOOSE[mistake]
    text = (DEPLOY/file).read_text()
    assert right in text
    (tmp_path/'it.yaml').write_text(text.replace(right, wrong, 1))
    code, said = check(tools, tmp_path/'it.yaml')
    assert code == 1 and re.search(says, said), said
