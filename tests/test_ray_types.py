"""Would KubeRay and Kueue take deploy/ray/? Their own Go types and KubeRay's own validation say; each broken
copy is refused. `make test-scale` runs it."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from edgecar.submit import pod_specs, ray_job

ROOT = Path(__file__).parents[1]
FOLDER = ROOT/'deploy/ray'
IMAGE = 'registry.example.org/club/edgecar-scale@sha256:' + '5eed'*16
NO_GO = not shutil.which('go', path=os.environ['PATH'] + ':/usr/local/go/bin') and not os.environ.get('CI')
# the first build compiles KubeRay's types and its validation
pytestmark = [pytest.mark.scale, pytest.mark.timeout(1200), pytest.mark.skipif(NO_GO, reason='Go builds it')]


@pytest.fixture(scope='session')
def checker():
    "The checker, built."
    done = subprocess.run([ROOT/'scripts/platform', 'ray'], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout.strip()


def check(checker, file):
    "What the checker says."
    done = subprocess.run([checker, file], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def deployed(file, tmp_path):
    "A copy of a file whose image is named."
    (tmp_path/file).write_text((FOLDER/file).read_text().replace('edgecar/scale@undeployed', IMAGE))
    return tmp_path/file


@pytest.mark.parametrize('file, documents', [('job.yaml', 1), ('cluster.yaml', 1), ('queue.yaml', 3)])
def test_they_take_what_is_deployed(checker, tmp_path, file, documents):
    code, said = check(checker, deployed(file, tmp_path))
    assert code == 0 and f'{documents} documents, 0 faults' in said, said


def test_what_nobody_named_an_image_for_is_refused(checker):
    code, said = check(checker, FOLDER/'job.yaml')
    assert code == 1 and said.count('edgecar/scale@undeployed is not named by a digest') == 3


def test_they_take_what_submit_makes(checker, tmp_path):
    template = yaml.safe_load((FOLDER/'job.yaml').read_text())
    made = ray_job(template, ['edgecar', 'evaluate', 'a pilot.tflite', '--to', '/results'], IMAGE, 16)
    (tmp_path/'job.yaml').write_text(yaml.safe_dump(made))
    code, said = check(checker, tmp_path/'job.yaml')
    assert code == 0, said
    assert made['spec']['rayClusterSpec']['workerGroupSpecs'][0]['maxReplicas'] == 16


def test_job_and_cluster_have_the_same_nodes():
    job, cluster = (yaml.safe_load((FOLDER/f'{name}.yaml').read_text()) for name in ('job', 'cluster'))
    assert job['spec']['rayClusterSpec'] == cluster['spec'] and len(pod_specs(job)) == 3


def test_the_queue_holds_the_default_job():
    job = yaml.safe_load((FOLDER/'job.yaml').read_text())
    queues = {d['kind']: d for d in yaml.safe_load_all((FOLDER/'queue.yaml').read_text())}
    queue, local = queues['ClusterQueue'], queues['LocalQueue']
    assert job['metadata']['labels']['kueue.x-k8s.io/queue-name'] == local['metadata']['name']
    assert job['metadata']['namespace'] == local['metadata']['namespace']
    assert local['spec']['clusterQueue'] == queue['metadata']['name']


JOB, CLUSTER, QUEUE = 'job.yaml', 'cluster.yaml', 'queue.yaml'
BROKEN = {   # what, file, right, wrong, what is said
    'a typo': (JOB, 'shutdownAfterJobFinishes', 'shutdownAfterJobFinish', 'unknown field'),
    'a cluster that stays': (JOB, 'shutdownAfterJobFinishes: true',
                             'shutdownAfterJobFinishes: false', 'outlive its job|TTLSecondsAfterFinished'),
    'no time to live': (JOB, 'ttlSecondsAfterFinished: 600',
                        'ttlSecondsAfterFinished: 0', 'outlive its job'),
    'a time to live of nothing': (JOB, 'ttlSecondsAfterFinished: 600',
                                  'ttlSecondsAfterFinished: -6', 'non-negative'),
    'a deadline of nothing': (JOB, 'activeDeadlineSeconds: 43200',
                              'activeDeadlineSeconds: 0', 'activeDeadlineSeconds must be a positive'),
    'packages at the start': (JOB, '  shutdownAfter',
                              '  runtimeEnvYAML: "pip: [numpy]"\n  shutdownAfter',
                              'what the image does not pin'),
    'an environment that is none': (JOB, '  shutdownAfter',
                                    '  runtimeEnvYAML: "pip: ["\n  shutdownAfter', 'runtime'),
    'no nodes': (JOB, 'rayClusterSpec:', 'rayClusterSpecs:', 'unknown field'),
    'a name too long': (JOB, 'name: edgecar\n', 'name: ' + 'edgecar'*9 + '\n', 'no more than'),
    'a name with capitals': (CLUSTER, 'name: edgecar\n', 'name: Edgecar\n', 'DNS1035'),
    'nobody asks for a token': (CLUSTER, 'mode: token', 'mode: disabled', 'could run code'),
    'a word for a number': (CLUSTER, 'replicas: 2\n', 'replicas: two\n', 'cannot unmarshal'),
    'cores twice': (CLUSTER, 'rayStartParams: {num-cpus: "0"}',
                    'rayStartParams: {num-cpus: "0"}\n    resources: {CPU: "0"}', 'please use only one'),
    'labels where KubeRay has its own': (CLUSTER, '{num-cpus: "0"}',
                                         '{num-cpus: "0", labels: "a=b"}', 'is not supported'),
    'root allowed': (JOB, 'runAsNonRoot: true', 'runAsNonRoot: false', 'runAsNonRoot'),
    'capabilities kept': (JOB, 'drop: [ALL]', 'add: [SYS_ADMIN]', 'capabilities'),
    'a folder of the host': (CLUSTER, 'emptyDir: {sizeLimit: 8Gi}', 'hostPath: {path: /dev}', 'hostPath'),
    'the token of an account': (JOB, 'automountServiceAccountToken: false',
                                'automountServiceAccountToken: true', "account's token is mounted"),
    'requests above limits': (CLUSTER, 'memory: 2Gi', 'memory: 20Gi', 'no memory request within a limit'),
    'no limit': (CLUSTER, 'limits: {cpu: "2", memory: 4Gi,', 'limits: {cpu: "2",', 'no memory request'),
    'an image by tag': (JOB, IMAGE, 'edgecar/scale:v1', 'not named by a digest'),
    'a quota with a typo': (QUEUE, 'nominalQuota', 'nominalQuote', 'unknown field'),
    'a quota of a word': (QUEUE, 'nominalQuota: 72Gi', 'nominalQuota: plenty', 'quantities must match'),
}


@pytest.mark.parametrize('mistake', BROKEN)
def test_they_refuse(checker, tmp_path, mistake):
    file, right, wrong, says = BROKEN[mistake]
    path = deployed(file, tmp_path)
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, 1))
    code, said = check(checker, path)
    assert code == 1 and re.search(says, said), said
