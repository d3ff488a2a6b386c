"Campaigns of faults: what they found is driven again, with the finding put back into a copy of the package."
import contextlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from support.put_back import FINDINGS, package_with
from support.waiting import wait
from typer.testing import CliRunner

from edgecar.campaign.series import ScheduleRunner
from edgecar.campaign.stage import CampaignWorld
from edgecar.cli import app
from edgecar.contracts.fault import parse_schedule

KEPT = sorted((Path(__file__).parent/'campaign').glob('*.json'))
numbered = dict(ids=lambda number: f'finding-{number}')


def kept(number):
    path = Path(__file__).parent/f'campaign/finding-{number}.json'
    return parse_schedule(path.read_text(), path)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with CampaignWorld(tmp_path_factory.mktemp('world')) as world:
        yield world


@pytest.mark.parametrize('path', KEPT, ids=lambda path: path.stem)
def test_a_kept_schedule_is_short_and_can_be_read(path):
    schedule = parse_schedule(path.read_text(), path)
    assert 0 < len(schedule.faults) <= 4 and schedule.length_s < 8


@pytest.mark.parametrize('number', FINDINGS, **numbered)
def test_a_finding_can_be_put_back(number, tmp_path):
    env = package_with(number, tmp_path)
    script = 'import edgecar.car.drive as d; print(d.__file__)'
    done = subprocess.run([sys.executable, '-P', '-c', script], env=env, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path)), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize('number', FINDINGS, **numbered)
def test_a_finding_that_is_put_back_is_found(number, world, tmp_path):
    finding, schedule = FINDINGS[number], kept(number)
    runner = ScheduleRunner(world, profile=finding.profile, env=package_with(number, tmp_path))
    assert {b.promise for b in runner.judge(schedule)} & finding.promises


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize('number', FINDINGS, **numbered)
def test_without_the_finding_all_promises_hold(number, world, tmp_path):
    finding, schedule = FINDINGS[number], kept(number)
    runner = ScheduleRunner(world, profile=finding.profile, env=package_with(number, tmp_path, False))
    assert runner.judge(schedule) == []


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize('path', [path for path in KEPT if 'finding' not in path.stem], ids=lambda p: p.stem)
def test_what_a_campaign_has_found_is_mended(path, world):
    assert ScheduleRunner(world).judge(parse_schedule(path.read_text(), path)) == []


def test_a_campaign_that_drives_nothing_fails(tmp_path):
    done = CliRunner().invoke(app, ['campaign', '--minutes', '0', '--to', str(tmp_path/'c')])
    assert done.exit_code == 1 and json.loads(done.output.splitlines()[-1])['schedules'] == 0
    assert (tmp_path/'c/report.md').is_file()


def test_a_schedule_that_cannot_be_read_is_named(tmp_path):
    (tmp_path/'s.json').write_text('{"faults": []}')
    done = CliRunner().invoke(app, ['campaign', '--schedule', str(tmp_path/'s.json'), '--to', str(tmp_path)])
    assert done.exit_code == 1 and 's.json' in done.output


def commands_with(variable):
    "Return the words of all commands that run with a variable in their environment."
    words = set()
    for entry in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):   # it has just ended
            if variable.encode() in (entry/'environ').read_bytes().split(b'\0'):
                words |= {*(entry/'cmdline').read_text().split('\0')}
    return words


@pytest.mark.slow
def test_a_campaign_that_is_killed_leaves_no_process(tmp_path):
    mark = f'EDGECAR_TEST={uuid.uuid4().hex}'
    edgecar = Path(sys.executable).with_name('edgecar')
    command = [edgecar, 'campaign', '--minutes', '1', '--to', str(tmp_path/'c')]
    campaign = subprocess.Popen(command, env=os.environ | dict([mark.split('=')]),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: 'edgecar.campaign.driver' in commands_with(mark), 60, pause=.1)
    finally:
        campaign.kill()
        campaign.wait()
    wait(lambda: not commands_with(mark), 60, lambda: str(commands_with(mark)), pause=.1)
