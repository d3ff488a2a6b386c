"""A real Prometheus over what a drive tells, on free ports of this machine; panels of the dashboard drawn
from its answers."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BASE = ROOT/'deploy/components/monitoring'


def rule_groups():
    "The groups of the PrometheusRule, as Prometheus reads them from a file."
    return dict(groups=yaml.safe_load((BASE/'alerts.yaml').read_text())['spec']['groups'])


def panels():
    return json.loads((BASE/'dashboard.json').read_text())['panels']


def expression(target, car='.*'):
    "The query of a panel, with the variable that Grafana fills in."
    return target['expr'].replace('$car', car)


def listening_ports(pid):
    "TCP ports that a process listens on, on this machine's loopback."
    inodes = set()
    for link in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(OSError):
            if found := re.fullmatch(r'socket:\[(\d+)\]', os.readlink(link)):
                inodes.add(found[1])
    rows = [line.split() for line in Path(f'/proc/{pid}/net/tcp').read_text().splitlines()[1:]]
    return [int(row[1].split(':')[1], 16) for row in rows if row[3] == '0A' and row[9] in inodes]


def wait_for(answer, process=None, patience_s=60):
    "What `answer()` gives once it gives something; an error when the process ends or the time does."
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        assert process is None or process.poll() is None, f'ended with {process.returncode}'
        with contextlib.suppress(OSError, urllib.error.URLError, ValueError, IndexError):
            if found := answer():
                return found
        time.sleep(.1)
    raise AssertionError(f'nothing after {patience_s} s')


@contextlib.contextmanager
def running(words, log, **kw):
    "A process for a `with` block; its output goes to a file."
    with open(log, 'w') as out:
        process = subprocess.Popen([*map(str, words)], stdout=out, stderr=out, **kw)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Drive:
    "A twin that drives: simulator and driver apart, as in its pod. `page` is the address of the driver's."
    def __init__(self, folder, process, log, token):
        self.folder, self.process, self.token = folder, process, token
        said = wait_for(lambda: re.search(r'http://[\d.]+:(\d+)', log.read_text()), process)
        self.port = int(said[1])

    def ask(self, path, body=None):
        "The answer of the driver's page."
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}{path}', headers={
            'Authorization': f'Bearer {self.token}', 'Content-Type': 'application/json'},
            data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()


@contextlib.contextmanager
def driving(folder, pilot, token='only for a test'):
    "A real drive in the twin, for a `with` block."
    edgecar = [shutil.which('edgecar')]
    simulator = [*edgecar, 'sim', 'serve', '--no-page', '--port', '0', '--scene', 'donkey']
    with running(simulator, folder/'simulator.log') as sim:
        port = wait_for(lambda: listening_ports(sim.pid)[0], sim)
        words = [*edgecar, 'drive', '--profile', 'twin', '--port', port, '--model', pilot, '--mode', 'local',
                 '--arm', '--page-port', '0', '--log', 'json', '--tubs', folder/'tubs', '--budget-mb', '300',
                 '--reserve-mb', '10']
        env = os.environ | dict(EDGECAR_TOKEN=token)
        with running(words, folder/'driver.log', env=env) as driver:
            yield Drive(folder, driver, folder/'driver.log', token)


class Prometheus:
    "A Prometheus that scrapes a drive each second."
    def __init__(self, process):
        self.port = wait_for(lambda: listening_ports(process.pid)[0], process)
        wait_for(lambda: self.get('/-/ready', raw=True), process)

    def get(self, path, raw=False, **words):
        "An answer of its HTTP interface."
        url = f'http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(words)}'
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        return text if raw else json.loads(text)['data']

    def query(self, what):
        "The series that a query gives now."
        return self.get('/api/v1/query', query=what)['result']

    def span(self, what, seconds):
        "The series that a query gave over the last seconds."
        now = time.time()
        return self.get('/api/v1/query_range', query=what, start=now - seconds, end=now, step=1)['result']


@contextlib.contextmanager
def prometheus(folder, drive):
    "A Prometheus with our rules, over one drive, for a `with` block."
    monitor = yaml.safe_load((BASE/'service-monitor.yaml').read_text())['spec']['endpoints'][0]
    labels = dict(namespace='edgecar', service='edgecar-twin', pod='edgecar-twin-0')
    scrape = dict(job_name='edgecar', scrape_interval='1s', metrics_path=monitor['path'],
                  authorization=dict(credentials=drive.token),
                  static_configs=[dict(targets=[f'127.0.0.1:{drive.port}'], labels=labels)])
    (folder/'rules.yml').write_text(yaml.safe_dump(rule_groups()))
    (folder/'prometheus.yml').write_text(yaml.safe_dump(dict(
        **{'global': dict(evaluation_interval='1s')}, rule_files=['rules.yml'], scrape_configs=[scrape])))
    words = ['prometheus', f'--config.file={folder}/prometheus.yml', f'--storage.tsdb.path={folder}/tsdb',
             '--web.listen-address=127.0.0.1:0', '--log.level=warn']
    with running(words, folder/'prometheus.log') as process:
        yield Prometheus(process)


def draw(server, seconds, to):
    "Draw every panel of the dashboard from the answers of a Prometheus, into a picture."
    from edgecar.data.plot import NotebookFigure
    fig = NotebookFigure(figsize=(10, 9))
    for ax, panel in zip(fig.subplots(4, 2).flat, panels()):
        for target in panel['targets']:
            for series in server.span(expression(target), seconds):
                t, values = zip(*((float(t), float(v)) for t, v in series['values']))
                label = re.sub(r'{{(\w+)}}', lambda m: series['metric'].get(m[1], ''), target['legendFormat'])
                ax.plot([x - time.time() for x in t], values, label=label)
        ax.set(title=panel['title'], ylabel=panel['description'], xlabel='time before now, s')
        ax.legend(fontsize=6, frameon=False)
    fig.savefig(to, dpi=110)
