"The twin as others use it: through Gymnasium, from several processes, and when one of them dies."
import hashlib
import os
import signal
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np

import edgecar.sim.env  # noqa: F401 - registers edgecar/Twin-v0
from edgecar.core import EdgecarError, rng
from edgecar.sim.camera import SimCamera, Lens
from edgecar.sim.env import TwinEnv, find_ground, find_track
from edgecar.sim.look import Appearance
from edgecar.sim.vector import TwinVectorEnv

DIGEST = '''
import hashlib
from edgecar.core import rng
from edgecar.sim.env import TwinEnv
env, g, seen = TwinEnv(['oval', 'donkey', 'seed:5'], direction=0, random=1.), rng(3), hashlib.sha256()
for episode in range(6):
    seen.update(env.reset(seed=episode)[0])
    for _ in range(20):
        seen.update(env.step((2*g.random(2) - 1)*[.5, 1])[0])
    seen.update(env.car.row)
print(seen.hexdigest())
'''


def test_every_process_sees_the_same_frames():
    def run(**env):
        return subprocess.run([sys.executable, '-c', DIGEST], env={**os.environ, **env},
                              capture_output=True, text=True, check=True, timeout=120).stdout
    one = run(PYTHONHASHSEED='1', OMP_NUM_THREADS='1')
    assert one == run(PYTHONHASHSEED='2', OMP_NUM_THREADS='2', NUMBA_NUM_THREADS='2')


def test_gymnasium_makes_it_limits_it_and_finds_nothing_to_say():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        env = gym.make('edgecar/Twin-v0', track='club', render_mode='rgb_array', max_episode_steps=3)
        frame, info = env.reset(seed=1)
        ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]
        assert env.render().shape == (360, 960, 3) and frame.shape == (120, 160, 3)
        env.close()


def test_wrappers_of_a_vector_work():
    env = gym.wrappers.vector.RecordEpisodeStatistics(
        gym.make_vec('edgecar/Twin-v0', 3, vectorization_mode='vector_entry_point', track='oval', workers=2,
                     max_episode_steps=5))
    env.reset(seed=1)
    info = [env.step(np.tile(np.float32([0, .3]), (3, 1)))[4] for _ in range(5)][-1]
    assert info['episode']['l'].tolist() == [5, 5, 5] and info['_episode'].all()
    env.close()


def drive(workers):
    "A digest of what 30 steps of five cars give."
    g, env = rng(1), TwinVectorEnv(5, workers, track=['oval', 'seed:2'], random=.7, max_episode_steps=12)
    seen = hashlib.sha256(env.reset(seed=9)[0])
    for _ in range(30):
        frames, rewards, ends, cuts, infos = env.step((2*g.random((5, 2)) - 1)*.9)
        for x in (frames, rewards, ends, cuts, infos['cte'], infos['accel']):
            seen.update(np.ascontiguousarray(x))
    env.close()
    return seen.hexdigest()


def test_any_number_of_processes_drives_the_same():
    assert drive(1) == drive(2) == drive(3)


def test_no_process_outlives_the_one_that_started_it():
    code = ("from edgecar.sim.vector import TwinVectorEnv; import time; "
            "t = TwinVectorEnv(2, 2, track='oval'); t.reset(); "
            "print(t.workers[0].process.pid, flush=True); time.sleep(600)")
    first = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    try:
        other = int(first.stdout.readline())
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    gone = subprocess.run(['timeout', '30', 'tail', f'--pid={other}', '-f', os.devnull])
    assert gone.returncode == 0


def test_a_reset_leaves_nothing_behind():
    g, env, fresh = rng(2), TwinEnv('donkey', random=1.), TwinEnv('donkey', random=1.)
    env.reset(seed=0)
    for _ in range(50):
        env.step((2*g.random(2) - 1)*[.3, 1])
    (a, info), (b, expected) = env.reset(seed=7), fresh.reset(seed=7)
    assert ((a == b).all() and info == expected and info['speed'] == info['lap_count'] == 0
            and (env.car.row == fresh.car.row).all())
    for _ in range(10):
        x, y = env.step((.1, .5)), fresh.step((.1, .5))
        assert (x[0] == y[0]).all() and x[1:] == y[1:]


def test_any_camera_that_can_be_takes_a_picture():
    g, ground = rng(3), find_ground(find_track('oval'))
    low, high = np.array([(8, 20, -.2, .02, -1, -60, -30, -45), (200, 170, .5, 2, 1, 30, 30, 45)])
    taken = 0
    for _ in range(60):
        width, fov, bend, above, ahead, pitch, roll, yaw = low + (high - low)*g.random(8)
        try:
            lens = Lens(int(width)//4*4, int(width), fov, bend, above, ahead, pitch, roll, yaw)
        except EdgecarError as e:
            assert 'no field of view' in str(e)
        else:
            camera = SimCamera(ground, lens, Appearance.random(int(width)), [[.5, .5]])
            taken += camera.render(*(4*g.random(3) - 2), 3., .1, 2.).shape == (lens.height, lens.width, 3)
    assert taken > 40


def test_turning_all_the_way_round_changes_nothing():
    camera = SimCamera(find_ground(find_track('club')), Lens(), Appearance(noise=0., shake=0.))
    a, b = (camera.render(.3, -.2, yaw).astype(int) for yaw in (.5, .5 + 2*np.pi))
    # texels whose edge lies on a point may fall to the other side
    assert (np.abs(a - b).max(2) > 8).mean() < .01
