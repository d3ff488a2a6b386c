"""Fuzzes a target with atheris, which sees what inputs reach: `python -m fuzz.guided TARGET FOLDER ...`.

The folder gets every input that reached something new; further words are libFuzzer's. It needs `pip install
atheris`, which nothing else here does. What numba compiles is not instrumented.
"""
import sys
from pathlib import Path

import atheris

from fuzz.runner import seeds_of
from fuzz.targets import run

SEEN = ['edgecar.contracts', 'edgecar.core', 'edgecar.data', 'edgecar.pilot', 'edgecar.car', 'edgecar.web',
        'edgecar.release', 'edgecar.sim.protocol', 'edgecar.sim.client']
SIM = Path(__file__).parents[2]/'edgecar/sim'
COMPILED = [f'edgecar.sim.{file.stem}' for file in SIM.glob('*.py') if f'edgecar.sim.{file.stem}' not in SEEN]


def main(name, *words):
    with atheris.instrument_imports(include=SEEN, exclude=COMPILED):
        for data in seeds_of(name).values():
            run(name, data)   # which imports what the target needs
    atheris.Setup([f'fuzz {name}', *words], lambda data: run(name, data) and None)
    atheris.Fuzz()


if __name__ == '__main__':
    main(*sys.argv[1:])
