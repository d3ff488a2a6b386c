"""Tekton's own Go types take every document in .tekton/, and refuse each of these mistakes."""
import os, shutil, subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# the first build compiles Tekton: 3 minutes on 2 cores
pytestmark = [pytest.mark.platform, pytest.mark.timeout(1500)]


@pytest.fixture(scope='module')
def tekton():
    "The checker in tests/tekton, built; what it imports is pinned by go.mod and go.sum."
    if not shutil.which('go'):
        pytest.fail("Go is not on PATH, and Tekton's types are Go -> install Go 1.26 or newer, "
                    "or leave `make test-platform` to CI")
    built = subprocess.run([ROOT/'scripts/platform', 'tekton'], text=True, capture_output=True)
    if built.returncode:
        pytest.fail(built.stderr)

    def check(folder):
        return subprocess.run([built.stdout.strip(), folder], text=True, capture_output=True)

    return check


def test_a_cluster_would_take_what_is_here(tekton):
    done = tekton(ROOT/'.tekton')
    assert done.returncode == 0, done.stdout + done.stderr
    files = len(list((ROOT/'.tekton').rglob('*.yaml')))
    assert sum(int(word) for word in done.stdout.split() if word.isdigit()) == files, (
        'a document was passed over')


RUN, STAGE, RELEASE = 'pull-request.yaml', 'tasks/run-stage.yaml', 'release.yaml'
BUILD = 'tasks/build-image.yaml'
MISTAKES = {
    'typo in pipelineSpec': (RUN, 'runAfter:', 'runAfterwards:', 'unknown field "runAfterwards"'),
    'typo in a pod template': (RUN, 'automountServiceAccountToken', 'automountToken', 'unknown field'),
    'a field twice': (RUN, 'retries: 2\n', 'retries: 2\n        retries: 3\n', 'already set'),
    'a param nobody declares': (RUN, 'value: $(params.revision)', 'value: $(params.commit)',
                                'non-existent variable'),
    'a declared param nobody gives': (RUN, '- {name: url, value: "{{ repo_url }}"}', '',
                                      'missing parameters: [url]'),
    'a param the task lacks': (RUN, ', {name: stage, value: prepare}', '', 'missing values for these params'),
    'a word where a list is wanted': (RUN, '[make, test]', 'make test', "param types don't match"),
    'a cycle': (RUN, 'runAfter: [fetch]', 'runAfter: [evaluate]', 'cycle detected'),
    'a task after none': (RUN, 'runAfter: [fetch]', 'runAfter: [fetsh]', "fetsh wasn't present"),
    'a name twice': (RUN, '- name: test\n', '- name: fetch\n', 'expected exactly one'),
    'a Task that is not there': (RUN, 'taskRef: {name: run-stage}', 'taskRef: {name: run-stages}',
                                 'names no Task'),
    'a workspace nobody declares': (RUN, 'workspaces: [{name: source}]',
                                    'workspaces: [{name: source, workspace: sauce}]',
                                    'expects workspace with name "sauce"'),
    'a workspace left out': (RUN, 'workspaces: [{name: source}]', 'workspaces: []',
                             'required but has not been bound'),
    'two volumes in one task': (RUN, '{name: basic-auth, secret: {secretName: "{{ git_auth_secret }}"}}',
                                '{name: basic-auth, persistentVolumeClaim: {claimName: other}}',
                                'more than one PersistentVolumeClaim'),
    'a time that is none': (RUN, 'timeout: 10m0s', 'timeout: ten minutes', 'invalid duration'),
    'tasks longer than the pipeline': (RUN, 'tasks: 2h45m0s', 'tasks: 4h0m0s',
                                       'should be <= pipeline duration'),
    'settings of a task that is not there': (RUN, 'pipelineTaskName: train', 'pipelineTaskName: trian',
                                             '"trian"'),
    'a status outside finally': (RUN, 'value: prepare', 'value: $(tasks.fetch.status)',
                                 'can not refer to execution status'),
    'typo in a step': (STAGE, 'securityContext:', 'securityContexts:', 'unknown field "securityContexts"'),
    'a param the Task does not declare': (STAGE, '$(params.stage)', '$(params.step)',
                                          'non-existent variable'),
    'a word for a number': (STAGE, 'memory: 2Gi', 'memory: plenty', 'quantities must match'),
    'a digest of a task that is not there': (RELEASE, 'tasks.build-car.results.IMAGE_DIGEST',
                                             'tasks.build-bus.results.IMAGE_DIGEST', 'build-bus'),
    'a result that no task gives': (BUILD, 'name: IMAGE_DIGEST, description', 'name: DIGEST, description',
                                    'IMAGE_DIGEST'),
    'a car before its image': (RELEASE, 'runAfter: [check-pins]\n        retries: 1\n        timeout: 30m0s\n'
                               '        taskRef: {name: build-image}\n        params:\n'
                               '          - {name: image, value: $(params.image)}\n'
                               '          - {name: target, value: car}',
                               'runAfter: [promote-car]\n        timeout: 30m0s\n'
                               '        taskRef: {name: build-image}\n        params:\n'
                               '          - {name: image, value: $(params.image)}\n'
                               '          - {name: target, value: car}', 'cycle detected'),
    'keys that no run binds': (RELEASE, '    - {name: keys, secret: {secretName: edgecar-release-keys}}\n',
                               '', 'keys'),
    'a guard that is misspelt': (RUN, 'operator: in', 'operator: is', 'operator "is"'),
    'a guard of a param that is not there': (RUN, 'input: $(params.source_url)', 'input: $(params.origin)',
                                             'non-existent variable'),
    'an older API': (STAGE, 'tekton.dev/v1', 'tekton.dev/v1beta1', 'neither a Task nor'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_cluster_would_refuse(tekton, tmp_path, mistake):
    file, right, wrong, says = MISTAKES[mistake]
    shutil.copytree(ROOT/'.tekton', tmp_path/'.tekton')
    text = (tmp_path/'.tekton'/file).read_text()
    assert right in text
    (tmp_path/'.tekton'/file).write_text(text.replace(right, wrong, 1))
    done = tekton(tmp_path/'.tekton')
    assert done.returncode == 1 and says in done.stdout, done.stdout + done.stderr


def test_without_go_it_says_what_to_do(tmp_path):
    done = subprocess.run([ROOT/'.venv/bin/python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k',
                           'take_what_is_here', __file__],
                          env={**os.environ, 'PATH': str(tmp_path)}, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 1 and 'install Go 1.26' in done.stdout
