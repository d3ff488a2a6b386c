"""Runs inputs through targets, each target in a process of its own, and judges what they cost."""

import json
import os
import select
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / 'corpus'
MOST_MB = 200  # of memory that an input of 1 MB may take
MOST_S = 20  # of CPU time, likewise
HANGS_S = 250  # of any time: a busy machine gives a megabyte of `{}` two minutes for its 13 s of work


def child_environment():
    "Return the environment of a process that runs a target."
    folders = HERE.parent, HERE.parent.parent
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(map(str, folders)), TF_CPP_MIN_LOG_LEVEL='3',
                            OMP_NUM_THREADS='1')
    in_memory = dict(TMPDIR='/dev/shm') if os.access('/dev/shm', os.W_OK) else {}
    return env | in_memory   # a tub is written for every input


class Child:
    "A process that runs a target; it is started again when an input ends it."

    def __init__(self, name):
        self.name, self.process = name, None

    def _start(self):
        command = [sys.executable, '-m', 'fuzz.child', self.name]
        self.process = subprocess.Popen(command, env=child_environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        if self._answer(HANGS_S) != {}:
            raise RuntimeError(f'{self.name} does not start: python -m fuzz.child {self.name}')

    def _answer(self, most_s):
        "Return the process's answer; None when it has ended, or does not come in time."
        if not select.select([self.process.stdout], [], [], most_s)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith(b'\n') else None

    def run(self, data):
        "Run an input; return what it raised and cost, as `fuzz.child` says it, and `defect`, maybe empty."
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(struct.pack('<I', len(data)) + data)
            self.process.stdin.flush()
            answer = self._answer(HANGS_S)
        except BrokenPipeError:
            answer = None
        if answer is None:
            hangs = self.process.poll() is None and not select.select([self.process.stdout], [], [], 0)[0]
            self.close()
            how = (
                f'no end in {HANGS_S} s' if hangs else f'ended by {-self.code}' if self.code < 0 else 'ended'
            )
            with_name = how if self.code >= 0 or hangs else f'ended by {signal.Signals(-self.code).name}'
            return dict(error='', defect=with_name, where=with_name, peak_mb=0.0, cpu_s=0.0)
        if not answer['defect'] and answer['peak_mb'] > MOST_MB:
            answer |= dict(defect=f'{answer["peak_mb"]} MB', where='memory')
        if not answer['defect'] and answer['cpu_s'] > MOST_S:
            answer |= dict(defect=f'{answer["cpu_s"]} s', where='time')
        return answer

    def close(self):
        "End the process."
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            self.code = self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.code = self.process.wait()
        self.process.stdout.close()
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclass
class Tally:
    "What a target did so far."

    executions: int = 0
    accepted: int = 0  # inputs that raised nothing
    peak_mb: float = 0.0
    cpu_s: float = 0.0  # of the dearest input
    defects: dict = field(default_factory=dict)  # where -> (what, the shortest input)

    def add(self, data, answer):
        self.executions += 1
        self.accepted += not answer['error'] and not answer['defect']
        self.peak_mb, self.cpu_s = max(self.peak_mb, answer['peak_mb']), max(self.cpu_s, answer['cpu_s'])
        if answer['defect']:
            where = f"{answer['error']} {answer['where']}"
            if where not in self.defects or len(data) < len(self.defects[where][1]):
                self.defects[where] = answer['defect'] + '\n' + answer.get('trace', ''), data


def seeds_of(name):
    "Return the inputs of a target in the corpus: {label: bytes}."
    return {f.name: f.read_bytes() for f in sorted((CORPUS / name).iterdir())}
