"Findings of the review of safety, put back one by one into a copy of the package: what a campaign must find."
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)


@dataclass(frozen=True)
class Finding:
    "A fault of the package as it once was, and what a campaign sees of it."
    patches:tuple       # (module, text as it is, text as it was)
    promises:set        # that a campaign finds broken, one at least
    kinds:tuple         # of the faults that show it, for the hunt
    profile:dict = field(default_factory=dict)   # of the drive
    always:tuple = ()   # patches that hold with and without the finding


# A twin that counts as a car, so that the rules for a car can be seen without one
AS_A_CAR = (('car/drive.py', "[0] not in ('mock', 'twin')", "[0] not in ('mock',)"),)
FINDINGS = {
    1: Finding((('car/owner.py', 'now - min(rule.heard, caused_s) > rule.forget_s',
                 'now - rule.heard > rule.forget_s'),), {'arming'},
               ('stall', 'sleep', 'frame', 'arm')),
    4: Finding((('car/drive.py', "self.attended or self.moves_a_car and 'unattended' not in self.allowed",
                 'self.attended'),), {'late', 'arming'}, ('stall', 'client', 'sleep'),
               dict(attended=False, allow='unreleased'), AS_A_CAR),
    5: Finding((('web/arbiter.py', "'echo' in message and self.clock() - message['echo']/1e3 > self.old_s",
                 'False'),), {'late', 'stop'}, ('uplink', 'stop')),
    6: Finding((('car/drive.py', 'ActuatorProcess(self.actuator).shutdown()', 'pass'),), {'late'},
               ('owner',)),
    7: Finding((('car/drive.py', 'HOLD_OFF_S = .5', 'HOLD_OFF_S = 0.'),), {'stop'},
               ('signal', 'enter', 'release', 'arm')),
    8: Finding((('car/guard.py', 'while os.read(file, 4096):',
                 "for _ in open(file, encoding='utf-8', closefd=False):"),), {'stop', 'late'},
               ('key', 'enter')),
    13: Finding((('car/drive.py', 'except Exception as e:   # whatever it is, the part is needed',
                  'except ZeroDivisionError as e:'),
                 ('car/drive.py', '(EdgecarError, OSError, ValueError) as e:', 'OSError as e:')),
                {'recovery'}, ('odd',)),
}


def package_with(number, folder, broken=True):
    "Copy the package into a folder and put a finding back; return what a process needs in its environment."
    finding = FINDINGS[number]
    copy = Path(folder)/'edgecar'
    shutil.copytree(ROOT/'edgecar', copy)
    for module, now, then in (*finding.always, *(finding.patches if broken else ())):
        text = (copy/module).read_text()
        assert text.count(now) == 1, f'{module} has changed: put finding {number} back in another way'
        (copy/module).write_text(text.replace(now, then))
    path = [str(folder), *filter(None, [os.environ.get('PYTHONPATH')])]
    return dict(PYTHONPATH=os.pathsep.join(path))
