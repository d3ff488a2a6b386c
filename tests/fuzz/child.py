"""A process that runs inputs through one target, and says what each cost.

It reads a length (4 bytes) and an input, again and again, and answers each with a line of JSON.
`peak_mb` is the most that the process held more than before the input: the kernel's mark of the most (VmHWM)
is set back before each input, through /proc/self/clear_refs. Where that is not allowed the mark only grows,
and so an input may be charged with less than it took, but never the dearest one.
"""
import json
import os
import resource
import struct
import sys
import time
import traceback
from pathlib import Path

ROOM_MB = 2048   # of address space, beyond what the process has when it is ready: no bomb takes the machine


def status_mb(key):
    with open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key))/1024


def reset_peak():
    try:
        with open('/proc/self/clear_refs', 'w') as f:
            f.write('5')
    except OSError:
        pass


def measured(run, name, data):
    "Run an input; return what it raised and cost."
    reset_peak()
    before_mb, began_s = status_mb('VmRSS'), time.process_time()
    try:
        said = dict(error=run(name, data), defect='')
    except BaseException as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        said = dict(error=type(e).__name__, where=f'{os.path.basename(where.filename)}:{where.lineno}',
                    defect=f'{type(e).__name__}: {str(e)[:200]}')
        said |= dict(trace=traceback.format_exc(limit=-6)[-3000:])
    cpu_s = time.process_time() - began_s
    return said | dict(peak_mb=round(max(status_mb('VmHWM') - before_mb, 0), 1), cpu_s=round(cpu_s, 3))


def main(name):
    answers, inputs = os.fdopen(os.dup(1), 'w'), sys.stdin.buffer
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)   # libraries talk
    os.dup2(quiet, 2)
    import logging
    logging.disable(logging.CRITICAL)
    from edgecar.core import import_donkeycar
    import_donkeycar()
    from fuzz.targets import run
    usual = sorted((Path(__file__).parent/'corpus'/name).glob('*'), key=lambda f: (f.name != 'usual', f.name))
    for file in usual[:1]:
        measured(run, name, file.read_bytes())   # so that imports and compilers are no input's cost
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = int((status_mb('VmSize') + ROOM_MB)*2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answers.write('{}\n')
    answers.flush()
    while head := inputs.read(4):
        data = inputs.read(struct.unpack('<I', head)[0])
        answers.write(json.dumps(measured(run, name, data)) + '\n')
        answers.flush()


if __name__ == '__main__':
    main(sys.argv[1])
