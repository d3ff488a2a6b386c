"What a drive leaves: its processes, what its wheels were told, its tubs."
from pathlib import Path

from edgecar.car.record import tub_number
from edgecar.data.check import find_faults
from edgecar.data.tub import Tub, find_tubs


def outputs(log):
    return [tuple(map(float, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def children(pid, room):
    "Processes of that room which a drive has started."
    pids = []
    for p in Path('/proc').glob('[0-9]*'):
        try:
            words, parent = ((p/'cmdline').read_bytes().split(b'\0'),
                             int((p/'stat').read_text().rpartition(')')[2].split()[1]))
        except (OSError, IndexError, ValueError):
            continue
        if parent == pid and f'edgecar.car.{room}'.encode() in words:
            pids.append(int(p.name))
    return pids


def sound(folder):
    "Records of all tubs, which have no fault but what a killed writer leaves."
    tubs = sorted(find_tubs(folder), key=tub_number)
    assert [f for t in tubs for f in find_faults(t)
            if f.kind not in ('unlisted catalog', 'leftover file')] == []
    return sum(len(Tub(t)) for t in tubs)
