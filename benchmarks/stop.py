"""How far the car still drives after a fault, in the twin at its top speed, rolling as a real car rolls.

    .venv/bin/python benchmarks/stop.py     # about 10 minutes on 2 idle cores

Each trial is a drive of `edgecar campaign` with one fault, in the mode where it matters: the loop with its
processes, the page's client behind a relay, one drive at a time. Metres count from the fault: what the car
drives until the first neutral after which it stays in neutral, by the simulator's log, and what it then rolls
with neutral alone, computed by the vehicle of nbs/sim/03_vehicle.ipynb from the speed at that moment
(`coast_m`), whatever the twin does in neutral. `driven_*` leaves the rolling out: it is what software can
shorten. A stall of the machine, which a bare timer sees, is subtracted from the milliseconds, not from the
metres. The last line is JSON: `metres_p50`, `metres_max`, `ms_p99`, and the same by cause.
"""
import argparse
import json
import sys
import tempfile
import time

import numpy as np

from edgecar.campaign.report import neutral_times
from edgecar.campaign.series import ScheduleRunner
from edgecar.campaign.stage import CampaignWorld
from edgecar.contracts.fault import DRIVE_FAULTS, FaultSchedule, ScheduledFault
from edgecar.core import EdgecarError

CAUSES = [name for name, about in DRIVE_FAULTS.items() if about.stops and name not in ('release', 'arm')]


def trial(runner, cause, moment_s):
    "Drive with one fault; return its `NeutralTime`s, none where the car did not get rolling."
    about = DRIVE_FAULTS[cause]
    lasts_s = 0. if about.latches or about.ends or cause == 'reset' else .9
    fault = ScheduledFault(cause, moment_s, lasts_s, about.low)
    mode = 'local' if about.pilot else 'user'
    try:
        runner.drive(FaultSchedule(mode=mode, length_s=moment_s + lasts_s + 1., faults=(fault,)))
    except EdgecarError as e:
        print(f'{cause:10} {e}', flush=True)
        return []
    return [t for t in neutral_times(runner.evidence) if t.cause == cause]


def figures(times):
    "Return the numbers of some `NeutralTime`s."
    if not times:
        return dict(n=0)
    metres, driven = ([t.driven_m + t.rolled_m for t in times], [t.driven_m for t in times])
    ms = [t.took_ms for t in times if np.isfinite(t.took_ms)]
    return dict(n=len(times), metres_p50=round(float(np.median(metres)), 2), metres_max=round(max(metres), 2),
                driven_p50_m=round(float(np.median(driven)), 2), driven_max_m=round(max(driven), 2),
                ms_p99=round(float(np.percentile(ms, 99)), 1) if ms else None, unbounded=len(times) - len(ms))


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('--trials', type=int, default=2, help='of each cause')
    ask.add_argument('--causes', default=','.join(CAUSES), help='with commas')
    asked, by_cause, began = ask.parse_args(), {}, time.monotonic()
    causes = asked.causes.split(',')
    if unknown := set(causes) - set(CAUSES):
        sys.exit(f'no cause is called {min(unknown)!r} -> one or more of {", ".join(CAUSES)}')
    with tempfile.TemporaryDirectory() as folder, CampaignWorld(folder) as world:
        runner = ScheduleRunner(world)
        for cause in causes:
            moments = np.linspace(.1, .2, asked.trials).round(3).tolist()
            times = [t for moment_s in moments for t in trial(runner, cause, moment_s)]
            by_cause[cause] = figures(times) | dict(times=times)
            print(f'{cause:10} {figures(times)}', flush=True)
    every = [t for x in by_cause.values() for t in x.pop('times')]
    print(json.dumps(figures(every) | dict(by_cause=by_cause, took_s=round(time.monotonic() - began, 1))))


if __name__ == '__main__':
    main()
