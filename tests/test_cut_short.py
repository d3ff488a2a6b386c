"Training and export cut short: by a full disk, and by ctrl-C in the middle of an epoch."
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from edgecar.data.synthetic import synthetic_tub

pytestmark = pytest.mark.slow

# A full disk. Every program makes what it is going to write; from its
# `full()` on there is no room, and nothing in `folder` may change.

START = '''
import atexit, resource, sys
from pathlib import Path
import numpy as np
folder, how = Path(sys.argv[1])/'out', sys.argv[2]
folder.mkdir()

def files():
    return {p.name: p.read_bytes() for p in folder.iterdir()}

def full():
    before = files()
    atexit.register(lambda: print('untouched' if files() == before
                                  else f'{sorted(before)} became {sorted(files())}', len(before), 'files'))
    if how == 'limit':
        # Python ignores SIGXFSZ: writes fail
        return resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    with open(folder.parent/'filler', 'wb', buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError as e:
            assert e.errno == 28
'''
TRAIN = START + '''
from edgecar.data.frames import load_recording
from edgecar.data.split import split_by_time
from edgecar.pilot.train import Training, train
rec = load_recording([sys.argv[3]], size=(66, 80), cache=sys.argv[3] + '/.cache', bar=False)
train(rec, split_by_time(rec.session), Training(epochs=3), resume=folder,
      on_epoch=lambda h: h['epoch'] == 1 and full(), bar=False)
'''
SAVE = START + '''
from edgecar.pilot.model import make_kind
from edgecar.pilot.train import save_model
k = make_kind('edge')
pilot = k.whole(k.net())
(folder/'pilot.h5').write_text('the pilot of yesterday')
full()
save_model(folder/'pilot.h5', pilot)
'''
EXPORT = START + '''
from edgecar.pilot.export import EXPORT_FILES, export_formats
from edgecar.pilot.model import make_kind
k = make_kind('edge')
net = k.net()
for name in EXPORT_FILES:
    (folder/f'{name}.tflite').write_text('the pilot of yesterday')
full()
export_formats(net, k, np.zeros((3, 120, 160, 3), np.uint8), folder)
'''
MOUNT = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c',
         'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"']
MAY_MOUNT = (shutil.which('unshare')
             and subprocess.run([*MOUNT, '/mnt', 'true'], capture_output=True).returncode == 0)


@pytest.fixture
def tub(tmp_path):
    return synthetic_tub(tmp_path/'tub', n=200, size=(66, 80), seed=3)


WRITES = {  # what: the program, the file that it cannot write, how many there are, ways to be full
    'resume file': (TRAIN, r'edge-\w+\.npz', 1, ['limit']),
    # HDF5 by itself would end with a segmentation fault
    'pilot.h5': (SAVE, r'pilot\.h5', 1, ['limit', 'disk']),
    'tflite': (EXPORT, r'float32\.tflite', 3, ['disk']),   # the converter has files of its own, elsewhere
}


@pytest.mark.parametrize('what, how', [
    (what, how) for what, (*_, ways) in WRITES.items() for how in ways if how == 'limit' or MAY_MOUNT])
def test_full_disk_while_writing_a_model(tmp_path, tub, what, how):
    "A limit of bytes a file, and a real file system of 4 MB where it may be mounted."
    program, name, there, _ = WRITES[what]
    (disk := tmp_path/'disk').mkdir()
    done = subprocess.run([*([*MOUNT, disk] if how == 'disk' else []), sys.executable, '-c', program, disk,
                           how, tub], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    *_, last = done.stderr.splitlines()
    assert done.stdout == f"untouched {there} files\n", done.stderr
    assert re.fullmatch(rf'edgecar\.contracts\.error\.EdgecarError: {disk}/out/{name}: '
                        r'no room left while writing \(.*\) -> free some disk space and run it again; '
                        r'the previous file is untouched', last), last
    assert 'Exception ignored' not in done.stderr


# Ctrl-C. The training that is to be interrupted says when it is in the
# middle of epoch 2, and would wait for the signal after epoch 4.

EPOCHS = 6
LAPS = '''
import hashlib, json, signal, sys, threading
from edgecar.data.frames import load_recording
from edgecar.data.split import split_by_time
from edgecar.pilot.train import Training, train
# a parent in the background may have left it ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
tub, resume, epochs, interrupt = sys.argv[1], sys.argv[2], int(sys.argv[3]), len(sys.argv) > 4
rec = load_recording([tub], size=(66, 80), cache=tub + '/.cache', bar=False)

def tell(h):
    print('epoch', h['epoch'], flush=True)
    if interrupt and h['epoch'] == 1:
        threading.Timer(.05, print, ['now'], {'flush': True}).start()
    if interrupt and h['epoch'] == 4:
        signal.pause()

net, _, history = train(rec, split_by_time(rec.session), Training(epochs=epochs), resume=resume,
                        on_epoch=tell)
print(hashlib.sha256(b''.join(w.tobytes() for w in net.get_weights())).hexdigest(), json.dumps(history))
'''


def test_ctrl_c_then_the_same_bits(tmp_path, tub):
    def command(resume, *more):
        return [sys.executable, '-c', LAPS, tub, tmp_path/resume, str(EPOCHS), *more]
    with subprocess.Popen(command('state', 'interrupt'), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as p:
        try:
            while p.stdout.readline() not in ('now\n', ''):
                pass
            p.send_signal(signal.SIGINT)
            _, errors = p.communicate(timeout=60)
        finally:
            p.kill()
    assert p.returncode and 'KeyboardInterrupt' in errors, errors
    state, = (tmp_path/'state').iterdir()    # nothing half written beside it
    with np.load(state) as z:
        done = len(json.loads(str(z['history'])))
    assert 2 <= done < EPOCHS

    def run(resume):
        return subprocess.run(command(resume), capture_output=True, text=True,
                              check=True, timeout=60)
    resumed, whole = run('state'), run('other')
    def begun(ended):
        return re.search(rf' (\d)/{EPOCHS} ', ended.stderr)[1]    # the bar's first number
    assert (begun(resumed), begun(whole)) == (str(done), '0')
    assert resumed.stdout == whole.stdout and re.search(r'^[0-9a-f]{64} \[', whole.stdout, re.M)
