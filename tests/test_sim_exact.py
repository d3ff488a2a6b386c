"Compiled kernels: read where nothing can be written, damaged, after an edit in another file, on another processor."
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgecar.core import root

ROOT = root(Path(__file__).parent)


@pytest.fixture
def package():
    "A copy of the library that every user may read, in a folder of its own."
    with tempfile.TemporaryDirectory() as d:
        shutil.copytree(ROOT/'edgecar', Path(d)/'edgecar', ignore=shutil.ignore_patterns('__pycache__'))
        os.chmod(d, 0o755)
        yield Path(d)
        for p in [Path(d), *Path(d).rglob('*')]: p.is_dir() and p.chmod(0o755)


def without_privilege():
    "Let root, too, be refused by a folder's mode: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."
    for capability in 1, 2: ctypes.CDLL(None).prctl(24, capability)


def run(package, code, before=None, **env):
    "What a Python process prints that sees only this copy of the library."
    env = {k: v for k, v in os.environ.items() if not k.startswith(('NUMBA_', 'XDG_'))} | dict(HOME=f'{package}/nobody', PYTHONPATH=str(package)) | env
    done = subprocess.run([sys.executable, '-B', '-c', code], cwd=package, env=env, preexec_fn=before, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FRAME = """if True:
    import sys
    from hashlib import sha256
    from numba.core.dispatcher import Dispatcher
    from edgecar.sim.env import Twin
    from edgecar.sim.expert import Expert
    env = Twin('club', random=1.)
    env.reset(seed=0)
    frame = env.step(Expert(env.car.track, env.car.vehicle)(env.car.row))[0]
    kernels = {k for name, m in list(sys.modules.items()) if name.startswith('edgecar') for k in vars(m).values() if isinstance(k, Dispatcher)}
    print(sha256(frame).hexdigest(), sum(sum(k.stats.cache_hits.values()) for k in kernels), sum(len(k.signatures) for k in kernels))"""


def close(package):
    for p in [package, *package.rglob('*')]: p.is_dir() and p.chmod(0o555)


def test_user_without_a_folder_to_write(package):
    close(package)
    frame, hits, kernels = run(package, FRAME, without_privilege)
    assert int(hits) == 0 < int(kernels) and not list(package.rglob('*.nb?'))


def test_code_left_by_set_up_is_read_where_nothing_can_be_written(package):
    run(package, 'from edgecar.sim.expert import warm; print(warm())')
    close(package)
    frame, hits, kernels = run(package, FRAME, without_privilege)
    assert hits == kernels != '0', 'nothing is compiled'
    assert [frame, hits, kernels] == run(package, FRAME, without_privilege, PYTHONHASHSEED='7')


@pytest.mark.slow
def test_damaged_code_is_compiled_again_and_mended(package):
    good = run(package, FRAME)
    for n, file in enumerate(sorted(package.rglob('*.nb?'))): file.write_bytes([b'', b'not a pickle', file.read_bytes()[:50]][n % 3])
    frame, hits, _ = run(package, FRAME)
    assert (frame, hits) == (good[0], '0')
    frame, hits, kernels = run(package, FRAME)
    assert frame == good[0] and hits == kernels


@pytest.mark.slow
def test_code_that_anybody_may_have_written_is_not_run(package):
    run(package, FRAME)
    (package/'edgecar/sim/__pycache__').chmod(0o777)
    assert run(package, FRAME)[1] == '0'


@pytest.mark.slow
def test_older_code_is_removed(package):
    old = package/'edgecar/sim/__pycache__/env._drive-1-0123456789abcdef.py311.nbi'
    old.parent.mkdir()
    old.touch()
    run(package, 'from edgecar.sim.expert import warm; print(warm())')
    assert not old.exists() and any(old.parent.glob('env._drive*.nbi'))


def test_edit_in_another_file_is_compiled(package):
    exact, late = package/'edgecar/sim/exact.py', package/'edgecar/sim/late.py'
    late.write_text('from edgecar.sim.exact import kernel, sin\n@kernel\ndef f(x): return sin(x) + 1\n')
    code = 'from edgecar.sim.late import f; print(f(.5), sum(f.stats.cache_hits.values()))'
    assert run(package, code) == ['1.479425538604203', '0']
    assert run(package, code) == ['1.479425538604203', '1']
    was = exact.stat()
    exact.write_text(exact.read_text().replace('z*(-1/6 +', 'z*(+1/6 +'))
    os.utime(exact, ns=(was.st_atime_ns, was.st_mtime_ns))   # as in an archive whose files all have one time
    assert exact.stat().st_size == was.st_size
    value, hits = run(package, code)
    assert float(value) > 1.52 and hits == '0'


def test_same_bits_on_a_plain_processor(package):
    code = '''if True:
        from hashlib import sha256
        import numpy as np
        from edgecar.core import rng
        from edgecar.sim.exact import atan2, cos, exp, kernel, sin
        @kernel
        def fill(x, out):
            for i in range(len(x)): out[i] = sin(x[i]) * cos(x[i]) + atan2(x[i], x[i - 1]) * exp(-abs(x[i]))
        x = 20 * rng(0).random(100_000) - 10
        out = np.zeros(len(x))
        fill(x, out)
        print(sha256(out.tobytes()).hexdigest())'''
    assert run(package, code, NUMBA_CPU_NAME='generic') == run(package, code) == run(package, code, NUMBA_OPT='1')
