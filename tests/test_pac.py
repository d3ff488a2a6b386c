"""What does an event start? Pipelines-as-Code itself reads .tekton/, as it does for a webhook; each broken
copy starts nothing, or is refused. `make test-platform` runs it."""
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# the first build compiles Pipelines-as-Code: two minutes of two cores
pytestmark = [pytest.mark.platform, pytest.mark.timeout(1500)]
TAG = '-event=push', '-branch=refs/tags/v1.2.3'
CHANGE = '-event=pull_request', '-branch=main'


def built(name):
    "The path of a checker, which Go builds."
    done = subprocess.run([ROOT/'scripts/platform', name], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout.strip()


@pytest.fixture(scope='module')
def pac():
    program = built('pac')

    def ask(*event, folder=ROOT/'.tekton'):
        done = subprocess.run([program, *event, folder], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return ask


def started(said):
    "The runs in an answer: name -> PipelineRun."
    return {run['metadata']['generateName']: run for run in yaml.safe_load_all(said) if run}


def params(run):
    return {p['name']: p['value'] for p in run['spec']['params']}


def test_a_tag_starts_a_release_and_nothing_else(pac):
    code, said = pac(*TAG)
    assert code == 0, said
    assert list(started(said)) == ['edgecar-release-']
    assert params(started(said)['edgecar-release-'])['git_tag'] == 'v1.2.3'


def test_a_pull_request_starts_its_own_run_and_nothing_else(pac):
    code, said = pac(*CHANGE)
    assert code == 0, said
    given = params(*[started(said)['edgecar-pull-request-']])
    assert list(started(said)) == ['edgecar-pull-request-'] and given['base'] == 'main'
    assert given['source_url'] == given['url'], 'from the project: its outputs may be pushed'


def test_a_fork_is_told_from_the_project(pac):
    code, said = pac(*CHANGE, '-fork=https://git.example/stranger/edgecar')
    given = params(started(said)['edgecar-pull-request-'])
    assert code == 0 and given['source_url'] != given['url']


@pytest.mark.parametrize('event', [('-event=push', '-branch=refs/heads/main'),
                                   ('-event=push', '-branch=refs/heads/v1.2.3'),
                                   ('-event=push', '-branch=refs/tags/nightly'),
                                   ('-event=pull_request', '-branch=other'),
                                   ('-event=pull_request', '-branch=refs/tags/v1.2.3')])
def test_nothing_else_starts_anything(pac, event):
    code, said = pac(*event)
    assert code == 1 and 'no match' in said.lower() or 'available annotations' in said, said


@pytest.mark.parametrize('event', [TAG, CHANGE])
def test_a_cluster_takes_what_was_started(pac, tmp_path, event):
    "Every Task is in line, and Tekton's own checks pass on the outcome."
    code, said = pac(*event)
    [run] = started(said).values()
    spec = run['spec']['pipelineSpec']
    assert not [t['name'] for t in spec['tasks'] + spec['finally'] if 'taskRef' in t]
    (tmp_path/'run.yaml').write_text(said.removeprefix('---\n'))
    done = subprocess.run([built('tekton'), tmp_path], capture_output=True, text=True)
    assert done.returncode == 0 and '1 PipelineRuns, 0 faults' in done.stdout, done.stdout


RELEASE, CHANGED = 'release.yaml', 'pull-request.yaml'
BROKEN = {   # what, event, file, right, wrong, what is said
    'a tag without refs/tags': (TAG, RELEASE, '[refs/tags/v*]', '[v*]', 'no match|annotations'),
    'an event that there is not': (TAG, RELEASE, '"[push]"', '"[pushed]"', 'no match|annotations'),
    'a list without its end': (TAG, RELEASE, '"[refs/tags/v*]"', '"[refs/tags/v*"', 'wrong format'),
    'an empty list': (CHANGE, CHANGED, '"[main]"', '"[]"', 'is empty'),
    'no branch': (CHANGE, CHANGED, '    pipelinesascode.tekton.dev/on-target-branch: "[main]"\n', '',
                  'no match|annotations'),
    'a variable that nobody fills in': (TAG, RELEASE, '{{ git_tag }}', '{{ git_tags }}',
                                        'keeps {{ git_tags }}'),
    'a Task that is not there': (TAG, RELEASE, 'taskRef: {name: build-image}',
                                 'taskRef: {name: build-images}', 'build-images'),
    'two runs of one name': (CHANGE, CHANGED, 'name: edgecar-pull-request', 'name: edgecar-release',
                             'same name'),
    'YAML that is none': (CHANGE, RELEASE, 'spec:\n  params:', 'spec:\n params:\n  - [', 'yaml'),
    'a word for a list': (TAG, RELEASE, 'runAfter: [fetch]', 'runAfter: {fetch: 1}', 'decod'),
}


@pytest.mark.parametrize('mistake', BROKEN)
def test_a_mistake_starts_no_run(pac, tmp_path, mistake):
    event, file, right, wrong, says = BROKEN[mistake]
    shutil.copytree(ROOT/'.tekton', tmp_path/'.tekton')
    text = (tmp_path/'.tekton'/file).read_text()
    assert right in text
    (tmp_path/'.tekton'/file).write_text(text.replace(right, wrong, 1))
    code, said = pac(*event, folder=tmp_path/'.tekton')
    assert code == 1 and re.search(says, said, re.I), said
