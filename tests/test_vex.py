"""What deploy/vex.json says is about what is locked today: a new version asks for a new look at it."""
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VEX = json.loads((ROOT/'deploy/vex.json').read_text())
WHY_NOT = {'component_not_present', 'vulnerable_code_not_present', 'vulnerable_code_not_in_execute_path',
           'vulnerable_code_cannot_be_controlled_by_adversary', 'inline_mitigations_already_exist'}


def locked():
    "Packages of the images, as package URLs."
    wheels = json.loads((ROOT/'deploy/Pipfile.lock').read_text())['car']
    debs = [line.split() for line in (ROOT/'deploy/base.txt').read_text().splitlines() if line[0] != '#']
    return ({f"pkg:pypi/{name}@{about['version'].removeprefix('==')}" for name, about in wheels.items()}
            | {f'pkg:deb/debian/{name}@{version}' for _, name, version, _ in debs})


@pytest.mark.parametrize('said', VEX['statements'], ids=lambda said: said['vulnerability']['name'])
def test_a_statement_is_about_what_is_locked(said):
    assert re.fullmatch(r'CVE-\d{4}-\d{4,}', said['vulnerability']['name'])
    assert [p['@id'] for p in said['products']] == ['pkg:oci/edgecar-twin', 'pkg:oci/edgecar-car']
    parts = {s['@id'] for p in said['products'] for s in p['subcomponents']}
    assert parts and parts <= locked(), 'another version was locked: look at the finding again'
    if said['status'] == 'not_affected':
        assert said['justification'] in WHY_NOT and said['impact_statement']
    else:
        assert said['status'] == 'fixed' and said['status_notes']


def test_it_is_an_openvex_document():
    assert VEX['@context'] == 'https://openvex.dev/ns/v0.2.0'
    assert {'@id', 'author', 'timestamp', 'version'} <= VEX.keys() and VEX['statements']
