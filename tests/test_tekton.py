"""The pipeline on a cluster is dvc.yaml's own; its steps have no rights,
and they run as a user nobody knows."""
import os, re, shutil, subprocess
from pathlib import Path

import nbformat, pytest, yaml
from dvc.repo import Repo

ROOT = Path(__file__).parents[1]
FILES = {path: list(yaml.safe_load_all(path.read_text()))
         for path in sorted((ROOT/'.tekton').rglob('*.y*ml'))}
DOCS = [doc for docs in FILES.values() for doc in docs]
TASKS = {doc['metadata']['name']: doc['spec'] for doc in DOCS if doc['kind'] == 'Task'}
RUN = next(doc for doc in DOCS
           if doc['kind'] == 'PipelineRun' and doc['metadata']['name'] == 'edgecar-pull-request')
SPEC = RUN['spec']['pipelineSpec']
EVERY = SPEC['tasks'] + SPEC['finally']
STEPS = {f'{name}/{step["name"]}': {**spec.get('stepTemplate', {}), **step}
         for name, spec in TASKS.items() for step in spec['steps']}


def params(owner):
    return {p['name']: p.get('value') for p in owner.get('params', [])}


def names(things):
    return [thing['name'] for thing in things]


def used(kind, where):
    return set(re.findall(rf'\$\({kind}\.([\w-]+)', yaml.safe_dump(where)))


# --- the graph

def stage_of(task):
    return params(task).get('stage')


def test_stages_and_edges_are_those_of_dvc_yaml():
    graph = Repo(str(ROOT)).index.graph  # an edge points from a stage to one it needs
    stages = {stage for stage in graph if stage.cmd}  # data.dvc has no command
    wanted = {stage.name: {need.name for need in graph.successors(stage) if need in stages}
              for stage in stages}
    ours = {task['name']: stage_of(task) for task in SPEC['tasks'] if stage_of(task)}
    actual = {stage_of(task): {ours[need] for need in task['runAfter'] if need in ours}
              for task in SPEC['tasks'] if stage_of(task)}
    assert wanted and actual == wanted, (
        'dvc.yaml changed -> give .tekton/pull-request.yaml the same stages and runAfter')
    assert list(ours) == [stage.replace('@', '-') for stage in ours.values()], (
        'a task has the name of its stage')


def test_data_tests_and_environment_come_before_the_first_stage():
    after = {task['name']: task.get('runAfter', []) for task in SPEC['tasks']}
    assert ([after[task] for task in ('fetch', 'set-up', 'test', 'get-data')]
            == [[], ['fetch'], ['set-up'], ['test']])
    starts = [task for task in SPEC['tasks'] if stage_of(task)
              and not {stage_of(t) for t in SPEC['tasks'] if t['name'] in task['runAfter']} - {None}]
    assert starts and all(task['runAfter'] == ['get-data'] for task in starts)


def test_notebooks_are_kept_whatever_happened():
    assert 'keep-notebooks' in names(SPEC['finally'])
    assert not any('when' in task for task in SPEC['finally'])


def test_a_pull_request_to_main_starts_it():
    notes = {key.removeprefix('pipelinesascode.tekton.dev/'): value
             for key, value in RUN['metadata']['annotations'].items()}
    assert (notes['on-event'], notes['on-target-branch']) == ('[pull_request]', '[main]')


# --- the documents

def test_names_are_unique_and_those_of_their_files():
    actual = [(doc['kind'], doc['metadata']['name']) for doc in DOCS]
    assert len(set(actual)) == len(actual) and len(set(names(EVERY))) == len(EVERY)
    assert {doc['metadata']['name'].removeprefix('edgecar-') for doc in DOCS} == {path.stem for path in FILES}
    assert all(doc['apiVersion'] == 'tekton.dev/v1' for doc in DOCS)


@pytest.mark.parametrize('name', TASKS)
def test_a_task_uses_what_it_declares(name):
    spec = TASKS[name]
    assert used('params', spec['steps']) == set(names(spec['params']))
    assert used('workspaces', spec['steps']) == set(names(spec['workspaces']))


def test_the_pipeline_uses_what_it_declares_and_the_run_gives_it():
    assert used('params', EVERY) == set(names(SPEC['params'])) == set(params(RUN['spec']))
    mounted = {w.get('workspace', w['name']) for task in EVERY for w in task['workspaces']}
    assert mounted == set(names(SPEC['workspaces'])) and set(names(RUN['spec']['workspaces'])) <= mounted


@pytest.mark.parametrize('task', EVERY, ids=names(EVERY))
def test_a_task_is_given_what_it_declares(task):
    spec = TASKS[task['taskRef']['name']]
    needed = {p['name'] for p in spec['params'] if 'default' not in p}
    assert needed <= set(params(task)) <= set(names(spec['params']))
    assert ({w['name'] for w in spec['workspaces'] if not w.get('optional')} <= set(names(task['workspaces']))
            <= set(names(spec['workspaces'])))


def test_one_param_chooses_the_image_and_any_other_is_pinned():
    assert all(params(task)['image'] == '$(params.image)' for task in EVERY)
    for name, step in STEPS.items():
        assert step['image'] == '$(params.image)' or re.search(r'@sha256:[0-9a-f]{64}$', step['image']), name


# --- the steps

@pytest.mark.parametrize('name', STEPS)
def test_a_step_has_no_rights(name):
    assert STEPS[name]['securityContext'] == dict(
        runAsNonRoot=True, allowPrivilegeEscalation=False, capabilities={'drop': ['ALL']},
        seccompProfile={'type': 'RuntimeDefault'})
    assert 'requests' in STEPS[name]['computeResources']
    assert RUN['spec']['taskRunTemplate']['podTemplate']['automountServiceAccountToken'] is False


@pytest.mark.parametrize('name', STEPS)
def test_a_script_takes_its_values_from_the_environment(name):
    script = STEPS[name]['script']
    assert script.startswith('#!/bin/sh\nset -eu\n')
    assert '$(' not in script and '{{' not in script, 'a value put into the text of a script is run by it'
    subprocess.run(['sh', '-n'], input=script, text=True, check=True)


def test_steps_with_python_share_one_home():
    homes = [
        [e for e in step['env'] if e['value'].startswith('/tekton/home') or e['name'] in ('USER', 'LOGNAME')]
        for name, step in STEPS.items() if not name.startswith('fetch/')]
    assert all(home == homes[0] for home in homes)
    assert set(names(homes[0])) == {'HOME', 'USER', 'LOGNAME', 'XDG_CACHE_HOME', 'DVC_SITE_CACHE_DIR',
                                    'IPYTHONDIR', 'JUPYTER_RUNTIME_DIR', 'MPLCONFIGDIR'}


def test_secrets_are_optional():
    refs = [source['secretRef'] for step in STEPS.values() for source in step.get('envFrom', [])]
    assert refs and all(ref == {'name': 'edgecar-ci', 'optional': True} for ref in refs)


# --- the scripts themselves, run by a user who has no name and no rights

# what OpenShift gives a pod; needs no root
ANYONE = ['unshare', '--user', '--map-user=123456', '--map-group=0']
if not shutil.which('unshare') or subprocess.run([*ANYONE, 'true'], capture_output=True).returncode:
    ANYONE = []


@pytest.fixture
def volume(tmp_path):
    (tmp_path/'home').mkdir()
    return tmp_path


def sh(volume, *command, cwd=None, **env):
    env = {'PATH': os.environ['PATH'], 'HOME': str(volume/'home'), **env}
    return subprocess.run([*ANYONE, *command], cwd=cwd or volume, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def play(task, volume, bound=('source',), **values):
    """Run a task's step as Tekton would: params and paths put into `env`, `args` and `workingDir`,
    the script in a file."""
    [step] = TASKS[task]['steps']
    def fill(text):
        text = re.sub(r'\$\(params\.([\w-]+)\)', lambda m: values[m[1]], text)
        text = re.sub(r'\$\(workspaces\.([\w-]+)\.path\)',
                      lambda m: str(volume) if m[1] in bound else '', text)
        return text.replace('/tekton/home', str(volume/'home'))
    script = volume/'home/script'
    script.write_text(step['script'])
    script.chmod(0o755)
    env = {e['name']: fill(e['value']) for e in step['env']}
    return sh(volume, script, *values.get('command', []), cwd=fill(step['workingDir']), **env)


@pytest.fixture
def clone(volume):
    "A clone as `fetch` leaves it, with this project's environment in it."
    done = sh(volume, 'sh', '-ec',
              'git init -q repo; cd repo; mkdir .dvc; touch .dvc/config; ln -s "$VENV" .venv',
              VENV=str(ROOT/'.venv'))
    assert done.returncode == 0, done.stdout
    return volume/'repo'


def test_fetch_checks_out_the_commit_and_can_be_run_again(volume):
    made = sh(volume, 'sh', '-ec', '''
        git init -q origin; cd origin; git config user.name t; git config user.email t@localhost
        for n in 1 2; do echo $n > n; git add n; git commit -qm $n; done; git rev-parse HEAD~1''')
    first = made.stdout.split()[-1]
    for _ in 'once', 'again':
        done = play('fetch', volume, image='', url=(volume/'origin').as_uri(), revision=first)
        assert done.returncode == 0 and (volume/'repo/n').read_text() == '1\n', done.stdout


def test_fetch_says_why_it_cannot_write(volume):
    if not ANYONE and os.geteuid() == 0:
        pytest.skip('root writes anywhere, and this kernel has no user namespaces')
    volume.chmod(0o555)
    done = play('fetch', volume, image='', url='', revision='')
    assert done.returncode == 1 and 'fsGroup' in done.stdout


def test_run_command_runs_in_the_clone_and_passes_words_whole(clone):
    done = play('run-command', clone.parent, image='',
                command=['python', '-c', 'import os, sys; print(os.getcwd(), sys.prefix, sys.argv[1:])',
                         '$(id) "x y"'])
    assert done.stdout.strip() == f'''{clone} {clone/'.venv'} ['$(id) "x y"']'''


@pytest.mark.slow
def test_run_stage_runs_that_stage_only(clone):
    # writes its font cache, too
    cell = nbformat.v4.new_code_cell("import matplotlib.pyplot; open('one', 'w').write('1')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), clone/'one.ipynb')
    (clone/'dvc.yaml').write_text('''stages:
      one: {cmd: mkdir -p runs && papermill -k python3 -l python one.ipynb runs/one.ipynb, outs: [one]}
      two: {cmd: cp one two, deps: [one], outs: [two]}''')
    done = play('run-stage', clone.parent, image='', stage='one')
    assert done.returncode == 0 and (clone/'one').exists() and not (clone/'two').exists(), done.stdout
    assert (clone/'runs/one.ipynb').exists() and 'ermission' not in done.stdout, done.stdout
    (clone/'one').unlink()
    done = play('run-stage', clone.parent, image='', stage='two')
    assert done.returncode != 0 and not (clone/'one').exists(), 'it made what another stage makes'


@pytest.mark.slow
def test_keep_notebooks_keeps_what_is_there(clone):
    volume = clone.parent
    done = play('keep-notebooks', volume, image='', run='r1')
    assert done.returncode == 0 and 'no stage ran' in done.stdout
    (clone/'runs').mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell('# train')]),
                   clone/'runs/train.ipynb')
    (clone/'runs/broken.ipynb').write_text('{')
    done = play('keep-notebooks', volume, image='', run='r1')
    assert done.returncode == 0, done.stdout
    assert ({path.name for path in (volume/'notebooks/r1').iterdir()}
            == {'broken.ipynb', 'train.ipynb', 'train.html'})
    (clone/'runs/broken.ipynb').unlink()
    done = play('keep-notebooks', volume, bound=('source', 'notebooks'), image='', run='r2')
    assert done.returncode == 0 and (volume/'r2/train.html').exists()
