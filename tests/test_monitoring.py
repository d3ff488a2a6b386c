"""Alerts and dashboard in a real Prometheus, over the metrics of a real drive in the twin."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from support import monitoring  # noqa: E402

ROOT = Path(__file__).parents[1]
DRIVE_S = 45
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope='module', autouse=True)
def tools():
    for tool in ('prometheus', 'promtool'):
        if not shutil.which(tool):
            why = f'{tool} is not here -> apt-get install prometheus'
            pytest.fail(why) if os.environ.get('CI') else pytest.skip(why)


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    "A drive with one stop by hand, and the Prometheus that saw it."
    folder, pilot = tmp_path_factory.mktemp('watched'), ROOT/'build/bundle/twin/pilot.tflite'
    if not pilot.is_file():
        pytest.skip('no pilot is here -> make repro')
    with monitoring.driving(folder, pilot) as drive, monitoring.prometheus(folder, drive) as server:
        began = time.monotonic()
        monitoring.wait_for(lambda: server.query('edgecar_driven_metres_total > 1'))
        drive.process.send_signal(10)   # SIGUSR1: stop
        monitoring.wait_for(lambda: server.query('edgecar_stopped{cause="signal"} == 1'))
        server.standing = monitoring.wait_for(lambda: server.query('ALERTS{alertname="EdgecarStands"}'))
        monitoring.wait_for(lambda: drive.ask('/drive', dict(buttons=dict(release=True))) is not None)
        monitoring.wait_for(lambda: server.query('edgecar_stopped{cause="signal"} == 0'))
        time.sleep(1)   # nothing is armed within half a second of a release
        drive.ask('/drive', dict(buttons=dict(arm=True)))
        monitoring.wait_for(lambda: server.query('edgecar_armed == 1'))
        time.sleep(max(0, DRIVE_S - (time.monotonic() - began)))
        server.seconds = time.monotonic() - began
        yield server


def check(folder, *words):
    return subprocess.run(['promtool', *words], cwd=folder, capture_output=True, text=True)


def test_promtool_takes_the_rules_and_they_fire_when_they_should(tmp_path):
    (tmp_path/'alerts.yml').write_text(yaml.safe_dump(monitoring.rule_groups()))
    shutil.copy(ROOT/'tests/platform/rules.yaml', tmp_path)
    for words in (('check', 'rules', 'alerts.yml'), ('test', 'rules', 'rules.yaml')):
        done = check(tmp_path, *words)
        assert done.returncode == 0, done.stdout + done.stderr


BROKEN = {
    'a name that is not closed': ('sum by (namespace, service, pod)', 'sum by (namespace, service, pod'),
    'a time that is none': ('for: 2m', 'for: two minutes'),
    'a bound of another kind': ('< 0.02', '< "little"'),
}


@pytest.mark.parametrize('mistake', BROKEN)
def test_promtool_refuses(tmp_path, mistake):
    text = (ROOT/'deploy/components/monitoring/alerts.yaml').read_text()
    assert BROKEN[mistake][0] in text
    groups = yaml.safe_load(text.replace(*BROKEN[mistake], 1))['spec']['groups']
    (tmp_path/'alerts.yml').write_text(yaml.safe_dump(dict(groups=groups)))
    assert check(tmp_path, 'check', 'rules', 'alerts.yml').returncode


def test_a_weaker_rule_is_noticed(tmp_path):
    text = yaml.safe_dump(monitoring.rule_groups())
    text = text.replace('edgecar:stops_per_km > 3', 'edgecar:stops_per_km > 300')
    (tmp_path/'alerts.yml').write_text(text)
    shutil.copy(ROOT/'tests/platform/rules.yaml', tmp_path)
    done = check(tmp_path, 'test', 'rules', 'rules.yaml')
    assert done.returncode and 'EdgecarStopsOften' in done.stdout + done.stderr


def test_prometheus_reads_all_that_the_drive_tells(watched):
    assert watched.query('up == 1') and watched.query('edgecar_faults_total{cause="signal"} >= 1')
    target, = watched.get('/api/v1/targets')['activeTargets']
    assert target['health'] == 'up' and not target['lastError']


def test_every_rule_runs_on_a_real_drive(watched):
    for group in watched.get('/api/v1/rules')['groups']:
        for rule in group['rules']:
            assert rule['health'] == 'ok', rule
    alert, = watched.standing
    assert alert['metric']['cause'] == 'signal' and alert['metric']['alertstate'] == 'pending'


def test_every_query_of_the_dashboard_has_an_answer(watched, tmp_path):
    for panel in monitoring.panels():
        for target in panel['targets']:
            if 'examined' not in target['legendFormat']:   # older manifests do not say it
                assert watched.span(monitoring.expression(target), watched.seconds), (panel['title'], target)
    to = Path(os.environ.get('EDGECAR_DASHBOARD_PICTURE', tmp_path/'dashboard.png'))
    monitoring.draw(watched, watched.seconds, to)
    assert to.stat().st_size > 20_000


def test_a_query_of_a_metric_that_is_not_there_has_none(watched):
    names = set(watched.get('/api/v1/label/__name__/values'))
    text = json.dumps(monitoring.panels()) + json.dumps(monitoring.rule_groups())
    used = set(re.findall(r'\bedgecar[:_]\w+', text)) - {'edgecar_twin'}
    rare = {'edgecar_latency_examined_seconds', 'edgecar_latency_outside_examined'}
    assert used - rare <= names, used - names
