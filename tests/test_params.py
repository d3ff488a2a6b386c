"Named sets of parameters: what `edgecar params` prints, and what the README shows, DVC understands."
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, to_hydra_overrides

from edgecar.data.public import PUBLIC_TUBS
from edgecar.params import dvc_set_options, parameter_changes, parameter_sets

ROOT = Path(__file__).parents[1]
BASE = yaml.safe_load((ROOT/'params.yaml').read_text())


def overrides_in(words):
    "The overrides in the words of a `dvc exp run`, as DVC takes them apart."
    given = [word for flag, word in zip(words, words[1:]) if flag == '-S']
    assert len(given) == words.count('-S')
    return to_path_overrides(given)


@pytest.mark.parametrize('name', parameter_sets(ROOT))
def test_dvc_makes_of_the_words_what_the_set_says(name, tmp_path):
    shutil.copy(ROOT/'params.yaml', tmp_path)
    overrides = overrides_in(dvc_set_options(parameter_changes(name, ROOT)))
    assert list(overrides) == ['params.yaml']
    apply_overrides(tmp_path/'params.yaml', overrides['params.yaml'])
    want = yaml.safe_load((ROOT/'params.yaml').read_text())
    for key, value in parameter_changes(name, ROOT).items():
        section, key = key.split('.')
        assert want[section][key] != value, 'a set holds only what differs'
        want[section][key] = value
    assert yaml.safe_load((tmp_path/'params.yaml').read_text()) == want
    assert ((tmp_path/'params.yaml').read_text().count('#')
            == (ROOT/'params.yaml').read_text().count('#')), 'its comments stay'


def test_the_shipped_recipe_needs_no_real_tub_and_joint_adds_one():
    assert BASE['prepare']['tubs'] == 'data'
    starter, real = parameter_changes('joint', ROOT)['prepare.tubs'].split(',')
    assert starter == 'data' and real.removeprefix('tubs/') in PUBLIC_TUBS
    target = re.search(r'^joint:.*\n((?:\t.*\n)+)', (ROOT/'Makefile').read_text(), re.M)[1]
    assert (f'edgecar data get {real.removeprefix("tubs/")}\n' in target
            and '$$(edgecar params joint)' in target)


@pytest.mark.parametrize('value', [5, 1e-3, True, 'data,tubs/monday', 'edge', '', '3', 'null', '[1]', 'a=b'])
def test_any_value_comes_through(value, tmp_path):
    (tmp_path/'params.yaml').write_text(yaml.safe_dump(dict(a=dict(b='before', c=1))))
    overrides = overrides_in(dvc_set_options({'a.b': value}))['params.yaml']
    assert not any(o.is_sweep_override() for o in to_hydra_overrides(overrides))
    apply_overrides(tmp_path/'params.yaml', overrides)
    values = yaml.safe_load((tmp_path/'params.yaml').read_text())['a']
    assert values == dict(b=value, c=1) and type(values['b']) is type(value)


def test_experiments_in_the_readme_can_be_run():
    """A comma that is not quoted for Hydra would be a list of experiments,
    which `dvc exp run` refuses without --queue."""
    lines = [part for line in (ROOT/'README.md').read_text().splitlines() for part in line.split(' && ')
             if part.startswith('dvc exp run ')]
    for line in lines:
        words = shlex.split(line.split('$(')[0])
        for override in to_hydra_overrides(overrides_in(words).get('params.yaml', [])):
            section, key = override.key_or_group.split('.')
            assert (not override.is_sweep_override()
                    and type(override.value()) in (type(BASE[section][key]), int)), line
    assert len(lines) >= 2
