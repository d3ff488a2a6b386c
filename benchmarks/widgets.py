"""How soon a frame is seen after a person asks for it: random jumps in a tub of 100,000 records, in Chromium.

Run `.venv/bin/python benchmarks/widgets.py`; progress goes to stderr, the last line is JSON.

A jump is a click on the line of the whole tub. It is timed by the browser's own clock: from the event of the
mouse to the message that follows the picture in which the frame is painted. No frame is asked for twice.
The system forgets each file before, so that it is read from the disk.
"""
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from edgecar.core import repo_root
from edgecar.data.synthetic import synthetic_tub
from edgecar.data.tub import find_tubs
from edgecar.widgets.tub_manager import TubManager

TESTS = repo_root(Path(__file__).parent)/'tests'
sys.path.insert(0, str(TESTS/'support'))
RECORDS, JUMPS, WARM_UP = 100_000, 200, 5
PAUSE_S = .3   # between jumps, as a person makes them
WATCH = """
  window.jumps = []
  const root = document.querySelector('.edgecar-widget')
  let begun = null
  root.addEventListener('pointerdown', event => (begun = event.timeStamp), { capture: true })
  root.addEventListener('frame', event => {
    if (begun === null) return
    const [since, place] = [begun, event.detail.place]
    begun = null
    requestAnimationFrame(() => {
      const after = new MessageChannel()
      after.port1.onmessage = () => jumps.push([place, performance.now() - since])
      after.port2.postMessage('')
    })
  })
"""


def source_pictures():
    "Return files of frames: of the starter recording where it is there, else drawn ones."
    tubs = find_tubs(repo_root()/'data') if (repo_root()/'data').is_dir() else []
    tub = tubs[0] if tubs else synthetic_tub(Path(tempfile.mkdtemp())/'toy', n=500)
    return sorted((tub/'images').iterdir())[:2000]


def own_pictures(tub, count):
    "Give each record of a tub a file of its own, so that no two share what the system has read."
    sources = [file.read_bytes() for file in source_pictures()]
    for i in range(count):
        (tub/f'images/{i}_cam_image_array_.jpg').write_bytes(sources[i % len(sources)])


def forget(files):
    "Bring files to the disk, and make the system forget what it knows of them."
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        os.fsync(fd)   # only what is on the disk can be forgotten
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def jump_times(browser, page, tub):
    "Return the ms of each jump: click, and wait until the frame has been painted."
    from views import box, mouse
    browser.ask('Page.navigate', url=page.url)
    browser.wait("document.querySelector('.edgecar-widget')?.dataset.place == '0'")
    browser.value(WATCH)
    x, y, width, height = box(browser, '.whole')
    pixels = random.Random(1).sample(range(round(x) + 5, round(x + width) - 5), JUMPS + WARM_UP)
    places = [int((pixel - x)/width*RECORDS) for pixel in pixels]
    forget(tub/f'images/{place + by}_cam_image_array_.jpg' for place in places for by in (-1, 0, 1))
    for number, pixel in enumerate(pixels, 1):
        for kind, buttons in (('Pressed', 1), ('Released', 0)):
            mouse(browser, kind, pixel, y + height/2, buttons)
        browser.wait(f'jumps.length == {number}', 20)
        time.sleep(PAUSE_S)
    jumps = browser.value('jumps')
    assert all(abs(shown - place) <= 1 for (shown, _), place in zip(jumps, places)), 'another frame was seen'
    return [ms for _, ms in jumps[WARM_UP:]]


def main():
    from browser import BROWSER, Browser
    from views import long_tub, served
    if not BROWSER:
        sys.exit('widgets: no Chromium -> apt-get install chromium')
    folder = Path(tempfile.mkdtemp())
    browser = None
    try:
        tub = long_tub(folder/'tub', RECORDS, RECORDS)
        own_pictures(tub, RECORDS)
        print(f'{RECORDS} records written', file=sys.stderr)
        with served(TubManager(tub, pixels=True)) as page:
            browser = Browser(folder/'browser')
            times = jump_times(browser, page, tub)
            browser.close()
    finally:
        if browser:
            browser.process.kill()
            browser.process.wait()
        shutil.rmtree(folder)
    cuts = statistics.quantiles(times, n=100)
    figures = dict(scrub_p50_ms=cuts[49], scrub_p95_ms=cuts[94], scrub_max_ms=max(times))
    print(json.dumps(dict(records=RECORDS, jumps=JUMPS, **{k: round(v, 1) for k, v in figures.items()})))


if __name__ == '__main__':
    main()
