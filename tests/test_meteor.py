"""What Meteor, Thoth and AICoE-CI look for at the root agrees with the rest of the repository."""
import json
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PYTHON = tomllib.loads((ROOT/'Pipfile').read_text())['requires']['python_version']


def load(name):
    return yaml.safe_load((ROOT/name).read_text())


def test_the_book_has_every_page_and_every_notebook_but_the_flows_in_order():
    toc = load('_toc.yml')
    guides, pages, *library = [[chapter['file'] for chapter in part['chapters']] for part in toc['parts']]
    written = {f'nbs/book/{page.stem}' for page in (ROOT/'nbs/book').glob('*.md')}
    assert {toc['root'], *pages} == written | {'ARCHITECTURE', 'CONTRIBUTING', 'SECURITY', 'CHANGELOG'}
    listed = [*guides, *(file for part in library for file in part)]
    rooms = {path.relative_to(ROOT).with_suffix('').as_posix() for path in (ROOT/'nbs').rglob('*.ipynb')
             if 'flows' not in path.parts and '.ipynb_checkpoints' not in path.parts}
    assert set(listed) == rooms and len(set(listed)) == len(listed)
    assert (toc['root'], guides[0]) == ('nbs/book/index', 'nbs/index')
    folders = [name.rsplit('/', 1)[0] for part in library for name in part[:1]]
    layers = ['nbs', 'contracts', 'data', 'sim', 'pilot', 'web', 'widgets', 'car', 'campaign', 'release',
              'fleet', 'nbs']
    assert [folder.removeprefix('nbs/') for folder in folders] == layers
    assert all(part == sorted(part) for part in (guides[1:], *library))


def test_building_the_book_runs_nothing():
    assert (load('_config.yml')['execute']['execute_notebooks'] == 'off'
            and load('_config.yml')['only_build_toc_files'])


def test_all_name_the_python_of_the_pipfile():
    [runtime] = load('.thoth.yaml')['runtime_environments']
    assert runtime['python_version'] == PYTHON and load('.thoth.yaml')['requirements_format'] == 'pipenv'
    assert f'python-{PYTHON.replace(".", "")}:' in load('.aicoe-ci.yaml')['build']['base-image']


def test_the_base_image_is_the_one_the_pipeline_runs_on():
    run = load('.tekton/pull-request.yaml')
    [image] = [p['value'] for p in run['spec']['params'] if p['name'] == 'image']
    assert (image.split('@')[0].split(':')[0]
            == load('.aicoe-ci.yaml')['build']['base-image'].split('@')[0].split(':')[0])


def test_the_lock_is_what_gets_installed():
    assert ((ROOT/'Pipfile.lock').exists()
            and (ROOT/'.s2i/environment').read_text() == 'ENABLE_MICROPIPENV=1\n')


def test_builds_start_with_our_assemble():
    """s2i takes a script from --scripts-url first, then from .s2i/bin, then from the image;
    AICoE-CI hands its build-source-script over as --scripts-url."""
    assert 'build-source-script' not in load('.aicoe-ci.yaml')['build']
    assert (ROOT/'.s2i/bin/assemble').stat().st_mode & 0o111


def test_meteor_is_asked_only_for_what_the_lock_can_give():
    """Its image check imports jupyterhub and jupyterlab; its book wants the two files at the root."""
    wanted = load('deploy/workbench/meteor.yaml')['spec']['pipelines']
    assert wanted and set(wanted) <= {'jupyterhub', 'jupyterbook'}
    locked = json.loads((ROOT/'Pipfile.lock').read_text())['default']
    assert 'jupyterhub' not in wanted or {'jupyterhub', 'jupyterlab'} <= set(locked)
    assert 'jupyterbook' not in wanted or all((ROOT/name).is_file() for name in ('_config.yml', '_toc.yml'))


def test_open_data_hub_shows_the_workbench_with_its_versions():
    "Labels and annotations as its dashboard writes them for an image that somebody brings."
    stream = load('deploy/workbench/imagestream.yaml')
    assert stream['metadata']['labels'] == {
        'app.kubernetes.io/created-by': 'byon', 'opendatahub.io/dashboard': 'true',
        'opendatahub.io/notebook-image': 'true'}
    [tag] = stream['spec']['tags']
    assert stream['spec']['lookupPolicy']['local'] and tag['from']['kind'] == 'DockerImage'
    locked = json.loads((ROOT/'Pipfile.lock').read_text())['default']
    named = {name: json.loads(tag['annotations'][f'opendatahub.io/notebook-{name}'])
             for name in ('software', 'python-dependencies')}
    assert named['software'] == [dict(name='Python', version=PYTHON)]
    assert len(named['python-dependencies']) == 3
    for package in named['python-dependencies']:
        assert locked[package['name'].lower()]['version'].startswith(f'=={package["version"]}.')


def test_the_workbench_names_the_base_of_the_other_builds():
    text = (ROOT/'Dockerfile.workbench').read_text()
    assert f'ARG BASE={load(".aicoe-ci.yaml")["build"]["base-image"]}\n' in text
