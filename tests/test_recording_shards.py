"""Long recordings: killed in the middle, sent to a real S3 server, made by other numbers of workers."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.s3 import BUCKET, S3Server

from edgecar.contracts.digest import folder_md5
from edgecar.core import EdgecarError
from edgecar.sim.record import RecordingRecipe
from edgecar.sim.shards import record_long

RECIPE = RecordingRecipe(tracks='oval,seed:3', frames=15, episode=10)
RECORD = '''
import json, sys
from edgecar.sim.record import RecordingRecipe
from edgecar.sim.shards import record_long
recipe, to, total, send = json.loads(sys.argv[1])
record_long(to, RecordingRecipe(**recipe), total, send, workers=2)
'''


def recording(to, total, send=False, **env):
    "Start a long recording as a process of its own."
    words = json.dumps([vars(RECIPE), str(to), total, send])
    return subprocess.Popen([sys.executable, '-c', RECORD, words], env=os.environ | env, cwd=Path(to).parent,
                            stderr=subprocess.PIPE, text=True, process_group=0)


def killed_after(process, ready):
    "Kill a recording as soon as `ready()`; its workers end by themselves, as after a crash."
    end = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_and_asked_again_it_has_the_same_bytes(tmp_path):
    whole = record_long(tmp_path/'whole', RECIPE, 100, workers=1, bar=False)
    tubs = tmp_path/'.long.part/tubs'
    killed_after(recording(tmp_path/'long', 100), lambda: len([*tubs.glob('0*')]) >= 2)
    left = {path.name: path.stat().st_mtime_ns for path in tubs.glob('0*')}
    assert not (tmp_path/'long').exists()
    again = recording(tmp_path/'long', 100)
    assert again.wait(120) == 0, again.communicate()[1]
    again.communicate()
    assert folder_md5(tmp_path/'long') == folder_md5(whole)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path/'long').iterdir()}
    assert left.items() <= kept.items()   # nothing was made twice
    assert sorted(path.name for path in tmp_path.iterdir()) == ['long', 'whole']


def test_the_beginning_of_another_recording_is_left_alone(tmp_path):
    tubs = tmp_path/'.long.part/tubs'
    killed_after(recording(tmp_path/'long', 60), lambda: len([*tubs.glob('0*')]) >= 1)
    before = {path for path in tubs.glob('0*')}
    with pytest.raises(EdgecarError, match='differs in recipe'):
        record_long(tmp_path/'long', replace(RECIPE, seed=2), 60, bar=False)
    with pytest.raises(EdgecarError, match='differs in total_frames'):
        record_long(tmp_path/'long', RECIPE, 75, bar=False)
    assert before <= {path for path in tubs.glob('0*')}


@pytest.fixture
def server(tmp_path):
    it = S3Server(tmp_path/'s3')
    yield it
    it.stop()


@pytest.fixture
def clone(tmp_path, server):
    "Make a repository of DVC whose remote is the server's bucket."
    (folder := tmp_path/'clone').mkdir()
    for words in ('git init -q', 'dvc init -q', f'dvc remote add -q -d store s3://{BUCKET}/pins',
                  f'dvc remote modify store endpointurl {server.endpoint}'):
        subprocess.run(words.split(), cwd=folder, check=True)
    (folder/'dvc.yaml').touch()
    (folder/'settings.ini').touch()   # where `repo_root` ends
    return folder


@pytest.mark.slow
def test_sent_it_is_what_a_pull_brings(clone, server, tmp_path):
    sent = clone/'.big.part/done.jsonl'
    killed_after(recording(clone/'big', 100, True, **server.env),
                 lambda: sent.exists() and sent.read_text().count('\n') >= 2)
    again = recording(clone/'big', 100, True, **server.env)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert not (clone/'big').exists() and not (clone/'.big.part').exists()
    pulled = subprocess.run([sys.executable, '-m', 'dvc', 'pull', '-q', 'big.dvc'], cwd=clone,
                            env=os.environ | server.env, capture_output=True, text=True)
    assert pulled.returncode == 0, pulled.stderr
    whole = record_long(tmp_path/'whole', RECIPE, 100, workers=2, bar=False)
    assert folder_md5(clone/'big') == folder_md5(whole)


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_is_an_error_and_costs_nothing(clone, server):
    sent = clone/'.big.part/done.jsonl'
    process = recording(clone/'big', 300, True, **server.env)
    while not (sent.exists() and sent.read_text().count('\n') >= 2):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(.02)
    server.stop()
    _, said = process.communicate(timeout=200)
    assert process.returncode and 'the remote does not take it' in said, said[-2000:]
    assert sent.read_text().count('\n') >= 2 and not (clone/'big.dvc').exists()
