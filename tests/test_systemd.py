"The units of a car: valid, without rights, and what they run before the start is what lets a release in."
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.signing import Club

ROOT = Path(__file__).parents[1]
UNITS = ROOT/'deploy/systemd'
BIN = Path(sys.prefix)/'bin'
SERVICES = ['edgecar.service', 'edgecar-confirm.service', 'user/edgecar-confirm.service']
QUADLET_KEYS = set(   # of [Container], podman-systemd.unit(5) of podman 4.5
    'AddCapability AddDevice Annotation ContainerName DropCapability Environment EnvironmentFile '
    'EnvironmentHost Exec ExposeHostPort Group HealthCmd HostName Image IP Label LogDriver Mount Network '
    'NoNewPrivileges Notify PodmanArgs PublishPort Pull ReadOnly RunInit SeccompProfile Secret '
    'SecurityLabelDisable Sysctl Timezone Tmpfs User UserNS VolatileTmp Volume'.split())
LATER_KEYS = dict(GroupAdd=(5, 1), StopTimeout=(5, 0))   # since which podman


def unit(name):
    "Sections of a unit: name -> list of (key, value), continued lines joined."
    text, sections = re.sub(r'\\\n\s*', ' ', (UNITS/name).read_text()), {}
    for line in text.splitlines():
        if head := re.fullmatch(r'\[(\w+)\]', line):
            section = sections.setdefault(head[1], [])
        elif line and not line.startswith('#'):
            section.append(tuple(line.split('=', 1)))
    return sections


def values(name, key, section='Service'):
    return [value for k, value in unit(name)[section] if k == key]


def analyze(*words):
    if not shutil.which('systemd-analyze'):
        if os.environ.get('CI') == 'true':
            pytest.fail('systemd-analyze is needed: apt-get install systemd')
        pytest.skip('systemd-analyze is not here')
    return subprocess.run(['systemd-analyze', *map(str, words)], capture_output=True, text=True, timeout=60,
                          env=os.environ | dict(SYSTEMD_LOG_LEVEL='warning', XDG_RUNTIME_DIR='/run/user/0'))


def copied(folder, name, **changes):
    "A unit with the program of this environment, as systemd wants one that exists."
    text = (UNITS/name).read_text().replace('/opt/edgecar/bin', str(BIN))
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    at = folder/Path(name).name
    at.write_text(text)
    return at


def verify_units(*units, user=False):
    done = analyze('verify', '--man=no', *['--user'] * user, *units)
    said = [line for line in done.stderr.splitlines() if 'edgecar' in line]
    return done.returncode, '\n'.join(said)


def test_the_units_are_valid(tmp_path):
    units = [copied(tmp_path, name) for name in SERVICES[:2]]
    assert verify_units(*units) == (0, '')
    (tmp_path/'user').mkdir()
    at = copied(tmp_path/'user', SERVICES[2])
    copied(tmp_path/'user', SERVICES[0], user=('User=edgecar\nGroup=edgecar\n', ''))
    code, said = verify_units(at, user=True)
    assert 'edgecar-confirm' not in said, said


@pytest.mark.parametrize('old, new', [
    ('ProtectSystem=strict', 'ProtectSystem=always'), ('Restart=on-failure', 'Restart=perhaps'),
    ('[Service]', '[Other]'), (str(BIN/'edgecar release'), '/none/edgecar release')])
def test_a_broken_copy_is_rejected(tmp_path, old, new):
    copied(tmp_path, SERVICES[1])
    code, said = verify_units(copied(tmp_path, SERVICES[0], change=(old, new)))
    assert code or said


@pytest.mark.parametrize('name, most', [('edgecar.service', 2.6), ('edgecar-confirm.service', 1.6)])
def test_the_units_have_no_rights(tmp_path, name, most):
    "The score of systemd: 0 is nothing to attack, 10 is root with everything."
    done = analyze('security', '--offline=true', '--no-pager', copied(tmp_path, name))
    found = re.search(r'Overall exposure level for \S+: ([\d.]+)', done.stdout)
    assert found and float(found[1]) <= most, done.stdout + done.stderr
    assert values(name, 'User') == ['edgecar'] and values(name, 'NoNewPrivileges') == ['yes']
    assert values(name, 'CapabilityBoundingSet') == ['']


def test_the_quadlet_is_made_of_what_podman_knows(tmp_path):
    keys = {key for key, _ in unit('edgecar.container')['Container']}
    assert keys <= QUADLET_KEYS | set(LATER_KEYS)
    said = dict(unit('edgecar.container')['Container'])
    assert said['Pull'] == 'never' and said['ReadOnly'] == said['NoNewPrivileges'] == 'true'
    assert said['DropCapability'] == 'all' and 'AddCapability' not in said
    verify, pull, tag = values('edgecar.container', 'ExecStartPre')
    assert 'release verify ${EDGECAR_REF} --policy' in verify
    assert '--start-file %t/edgecar/start.env' in verify
    assert '${EDGECAR_IMAGE}' in pull and tag.split()[-2:] == ['${EDGECAR_IMAGE}', said['Image']]
    text = (UNITS/'edgecar.container').read_text()
    rest = re.sub(r'\[Container\].*?(?=\[Service\])', '', text, flags=re.S)
    (tmp_path/'edgecar.service').write_text(
        rest.replace('/opt/edgecar/bin', str(BIN)).replace('/usr/bin/podman', '/bin/true')
        .replace('[Service]', '[Service]\nExecStart=/bin/true'))
    code, said = verify_units(tmp_path/'edgecar.service', user=True)
    assert 'Unknown' not in said and 'edgecar.service:' not in said, said


def run_before_start(club, ref, folder):
    "Run the command of ExecStartPre, with the paths of this test."
    [line] = values('edgecar.service', 'ExecStartPre')
    words = shlex.split(line.replace('${EDGECAR_REF}', ref).replace('/opt/edgecar/bin', str(BIN))
                        .replace('/etc/edgecar', str(club.folder)).replace('/run/edgecar', str(folder)))
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=folder)


def test_what_runs_before_the_start_decides(tmp_path):
    from edgecar.car.guard import check_release, demanded_rules, model_release
    club, run = Club(tmp_path), tmp_path/'run'
    run.mkdir()
    good, bad = club.release(), club.release('v1.1.0', b'another pilot', target='twin')
    policy = club.policy()
    done = run_before_start(club, good, run)
    assert done.returncode and '--first' in done.stderr and not (run/'pilot').exists()
    (tmp_path/'car').mkdir()
    (tmp_path/'car/running.json').write_text('{}')
    done = run_before_start(club, good, run)
    assert done.returncode == 0, done.stderr
    assert (run/'pilot/pilot.tflite').read_bytes() == b'pilot'
    check_release(model_release(run/'pilot/pilot.tflite'), 'pilot.tflite', demanded_rules(policy))
    assert re.fullmatch(r'EDGECAR_IMAGE=\S+@sha256:[0-9a-f]{64}\nEDGECAR_VERSION=v1.0.0\n',
                        (run/'start.env').read_text())
    shutil.rmtree(run/'pilot')
    done = run_before_start(club, bad, run)
    assert done.returncode and "target is 'twin'" in done.stderr and not (run/'pilot').exists()
