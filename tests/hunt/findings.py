"""Put each finding back into a copy of the package, and have a campaign find it; run by hand:

    .venv/bin/python tests/hunt/findings.py            # all, some minutes each
    .venv/bin/python tests/hunt/findings.py 5 7        # these
    .venv/bin/python tests/hunt/findings.py 1 7 --browser   # with the page's own script, in Chromium

The first seed that breaks a promise of the finding, and keeps it without the finding, is made shorter and
stored as tests/campaign/finding-N.json, which tests/test_campaign.py drives again. The last line is JSON.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.put_back import FINDINGS, ROOT, package_with

from edgecar.campaign.report import film_drive
from edgecar.campaign.schedule import generate_schedule, shrink_schedule
from edgecar.campaign.series import ScheduleRunner
from edgecar.campaign.stage import CampaignDrive, CampaignWorld, tell_process
from edgecar.core import EdgecarError


def schedule_of(number, seed, without=()):
    "Return the schedule of a seed, of the kinds that may show a finding."
    kinds = tuple(kind for kind in FINDINGS[number].kinds if kind not in without)
    schedule = generate_schedule(seed, kinds)
    local = number == 4 or schedule.mode == 'local' and number != 5
    return replace(schedule, mode='local' if local else 'user', throttle=.5 if number == 4 else 1.)


def hunt(number, world, folder, seeds, without=()):
    "Return the seed that finds a finding, and the shortest schedule; None, None when none does."
    finding = FINDINGS[number]
    bad, good = (ScheduleRunner(world, profile=finding.profile,
                                env=package_with(number, folder/str(broken), broken))
                 for broken in (True, False))
    for seed in range(seeds):
        schedule = schedule_of(number, seed, without)
        try:
            broken = {b.promise for b in bad.judge(schedule)} & finding.promises
            found = broken and not good.judge(schedule)
        except EdgecarError as e:
            print(f'finding {number}, seed {seed}: {e}', flush=True)
            continue
        print(f'finding {number}, seed {seed}: {", ".join(sorted(broken)) or "held"}', flush=True)
        if found:
            short = shrink_schedule(schedule, bad.breaks(broken), 20)
            bad.drive(short)
            film_drive(ROOT/f'runs/finding-{number}.webp', bad.evidence)
            return seed, short
    return None, None


def open_browser(drive):
    "Start Chromium as the page's client of a drive; see browser_driver.py."
    words = [Path(__file__).with_name('browser_driver.py'), drive.port, drive.folder/'acts']
    drive.client = subprocess.Popen([sys.executable, *map(str, words)], env=drive.env, stdin=subprocess.PIPE)
    if drive.schedule.mode == 'user':
        tell_process(drive.client, throttle=drive.schedule.throttle, angle=drive.schedule.steering)


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('numbers', type=int, nargs='*', help='of the findings; all if none is named')
    ask.add_argument('--seeds', type=int, default=20, help='to try for each')
    ask.add_argument('--browser', action='store_true', help="the page's own script; keeps no schedule")
    asked, found = ask.parse_args(), {}
    without = ('sleep', 'client') if asked.browser else ()   # these stop the process of another client
    if asked.browser:
        CampaignDrive.start_client = open_browser
    (ROOT/'runs').mkdir(exist_ok=True)
    for number in asked.numbers or FINDINGS:
        with tempfile.TemporaryDirectory() as folder, CampaignWorld(folder) as world:
            found[number], short = hunt(number, world, Path(folder), asked.seeds, without)
        if short and not asked.browser:
            (ROOT/f'tests/campaign/finding-{number}.json').write_text(short.to_json())
    print(json.dumps(found))
    sys.exit(None in found.values())


if __name__ == '__main__':
    main()
