"""The pipelines on a cluster are dvc.yaml's own; their steps have no rights, and they run as a user nobody
knows. A stranger's change meets no key that writes, and a release trains nothing."""
import copy, os, re, shutil, subprocess
from pathlib import Path

import nbformat, pytest, yaml
from dvc.repo import Repo

from edgecar.release.plan import plan_release

ROOT = Path(__file__).parents[1]
FILES = {path: list(yaml.safe_load_all(path.read_text()))
         for path in sorted((ROOT/'.tekton').rglob('*.y*ml'))}
DOCS = [doc for docs in FILES.values() for doc in docs]
TASKS = {doc['metadata']['name']: doc['spec'] for doc in DOCS if doc['kind'] == 'Task'}
RUNS = {doc['metadata']['name'].removeprefix('edgecar-'): doc for doc in DOCS if doc['kind'] == 'PipelineRun'}
RUN, RELEASE = RUNS['pull-request'], RUNS['release']
SPEC, SHIP = RUN['spec']['pipelineSpec'], RELEASE['spec']['pipelineSpec']
EVERY = {name: run['spec']['pipelineSpec']['tasks'] + run['spec']['pipelineSpec']['finally']
         for name, run in RUNS.items()}
EACH = {f'{name}/{task["name"]}': task for name, tasks in EVERY.items() for task in tasks}
STEPS = {f'{name}/{step["name"]}': {**spec.get('stepTemplate', {}), **step}
         for name, spec in TASKS.items() for step in spec['steps']}


def params(owner):
    return {p['name']: p.get('value') for p in owner.get('params', [])}


def names(things):
    return [thing['name'] for thing in things]


def notes(run):
    return {key.removeprefix('pipelinesascode.tekton.dev/'): value
            for key, value in run['metadata']['annotations'].items()}


def used(kind, where):
    return set(re.findall(rf'\$\({kind}\.([\w-]+)', yaml.safe_dump(where)))


# --- the graph

def stage_of(task):
    return params(task).get('stage')


@pytest.fixture(scope='module')
def dvc_edges():
    "Stage -> the stages that it needs, as DVC itself reads dvc.yaml."
    graph = Repo(str(ROOT)).index.graph  # an edge points from a stage to one it needs
    stages = {stage for stage in graph if stage.cmd}  # data.dvc has no command
    return {stage.name: {need.name for need in graph.successors(stage) if need in stages}
            for stage in stages}


def edges(tasks):
    "The same of a pipeline's tasks."
    ours = {task['name']: stage_of(task) for task in tasks if stage_of(task)}
    return {stage_of(task): {ours[need] for need in task['runAfter'] if need in ours}
            for task in tasks if stage_of(task)}


def test_stages_and_edges_are_those_of_dvc_yaml(dvc_edges):
    assert dvc_edges and edges(SPEC['tasks']) == dvc_edges, 'dvc.yaml changed -> scripts/generate'
    ours = {task['name']: stage_of(task) for task in SPEC['tasks'] if stage_of(task)}
    assert list(ours) == [stage.replace('@', '-') for stage in ours.values()], (
        'a task has the name of its stage')


@pytest.mark.parametrize('mistake', ['an edge less', 'an edge more', 'a stage less', 'another stage'])
def test_another_graph_is_noticed(dvc_edges, mistake):
    tasks = copy.deepcopy(SPEC['tasks'])
    gate = next(task for task in tasks if task['name'] == 'gate')
    if mistake == 'an edge less':
        gate['runAfter'].remove('train')
    elif mistake == 'an edge more':
        next(task for task in tasks if task['name'] == 'export')['runAfter'].append('gate')
    elif mistake == 'a stage less':
        tasks.remove(gate)
    else:
        gate['params'] = [dict(name='stage', value='gates')]
    assert edges(tasks) != dvc_edges


def test_a_release_runs_its_stages_in_the_order_of_dvc_yaml(dvc_edges):
    "Of dvc.yaml it runs the exam again and both bundles; what it leaves out is pulled, not made."
    runs = ['evaluate', 'bundle@twin', 'bundle@car']
    assert set(runs) <= dvc_edges.keys()
    names_of = [task['name'] for task in SHIP['tasks']]
    places = [names_of.index(stage.replace('@', '-')) for stage in runs]
    for stage, place in zip(runs, places):
        assert all(places[runs.index(need)] < place for need in dvc_edges[stage] if need in runs)
    left = dvc_edges.keys() - set(runs)
    assert not {stage.replace('@', '-') for stage in left} & set(names_of)
    assert names_of.index('pull') < min(places)


def test_data_tests_and_environment_come_before_the_first_stage():
    after = {task['name']: task.get('runAfter', []) for task in SPEC['tasks']}
    assert ([after[task] for task in ('fetch', 'set-up', 'test', 'connect', 'get-data')]
            == [[], ['fetch'], ['set-up'], ['test'], ['connect']])
    starts = [task for task in SPEC['tasks'] if stage_of(task)
              and not {stage_of(t) for t in SPEC['tasks'] if t['name'] in task['runAfter']} - {None}]
    assert starts and all(task['runAfter'] == ['get-data'] for task in starts)


@pytest.mark.parametrize('name', RUNS)
def test_notebooks_are_kept_whatever_happened(name):
    last = RUNS[name]['spec']['pipelineSpec']['finally']
    assert 'keep-notebooks' in names(last) and not any('when' in task for task in last)


def test_a_pull_request_to_main_starts_one_and_a_tag_the_other():
    assert (notes(RUN)['on-event'], notes(RUN)['on-target-branch']) == ('[pull_request]', '[main]')
    assert (notes(RELEASE)['on-event'], notes(RELEASE)['on-target-branch']) == ('[push]', '[refs/tags/v*]')


# --- who may write

def test_a_strangers_change_meets_no_key_that_writes():
    writes = [name for name, task in EACH.items() if 'edgecar-store-write' in yaml.safe_dump(
        TASKS[task['taskRef']['name']])]
    assert writes == ['pull-request/push']
    guards = {w['input']: w['values'] for w in EACH['pull-request/push']['when'] if w['operator'] == 'in'}
    assert guards == {'$(params.source_url)': ['$(params.url)'], '$(params.store)': ['yes']}
    assert params(RUN['spec'])['source_url'] == '{{ source_url }}'
    pushes = [name for name, task in EACH.items() if 'basic-auth' in names(task['workspaces'])
              and name.startswith('pull-request/') and name != 'pull-request/fetch']   # which runs git alone
    assert pushes == ['pull-request/offer']
    assert [(w['input'], w['values']) for w in EACH['pull-request/offer']['when']] == [
        ('$(params.source_url)', ['$(params.url)'])]
    assert not {'keys', 'registry'} & set(names(RUN['spec']['workspaces']))
    assert 'release-command' not in {task['taskRef']['name'] for task in EVERY['pull-request']}


def test_what_needs_a_remote_is_left_out_without_one():
    asks = [task['name'] for task in SPEC['tasks'] if task.get('when')]
    assert asks == ['connect', 'offer', 'push'] and params(RUN['spec'])['store'] == 'no'


# --- the release

ORDER = ['fetch', 'set-up', 'check', 'connect', 'pull', 'evaluate', 'bundle-twin', 'bundle-car', 'check-pins',
         'build-twin', 'build-car', 'attest', 'promote-twin', 'prove-twin', 'promote-car']


def before(task):
    "Names of all tasks of the release that end before one begins."
    after = {t['name']: t.get('runAfter', []) for t in SHIP['tasks']}
    return {name for need in after[task] for name in {need} | before(need)}


def test_a_release_goes_from_the_pinned_bytes_over_the_twin_to_the_car():
    assert names(SHIP['tasks']) == ORDER
    builds = {'build-twin', 'build-car'}
    for n, task in enumerate(ORDER):
        assert before(task) == set(ORDER[:n]) - (builds if task in builds else set()), task


def test_a_release_trains_nothing_and_judges_by_dvc_yaml():
    commands = {t['name']: params(t).get('command') for t in SHIP['tasks'] if params(t).get('command')}
    assert commands['pull'] == ['dvc', 'pull'] and commands['evaluate'] == ['edgecar', 'release', 'evaluate']
    assert [c for c in commands.values() if c[:2] == ['dvc', 'repro']] == [
        ['dvc', 'repro', '--force', '-s', f'bundle@{target}'] for target in ('twin', 'car')]
    assert not [t['name'] for t in SHIP['tasks'] if stage_of(t)]
    tag = '$(params.git_tag)'
    assert commands['check'][:4] == commands['check-pins'] == ['edgecar', 'release', 'check', tag]
    assert commands['check'][-2:] == ['--tools', '$(params.image)'], 'an image by tag is refused'


@pytest.mark.parametrize('name', EACH)
def test_a_task_runs_one_command_that_has_its_own_tests(name):
    command = params(EACH[name]).get('command')
    assert not command or command[0] in ('dvc', 'edgecar', 'papermill', 'make', 'scripts/data')


def test_only_what_may_run_twice_is_tried_again():
    again = {name.partition('/')[2] for name, task in EACH.items() if task.get('retries')}
    once = {'evaluate', 'prove-twin', 'test', 'report', 'bundle-twin', 'bundle-car', 'check-pins',
            *(stage_of(t) for t in SPEC['tasks'] if stage_of(t))}
    assert not again & once and all(task.get('timeout') for task in SPEC['tasks'] + SHIP['tasks'])


def test_a_cache_is_kept_by_whoever_binds_one_and_not_shared_by_default():
    users = {name for name, task in EACH.items() if 'cache' in names(task['workspaces'])}
    assert users == {'pull-request/set-up', 'release/set-up', 'release/build-twin', 'release/build-car'}
    assert not [run for run in RUNS.values() if 'cache' in names(run['spec']['workspaces'])]


def test_chains_is_told_what_was_built():
    assert names(TASKS['build-image']['results']) == ['IMAGE_URL', 'IMAGE_DIGEST']
    for target in ('twin', 'car'):
        built = params(EACH[f'release/build-{target}'])
        assert built['CHAINS-GIT_URL'] == '$(params.url)'
        assert built['CHAINS-GIT_COMMIT'] == '$(params.revision)'
    assert {r['name']: r['value'] for r in SHIP['results']} == {
        f'{t}_IMAGE_{what}': f'$(tasks.build-{t}.results.IMAGE_{what})'
        for t in ('twin', 'car') for what in ('URL', 'DIGEST')}
    attested = params(next(t for t in SHIP['tasks'] if t['name'] == 'attest'))['command']
    assert '--no-image' in attested and all(
        f'{t}=$(tasks.build-{t}.results.IMAGE_DIGEST)' in attested for t in ('twin', 'car'))


def test_the_plan_names_each_task_in_this_order():
    version = re.search(r'^version = (.+)', (ROOT/'settings.ini').read_text(), re.M)[1]
    steps = plan_release(ROOT, f'v{version}')
    assert [step.name for step in steps] == [*ORDER, 'keep-notebooks']
    assert not [step for step in steps if '$(' in step.runs]


# --- the documents

def test_names_are_unique_and_those_of_their_files():
    actual = [(doc['kind'], doc['metadata']['name']) for doc in DOCS]
    assert len(set(actual)) == len(actual) and all(len(set(names(x))) == len(x) for x in EVERY.values())
    assert {doc['metadata']['name'].removeprefix('edgecar-') for doc in DOCS} == {path.stem for path in FILES}
    assert all(doc['apiVersion'] == 'tekton.dev/v1' for doc in DOCS)


@pytest.mark.parametrize('name', TASKS)
def test_a_task_uses_what_it_declares(name):
    spec = TASKS[name]
    hints = {name for name in names(spec['params']) if name.startswith('CHAINS-')}   # Chains reads those
    assert used('params', spec['steps']) | hints == set(names(spec['params']))
    assert used('workspaces', spec['steps']) == set(names(spec['workspaces']))


@pytest.mark.parametrize('name', RUNS)
def test_the_pipeline_uses_what_it_declares_and_the_run_gives_it(name):
    spec, tasks = RUNS[name]['spec'], EVERY[name]
    declared = spec['pipelineSpec']
    assert used('params', tasks) == set(names(declared['params'])) == set(params(spec))
    mounted = {w.get('workspace', w['name']) for task in tasks for w in task['workspaces']}
    assert mounted == set(names(declared['workspaces'])) and set(names(spec['workspaces'])) <= mounted


@pytest.mark.parametrize('name', EACH)
def test_a_task_is_given_what_it_declares(name):
    task = EACH[name]
    spec = TASKS[task['taskRef']['name']]
    needed = {p['name'] for p in spec['params'] if 'default' not in p}
    assert needed <= set(params(task)) <= set(names(spec['params']))
    assert ({w['name'] for w in spec['workspaces'] if not w.get('optional')} <= set(names(task['workspaces']))
            <= set(names(spec['workspaces'])))


def test_one_param_chooses_the_image_and_any_other_is_pinned():
    assert all(params(task)['image'] == '$(params.image)' for task in EACH.values())
    for name, step in STEPS.items():
        assert step['image'] == '$(params.image)' or re.search(r'@sha256:[0-9a-f]{64}$', step['image']), name


# --- the steps

@pytest.mark.parametrize('name', STEPS)
def test_a_step_has_no_rights(name):
    assert STEPS[name]['securityContext'] == dict(
        runAsNonRoot=True, allowPrivilegeEscalation=False, capabilities={'drop': ['ALL']},
        seccompProfile={'type': 'RuntimeDefault'})
    assert 'requests' in STEPS[name]['computeResources']
    for run in RUNS.values():
        assert run['spec']['taskRunTemplate']['podTemplate']['automountServiceAccountToken'] is False


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
    assert {ref['name'] for ref in refs} == {'edgecar-ci', 'edgecar-store-write', 'edgecar-release'}
    assert all(ref == dict(name=ref['name'], optional=True) for ref in refs)


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


def play(task, volume, bound=('source',), step=0, **values):
    """Run a task's step as Tekton would: params and paths put into `env`, `args` and `workingDir`,
    the script in a file."""
    step, defaults = TASKS[task]['steps'][step], {p['name']: p.get('default') for p in TASKS[task]['params']}
    values = defaults | values
    def fill(text):
        text = re.sub(r'\$\(params\.([\w-]+)\)', lambda m: values[m[1]], text)
        text = text.replace('$(context.taskRun.name)', 'a-run')
        text = re.sub(r'\$\(results\.(\w+)\.path\)', rf'{volume}/home/result-\1', text)
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


def test_fetch_brings_the_branch_to_compare_with(volume):
    made = sh(volume, 'sh', '-ec', '''
        git init -q -b main origin; cd origin; git config user.name t; git config user.email t@localhost
        for n in 1 2; do echo $n > n; git add n; git commit -qm $n; done; git rev-parse HEAD~1''')
    first = made.stdout.split()[-1]
    done = play('fetch', volume, image='', url=(volume/'origin').as_uri(), revision=first, base='main')
    assert done.returncode == 0, done.stdout
    shown = sh(volume, 'git', '-C', 'repo', 'show', 'origin/base:n')
    assert (volume/'repo/n').read_text() == '1\n' and shown.stdout == '2\n'


def test_run_command_runs_in_the_clone_and_passes_words_whole(clone):
    done = play('run-command', clone.parent, image='',
                command=['python', '-c', 'import os, sys; print(os.getcwd(), sys.prefix, sys.argv[1:])',
                         '$(id) "x y"'])
    assert done.stdout.strip() == f'''{clone} {clone/'.venv'} ['$(id) "x y"']'''
    assert (clone/'runs/logs/a-run.log').read_text() == done.stdout


def test_a_cache_that_is_bound_is_used(clone):
    command, volume = ['sh', '-c', 'echo "$XDG_CACHE_HOME"'], clone.parent
    said = [play('run-command', volume, bound, image='', command=command).stdout.strip()
            for bound in (('source',), ('source', 'cache'))]
    assert said == [f'{volume}/home/cache', str(volume)]


@pytest.mark.parametrize('code', [0, 1, 3])
def test_a_log_does_not_hide_how_a_command_ended(clone, code):
    command = ['sh', '-c', f'echo out; echo err >&2; exit {code}']
    done = play('run-command', clone.parent, image='', command=command)
    assert done.returncode == code and {'out', 'err'} == set(done.stdout.split())
    assert (clone/'runs/logs/a-run.log').read_text() == done.stdout


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
    shutil.rmtree(clone/'.dvc/cache')   # from which it would be fetched, as from a remote
    done = play('run-stage', clone.parent, image='', stage='two')
    assert done.returncode != 0 and not (clone/'one').exists(), 'it made what another stage makes'


def stub(clone, name, script):
    "Put a program before the environment's own, to see how a step calls it."
    (clone/'.venv').unlink()
    (clone/'.venv/bin').mkdir(parents=True)
    (program := clone/'.venv/bin'/name).write_text(f'#!/bin/sh\n{script}\n')
    program.chmod(0o755)


def test_push_store_asks_the_remote_first(clone):
    stub(clone, 'edgecar', 'echo "edgecar $*"; exit "${CODE:-0}"')
    shutil.copy(clone/'.venv/bin/edgecar', clone/'.venv/bin/dvc')
    done = play('push-store', clone.parent, image='')
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines() == ['edgecar remote', 'edgecar push --run-cache']
    (clone/'.venv/bin/edgecar').write_text('#!/bin/sh\nexit 1\n')
    assert play('push-store', clone.parent, image='').stdout == ''


def test_build_image_leaves_two_results_without_an_end_of_line(clone):
    stub(clone, 'edgecar', '''echo "$*" "${DOCKER_CONFIG:-}"
        [ "$2" = build ] && exit
        printf quay.io/e-car >"$9/IMAGE_URL"
        printf sha256:12 >"$9/IMAGE_DIGEST"''')
    volume, values = clone.parent, dict(image='', target='car', registry='quay.io/e', version='v1.0.0')
    done = play('build-image', volume, **values)
    assert done.stdout.strip() == 'release build car'
    done = play('build-image', volume, base='quay.io/base@sha256:1', **values)
    assert done.stdout.strip() == 'release build car --base quay.io/base@sha256:1'
    done = play('build-image', volume, bound=('source', 'registry'), step=1, **values)
    assert done.returncode == 0, done.stdout
    assert done.stdout.split()[-1] == str(volume), 'the credentials'
    assert [(volume/f'home/result-{name}').read_bytes() for name in ('IMAGE_URL', 'IMAGE_DIGEST')] == [
        b'quay.io/e-car', b'sha256:12']


def test_only_who_is_given_credentials_may_push(clone):
    (clone.parent/'.gitconfig').touch()
    (clone.parent/'.git-credentials').write_text('https://me:geheim@git.example')
    look = ['sh', '-c', 'cat "$HOME/.git-credentials" || echo none']
    said = [play('run-command', clone.parent, bound, image='', command=look).stdout.splitlines()[-1]
            for bound in (('source',), ('source', 'basic-auth'))]
    assert said == ['none', 'https://me:geheim@git.example']


def test_release_command_hands_on_keys_and_credentials_and_no_more(clone):
    (clone.parent/'.gitconfig').touch()
    (clone.parent/'.git-credentials').write_text('https://me:geheim@git.example')
    command = ['sh', '-c', 'env | grep -E "^(EDGECAR|DOCKER)" | sort; cat "$HOME/.git-credentials"; exit 5']
    done = play('release-command', clone.parent, bound=('source', 'keys', 'registry', 'basic-auth'), image='',
                command=command, registry='quay.io/e', deploy='https://git.example/deploy')
    assert done.returncode == 5 and 'geheim' in done.stdout
    here = clone.parent
    assert dict(line.split('=') for line in done.stdout.splitlines()[:-1]) == {
        'DOCKER_CONFIG': str(here), 'EDGECAR_DEPLOY_GIT': 'https://git.example/deploy',
        'EDGECAR_GATE_KEY': f'{here}/gate.key', 'EDGECAR_GATE_PUB': f'{here}/edgecar-gate.pub',
        'EDGECAR_IMAGE_PUB': f'{here}/edgecar.pub', 'EDGECAR_REGISTRY': 'quay.io/e'}


def test_keep_notebooks_keeps_logs_metrics_and_the_report(clone):
    for name in ('metrics/evaluate.json', 'runs/logs/a.log', 'runs/report/report.md', 'runs/wheel/e.whl',
                 'dvc.lock'):
        (clone/name).parent.mkdir(parents=True, exist_ok=True)
        (clone/name).touch()
    done = play('keep-notebooks', clone.parent, image='', run='r1')
    kept = {path.name for path in (clone.parent/'notebooks/r1').rglob('*') if path.is_file()}
    assert done.returncode == 0, done.stdout
    assert kept == {'evaluate.json', 'a.log', 'report.md', 'e.whl', 'dvc.lock'}


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
