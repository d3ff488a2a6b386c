"""Compiled kernels that are kept: read where nothing can be written, damaged, forged, by two at once,
after an edit, on another processor."""
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)


@pytest.fixture
def package():
    "A copy of the library that every user may read, in a folder of its own."
    with tempfile.TemporaryDirectory() as d:
        shutil.copytree(ROOT/'edgecar', Path(d)/'edgecar', ignore=shutil.ignore_patterns('__pycache__'))
        os.chmod(d, 0o755)
        yield Path(d)
        for p in [Path(d), *Path(d).rglob('*')]:
            p.is_dir() and p.chmod(0o755)


def close(package):
    for p in [package, *package.rglob('*')]:
        p.is_dir() and p.chmod(0o555)


# Root becomes a user whom this machine does not know, who may
# read all (our Python may lie in a home) and write nothing
STRANGER = ('setpriv --reuid=12345 --regid=12345 --clear-groups --inh-caps=+dac_read_search '
            '--ambient-caps=+dac_read_search'.split() if os.getuid() == 0 else [])


def start(package, code, who=(), **env):
    "A Python process that sees only this copy of the library; a variable that is None is not set."
    env = ({k: v for k, v in os.environ.items() if not k.startswith(('NUMBA_', 'XDG_'))}
           | dict(HOME=f'{package}/nobody', PYTHONPATH=str(package)) | env)
    return subprocess.Popen([*who, sys.executable, '-B', '-c', code], cwd=package,
                            env={k: v for k, v in env.items() if v is not None}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def words_of(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.split()


def run(*args, **env):
    return words_of(start(*args, **env))


SINE = 'from edgecar.sim.exact import sin; print(sin(1.), sum(sin.stats.cache_hits.values()))'
WARM = 'from edgecar.sim.kernels import compile_kernels; compile_kernels()'
FRAME = """if True:
    from hashlib import sha256
    from edgecar.sim.env import TwinEnv
    from edgecar.sim.expert import Expert
    from edgecar.sim.kernels import kernel_counts
    env = TwinEnv('club', random=1.)
    env.reset(seed=0)
    frame = env.step(Expert(env.car.track, env.car.vehicle)(env.car.row))[0]
    print(sha256(frame).hexdigest(), *kernel_counts().values())"""
USE = FRAME + """
    from itertools import islice
    from edgecar.core import rng
    from edgecar.sim.protocol import LidarConfig
    from edgecar.sim.record import RecordingRecipe, generate_records
    from edgecar.sim.scene import Scene, road_node, telemetry_message
    for _ in islice(generate_records(RecordingRecipe(), 'seed:3', rng(1)), 5): pass
    plain = TwinEnv('oval', direction=-1, render_mode='rgb_array')
    plain.reset(seed=1)
    plain.step((0, 1))
    plain.render()
    for cars in 1, 2, 3:
        scene = Scene('donkey', laps=2)
        slots = [scene.join() for _ in range(cars)]
        slots[0].lidar = LidarConfig()
        scene.step()
        for slot in slots: telemetry_message(slot)
        road_node(scene, 3)
    print(*kernel_counts().values())"""


@pytest.mark.slow
def test_user_without_a_folder_to_write(package):
    close(package)
    if STRANGER:
        assert run(package, 'import os; print(os.getuid())', STRANGER) == ['12345']
    frame, read, compiled = run(package, FRAME, STRANGER)
    assert (int(read), int(compiled) > 0) == (0, True) and not list(package.rglob('*.nb?'))


def test_user_without_a_home(package):
    "Nothing is put below `~` of the current folder, or run from there."
    (package/'edgecar').chmod(0o555)
    (package/'edgecar/sim').chmod(0o555)
    package.chmod(0o777)
    run(package, 'from edgecar.sim.exact import sin; assert sin(0.) == 0', STRANGER, HOME=None)
    assert sorted(p.name for p in package.iterdir()) == ['edgecar']


@pytest.mark.slow
def test_code_left_by_set_up_is_read_where_nothing_can_be_written(package):
    run(package, WARM)
    close(package)
    frame, read, compiled, *later = run(package, USE, STRANGER)
    assert int(read) > 0 and compiled == later[1] == '0', 'nothing is compiled'
    assert frame == run(package, FRAME, STRANGER, PYTHONHASHSEED='7')[0]


@pytest.mark.slow
def test_code_for_another_processor_is_left_alone(package):
    "As where an image that was built on one machine is run on another."
    run(package, WARM, NUMBA_CPU_NAME='generic')
    left = {p: p.read_bytes() for p in package.rglob('*.nb?')}
    close(package)
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o777)
        frame, read, compiled = run(package, FRAME, STRANGER, HOME=home)
        assert (read, compiled != '0') == ('0', True)
        assert run(package, FRAME, STRANGER, HOME=home)[::2] == [frame, '0'], 'now it is kept at home'
    assert run(package, FRAME, STRANGER, NUMBA_CPU_NAME='generic')[::2] == [frame, '0']
    assert left == {p: p.read_bytes() for p in package.rglob('*.nb?')}


DAMAGE = {
    'empty': lambda b: b'',
    'other': lambda b: b'not a pickle',
    'short': lambda b: b[:50],
    # the rest was never written to the disk
    'half': lambda b: b[:len(b) // 2] + bytes(len(b) - len(b) // 2),
    'bit': lambda b: b[:len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1:],
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['nbi', 'nbc'])
@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_code_is_compiled_again_and_mended(package, kind, damage):
    assert run(package, SINE) == ['0.8414709848078965', '0']
    for file in package.rglob(f'*.{kind}'):
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    again = run(package, SINE)
    # there it may change nothing that matters
    assert again == ['0.8414709848078965', '0'] or (kind, damage) == ('nbi', 'bit')
    assert run(package, SINE) == ['0.8414709848078965', '1']


@pytest.mark.slow
def test_several_at_once(package):
    "None of them fails, and what they leave is whole."
    all_ = [words_of(p) for p in [start(package, FRAME) for _ in range(3)]]
    assert len({frame for frame, *_ in all_}) == 1
    assert run(package, FRAME)[::2] == [all_[0][0], '0'] and not list(package.rglob('*.tmp.*'))


@pytest.mark.slow
def test_code_that_anybody_may_have_written_is_not_run(package):
    def sine(**env):
        return run(package, SINE, **env)[1]
    assert (sine(), sine()) == ('0', '1')
    (package/'edgecar/sim/__pycache__').chmod(0o777)
    assert sine() == '0'
    kept = dict(NUMBA_CACHE_DIR=f'{package}/kept')
    assert (sine(**kept), sine(**kept)) == ('0', '1')
    folder, = (package/'kept').iterdir()
    folder.chmod(0o777)
    assert sine(**kept) == '0'
    folder.chmod(0o755)
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
    assert sine(**kept) == ('0' if os.getuid() == 0 else '1')


def test_older_code_is_removed(package):
    old = package/'edgecar/sim/__pycache__/exact.sin-1-0123456789abcdef01234567.py311.nbi'
    old.parent.mkdir()
    old.touch()
    run(package, 'from edgecar.sim.exact import sin; sin(1.)')
    assert not old.exists() and any(old.parent.glob('exact.sin-*.nbi'))


def test_another_version_of_numba(package):
    assert (run(package, SINE)[1], run(package, SINE)[1]) == ('0', '1')
    index, = package.rglob('exact.sin-*.nbi')
    data = index.read_bytes()
    version = pickle.loads(data).encode()
    index.write_bytes(data.replace(version, version.replace(b'0', b'9'), 1))
    assert (run(package, SINE)[1], run(package, SINE)[1]) == ('0', '1')


def test_edit_in_another_file_is_compiled(package):
    exact, late = package/'edgecar/sim/exact.py', package/'edgecar/sim/late.py'
    late.write_text('from edgecar.sim.exact import cached_njit, sin\n'
                    '@cached_njit\ndef f(x): return sin(x) + 1\n')
    code = 'from edgecar.sim.late import f; print(f(.5), sum(f.stats.cache_hits.values()))'
    assert run(package, code) == ['1.479425538604203', '0']
    assert run(package, code) == ['1.479425538604203', '1']
    was = exact.stat()
    exact.write_text(exact.read_text().replace('z*(-1/6 +', 'z*(+1/6 +'))
    os.utime(exact, ns=(was.st_atime_ns, was.st_mtime_ns))   # as in an archive whose files all have one time
    assert exact.stat().st_size == was.st_size
    value, hits = run(package, code)
    assert float(value) > 1.52 and hits == '0'


@pytest.mark.slow
def test_same_bits_on_a_plain_processor(package):
    code = '''if True:
        from hashlib import sha256
        import numpy as np
        from edgecar.core import rng
        from edgecar.sim.exact import atan2, cos, exp, cached_njit, sin
        @cached_njit
        def fill(x, out):
            for i in range(len(x)):
                out[i] = sin(x[i]) * cos(x[i]) + atan2(x[i], x[i - 1]) * exp(-abs(x[i]))
        x = 20 * rng(0).random(100_000) - 10
        out = np.zeros(len(x))
        fill(x, out)
        print(sha256(out.tobytes()).hexdigest())'''
    assert (run(package, code, NUMBA_CPU_NAME='generic') == run(package, code)
            == run(package, code, NUMBA_OPT='1'))
