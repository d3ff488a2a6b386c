"""What the steps of the pipelines take: seconds, seconds of a core, and the most memory of each, with all of
its processes. `.tekton/` asks for that much.

    .venv/bin/python benchmarks/steps.py            # after make repro; about 5 minutes on 2 idle cores
    .venv/bin/python benchmarks/steps.py train      # one of STEPS; train takes its time

It runs the commands of `.tekton/` in this clone, and leaves what they leave. `edgecar release plan` shows the
seconds of the last run.
"""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from edgecar.core import read_json, repo_root, write_json
from edgecar.release.plan import STEPS_FILE

ROOT = repo_root(Path(__file__).parent)
DRIVES = ('import tempfile; from edgecar.pilot.proof import prove_pilot; '
          'prove_pilot("build/bundle/twin/pilot.tflite")')
STEPS = {   # of a release
    'check': ['edgecar', 'release', 'check', 'v0.1.0', '--wheel', '{}'],
    'evaluate': ['edgecar', 'release', 'evaluate'],
    'bundle-twin': ['dvc', 'repro', '--force', '-s', 'bundle@twin'],
    'build-twin': ['edgecar', 'release', 'build', 'twin'],
    'build-car': ['edgecar', 'release', 'build', 'car'],
    'prove-twin': [sys.executable, '-c', DRIVES],
    'report': ['edgecar', 'report', '--branch', 'HEAD', '--to', '{}'],
    # of a pull request alone
    **{stage: ['dvc', 'repro', '--force', '-s', stage] for stage in ('prepare', 'train', 'export', 'gate')},
}
SLOW = 'prepare', 'train', 'export', 'gate'   # only when asked for: they make what dvc.lock pins anew


def memory_mb(process):
    "Memory that a process and its children hold, shared pages counted once."
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return total/1e6


def measure(words):
    "Run a command; return its exit code, seconds, seconds of a core, and the most MB."
    before, most, ended = os.times(), [0.], threading.Event()
    began = time.monotonic()
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = psutil.Process(child.pid)

    def watch():
        while not ended.wait(.5):
            try:
                most[0] = max(most[0], memory_mb(process))
            except psutil.NoSuchProcess:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    child.wait()
    ended.set()
    thread.join()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return dict(code=child.returncode, s=round(time.monotonic() - began, 1), cpu_s=round(cpu, 1),
                mb=round(most[0]))


def main(*names):
    found = {}
    for name in names or [n for n in STEPS if n not in SLOW]:
        with tempfile.TemporaryDirectory() as d:
            found[name] = measure([word.format(d) if word == '{}' else word for word in STEPS[name]])
        print(f'{name:11} {found[name]}', flush=True)
        known = read_json(ROOT/STEPS_FILE) if (ROOT/STEPS_FILE).is_file() else {}
        write_json(ROOT/STEPS_FILE, known | found)
    print(json.dumps(found))


if __name__ == '__main__':
    main(*sys.argv[1:])
