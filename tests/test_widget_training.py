"The live training in a real browser: a real training is started, watched, stopped, and goes on."
import sys
from pathlib import Path

import numpy as np
import pytest
from support.browser import needs_browser
from support.views import click, press, served

from edgecar.core import repo_root
from edgecar.data.synthetic import synthetic_tub
from edgecar.widgets.training import TrainingWatch

ROOT = repo_root(Path(__file__).parent)
pytestmark = [pytest.mark.slow, needs_browser]
VIEW = "document.querySelector('.edgecar-widget')"
STATUS = "document.querySelector('.status')?.textContent"
EPOCHS, LEAST = 60, 2   # in all; before it is stopped
TRAIN = f'''
import numpy as np
from dvclive import Live
from edgecar.contracts.params import Training
from edgecar.data.frames import load_recording
from edgecar.data.split import split_by_time
from edgecar.pilot.correction import record_corrections
from edgecar.pilot.gate import read_bounds
from edgecar.pilot.rehearsal import rehearsal
from edgecar.pilot.rollout import RolloutWorkers
from edgecar.pilot.train import log_epochs, train
from edgecar.sim.record import RecordingRecipe
rec = load_recording(['tub'], cache='frames', bar=False)
cfg = Training(epochs=1, rounds=1, round_epochs={EPOCHS - 1}, dropout=.1)
correct = record_corrections(RecordingRecipe('donkey'), 1, 100, bar=False)
with Live('build/train/live', dvcyaml=None, save_dvc_exp=False) as live, RolloutWorkers(2) as drivers:
    exam = rehearsal(read_bounds({str(ROOT)!r}), drivers, tracks=8, trouble=2, steps=60)
    train(rec, split_by_time(rec.session), cfg, resume='.cache/resume', on_epoch=log_epochs(live), bar=False,
          correct=correct, rehearse=exam)
'''


def test_widget_training_is_watched_stopped_and_goes_on(browser, tmp_path):
    synthetic_tub(tmp_path/'tub', n=200)
    (tmp_path/'dvc.yaml').touch()
    browser.ask('Emulation.setDeviceMetricsOverride', width=1366, height=768, deviceScaleFactor=1,
                mobile=False)
    watch = TrainingWatch(tmp_path, [sys.executable, '-c', TRAIN])
    with served(watch) as page:
        browser.ask('Page.navigate', url=page.url)
        browser.wait(f"{STATUS} == 'at rest: no epoch yet'")
        click(browser, '[data-act=start]')
        browser.wait(f'{VIEW}.dataset.epochs >= {LEAST}', 120)
        press(browser, 'x')
        browser.wait(f"{STATUS}?.startsWith('stopped: epoch ')")
        assert watch.stage.process.poll() is not None
        browser.wait(f'{VIEW}.dataset.laps >= 1', 60)   # by the pilot of the round
        assert 'carried back' in browser.value("document.querySelector('.race figcaption').textContent")
        before = int(browser.value(f'{VIEW}.dataset.epochs'))
        assert LEAST <= before < EPOCHS
        kept, = (tmp_path/'.cache/resume').glob('*.npz')
        with np.load(kept) as state:
            begun = str(state['history'])
        browser.picture().save(tmp_path/'stopped.png')

        press(browser, 'r')
        browser.wait(f"{STATUS}?.startsWith('trains for ')")
        browser.wait(f"{STATUS} == 'done: epoch {EPOCHS}, round 1'", 180)
        losses = (tmp_path/'build/train/live/plots/metrics/loss.tsv').read_text().splitlines()[1:]
        assert len(losses) == EPOCHS
        assert losses[0].split('\t')[1] in begun   # it went on, and did not begin again
        assert not kept.exists()
        browser.wait("document.querySelectorAll('.exams tbody tr').length >= 1")
        browser.picture().save(tmp_path/'done.png')
        assert not browser.said
    print(tmp_path)
