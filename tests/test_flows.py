"""Flows, dvc.yaml and params.yaml say the same thing;
a stage depends on exactly the modules its notebook imports."""
import ast
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT/'dvc.yaml').read_text())['stages']
FLOWS = [name for name in STAGES if name != 'gate']   # the gate is one command
PARAMS = yaml.safe_load((ROOT/'params.yaml').read_text())


def notebook(stage):
    return next(ROOT/d for d in STAGES[stage]['deps'] if d.startswith('nbs/flows/'))


def code(nb):
    return [''.join(c['source']) for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == 'code']


def imports(source):
    "Files of edgecar that a piece of code imports, relative ones already made absolute."
    paths = set()
    for node in ast.walk(ast.parse(source)):
        names = ([node.module, *(f'{node.module}.{a.name}' for a in node.names)]
                 if isinstance(node, ast.ImportFrom) and node.module
                 else [a.name for a in node.names] if isinstance(node, ast.Import)
                 else [])
        for name in names:
            path = ROOT/(name.replace('.', '/') + '.py')
            if name.startswith('edgecar') and path.is_file():
                paths.add(path)
    return paths


def absolute(path):
    "The module's source with `from ..core` written as `from edgecar.core`."
    package = path.relative_to(ROOT).parts[:-1]

    def whole(m):
        up = len(m[1]) - 1
        return f"from {'.'.join(package[:len(package)-up])}.{m[2]}import".replace('. import', ' import')
    return re.sub(r'from (\.+)([\w.]*\s+)import', whole, path.read_text())


def closure(nb):
    todo, seen = imports('\n'.join(code(nb))), set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo |= imports(absolute(path))
    return {str(p.relative_to(ROOT)) for p in seen}


@pytest.mark.parametrize('stage', FLOWS)
def test_stage_depends_on_the_modules_its_notebook_imports(stage):
    assert {d for d in STAGES[stage]['deps'] if d.startswith('edgecar/')} == closure(notebook(stage))


@pytest.mark.parametrize('stage', FLOWS)
def test_command_passes_every_parameter_of_its_section_to_its_notebook(stage):
    from papermill.iorw import load_notebook_node
    from papermill.inspection import _infer_parameters
    nb, cmd = notebook(stage), STAGES[stage]['cmd']
    known = _infer_parameters(load_notebook_node(str(nb)))
    matrix = STAGES[stage].get('matrix', {})
    given = PARAMS.get(stage, {}) | {k: v[0] for k, v in matrix.items()}
    assert [p.name for p in known] == list(given) == re.findall(r'-p (\w+) "?\$', cmd)
    assert all(f'-p {k} ${{{"item" if k in matrix else stage}.{k}}}' in cmd.replace('"', '') for k in given)
    assert all(p.help and p.inferred_type_name != 'None' for p in known), (
        'each parameter is typed and explained')
    for p in known:
        assert type(ast.literal_eval(p.default)) is type(given[p.name]), p.name


def test_one_notebook_one_stage_in_order():
    flows = sorted(p.name for p in (ROOT/'nbs/flows').glob('*.ipynb'))
    assert flows == ['0_data.ipynb', *(f'{i}_{s}.ipynb' for i, s in enumerate(FLOWS, 1))]
    for i, stage in enumerate(FLOWS, 1):
        each = ''.join(f'_${{item.{k}}}' for k in STAGES[stage].get('matrix', {}))
        shape = ('mkdir -p runs && papermill -k python3 -l python --no-progress-bar --log-output '
                 f'nbs/flows/{i}_{stage}.ipynb runs/{i}_{stage}{each}.ipynb ')
        assert STAGES[stage]['cmd'].startswith(shape)
        assert each or {f'metrics/{stage}.json': {'cache': False}} in STAGES[stage]['metrics']


def test_the_gate_is_one_command_that_reads_its_section():
    gate = STAGES['gate']
    assert (gate['cmd'] == 'edgecar gate' and gate['params'] == ['prepare', 'train', 'export', 'gate']
            and gate['outs'] == ['build/gate'])
    from edgecar.contracts.rules import RULES
    assert list(PARAMS['gate']) == list(RULES)
    seen, todo = set(), {ROOT/'edgecar/pilot/gate.py', ROOT/'edgecar/pilot/card.py'}
    while todo:
        seen.add(path := todo.pop())
        todo |= imports(absolute(path)) - seen
    assert {d for d in gate['deps'] if d.startswith('edgecar/')} == {str(p.relative_to(ROOT)) for p in seen}


@pytest.mark.parametrize('name', [None, *(f.stem for f in sorted((ROOT/'params').glob('*.yaml')))])
def test_parameters_are_known_and_in_their_ranges(name):
    from edgecar.contracts.params import check_params
    from edgecar.params import parameter_changes
    params = yaml.safe_load((ROOT/'params.yaml').read_text())
    for key, value in (parameter_changes(name, ROOT) if name else {}).items():
        section, parameter = key.split('.')
        params[section][parameter] = value
    check_params(params)


def test_data_flow_takes_the_recipe_of_params():
    from dataclasses import asdict

    from papermill.iorw import load_notebook_node
    from papermill.inspection import _infer_parameters

    from edgecar.sim.record import starter_recipe
    known = _infer_parameters(load_notebook_node(str(ROOT/'nbs/flows/0_data.ipynb')))
    assert ([p.name for p in known] == ['to', *PARAMS['data']]
            and all(p.help and p.inferred_type_name != 'None' for p in known))
    assert all(type(ast.literal_eval(p.default)) is type(PARAMS['data'][p.name]) for p in known[1:])
    assert asdict(starter_recipe(ROOT)) == PARAMS['data'], (
        'each number of the recipe is written in params.yaml')


def test_both_targets_are_bundled():
    from edgecar.release.bundle import TARGETS
    assert STAGES['bundle']['matrix'] == {'target': list(TARGETS)}


def test_plots_show_what_the_stages_write():
    plots = [name for plot in yaml.safe_load((ROOT/'dvc.yaml').read_text())['plots']
             for name in ([plot] if isinstance(plot, str) else plot)]
    outs = [out for stage in STAGES.values() for out in stage.get('outs', [])]
    assert not [name for name in plots if not any(f'{name}/'.startswith(f'{out}/') for out in outs)]
    assert {'build/train/live/plots/metrics', 'build/evaluate/curvature.csv', 'build/evaluate/rollouts.csv',
            'build/evaluate/steering.csv'} <= set(plots)
    for name in plots:   # whose file is written by the stage's notebook, under that name
        stage = name.split('/')[1]
        assert (any(Path(name).stem in source for source in code(notebook(stage)))
                or name.startswith('build/train/live/')), name
