"""Track files that are wrong, each refused in one line; tracks without end,
each valid and the same in every process."""
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from edgecar.core import EdgecarError, rng
from edgecar.sim.track import BUILTIN_TRACKS, Track, generate_track, locate_on_line, read_track, arc_length

OVAL = (files('edgecar.sim')/'tracks/oval.toml').read_text()
ROAD = 'width_m = 0.9\n'
BAD = {  # what is wrong: (the file, what the error must say)
    'empty': ('', 'points'),
    'no TOML': ('points = [[0, 1]', 'not TOML'),
    'no text': (b'\xff\xfe\x00', 'not TOML'),
    'unknown key': (OVAL + 'colour = "red"', 'colour'),
    'no width': ('points = [[0, 0], [3, 0], [3, 3], [0, 3]]', 'width_m'),
    'a word for a width': (OVAL.replace('0.9', '"wide"'), "'wide'"),
    'a negative width': (OVAL.replace('0.9', '-0.9'), '-0.9'),
    'an infinite width': (OVAL.replace('0.9', 'inf'), 'inf'),
    'a number for a name': (OVAL.replace('"oval"', '7'), 'name is 7'),
    'no points': (ROAD + 'points = []', '0 different points'),
    'two points': (ROAD + 'points = [[0, 0], [1, 1]]', '2 different points'),
    'three points': (ROAD + 'points = [[0, 0], [4, 0], [2, 3], [0, 0]]', '3 different points'),
    'NaN': (OVAL.replace('-1.8', 'nan', 1), 'nan'),
    'three coordinates': (ROAD + 'points = [[0, 0, 0], [1, 1, 1]]', 'points[0]'),
    'a number for points': (ROAD + 'points = 3', 'points is 3'),
    'truth for a number': (ROAD + 'points = [[true, 0], [3, 0], [3, 3], [0, 3]]', 'points[0]'),
    'far away': (OVAL.replace('-3.2', '-3200'), '-3200'),
    'open': (ROAD + f'points = {[[i / 2, 0] for i in range(12)]}', 'open'),
    'twice the same point': (OVAL.replace('[1.2, -1.8]', '[0.0, -1.8]'), 'points[0]'),
    'a figure of eight': ('width_m = 0.5\npoints = [[0, 0], [2, 2], [4, 2], [5, 0], [4, -2], [2, -2], [0, '
                          '0.001], [-2, 2], [-4, 2], [-5, 0], [-4, -2], [-2, -2]]', 'meets itself'),
    'legs too close': ('width_m = 0.9\npoints = [[0, 0], [2, 0], [4, 0], [5, 1], [4, 2], [2, 0.8], [0, 0.7], '
                       '[-2, 0.8], [-4, 2], [-5, 1], [-4, 0], [-2, 0]]', 'meets itself'),
    'a bend too tight': (OVAL.replace('0.9', '2.9'), 'bend of radius'),
    'a cone nowhere': (OVAL.replace('[3.4, 2.0]', '[3.4]'), 'cones[1]'),
}


@pytest.mark.parametrize('text, says', BAD.values(), ids=BAD)
def test_bad_file(tmp_path, text, says):
    file = tmp_path/'mine.toml'
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EdgecarError) as e:
        read_track(file)
    assert (str(e.value).startswith(f'{file}: ') and says in str(e.value) and ' -> ' in str(e.value)
            and '\n' not in str(e.value))


@pytest.mark.parametrize('file', ['', 'no/such.toml', '.'])
def test_no_file(file):
    with pytest.raises(EdgecarError, match='oval, donkey, club'):
        read_track(file)


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path/'mine.toml'
    file.write_text(OVAL.replace('name = "oval"', '').replace('cones', '# cones'))
    track = read_track(str(file))
    assert track.name == 'mine' and track.cones.shape == (0, 2) and (track.xy == read_track('oval').xy).all()


@pytest.mark.parametrize('track', [*map(read_track, BUILTIN_TRACKS), *map(generate_track, range(200, 203))],
                         ids=lambda t: t.name)
@pytest.mark.parametrize('way', ['forward', 'back'])
def test_places_against_brute_force(track, way):
    track = track if way == 'forward' else track.reverse()
    g = rng(1)
    near = [track.offset_line(r)[i] for r in (-.4, -1e-6, 1e-6, .4) for i in (0, 1, -1, len(track.xy) // 2)]
    points = np.vstack(
        [12 * g.random((300, 2)) - 6, near, track.xy[[0, -1]], (track.xy[:1] + track.xy[-1:]) / 2])
    a, d = track.xy[None], (np.roll(track.xy, -1, axis=0) - track.xy)[None]
    v = points[:, None] - a
    t = np.clip((v * d).sum(-1) / (d * d).sum(-1), 0, 1)
    e = np.hypot(*np.moveaxis(v - t[..., None] * d, -1, 0))
    i, m = e.argmin(1), np.arange(len(points))
    side = np.cross(np.broadcast_to(d, v.shape)[m, i], v[m, i])
    s, cte = track.locate(points)
    assert np.allclose(cte, np.where(side > 0, -1, 1) * e[m, i], atol=1e-9)
    assert (0 <= s).all() and (s < track.length_m).all()
    u = s / track.step_m
    # where two places are equally near, either will do
    foot = track.xy[u.astype(int)] + (u % 1)[:, None] * d[0, u.astype(int)]
    assert np.allclose(np.hypot(*(points - foot).T), e[m, i], atol=1e-9)
    off = np.abs(arc_length.py_func(track.length_m, (i + t[m, i]) * track.step_m, s))
    assert (off < 1e-6).mean() > .98


def test_a_place_far_away():
    track = read_track('oval')
    s, cte, station = locate_on_line(track.xy, track.step_m, 1e6, 1e6)
    assert 0 <= s < track.length_m and 1.4e6 < cte < 1.42e6 and station <= s / track.step_m <= station + 1


def test_every_generated_track_is_valid():
    seen = set()
    for seed in range(100, 180):
        track = generate_track(seed)
        size = track.xy.max(0) - track.xy.min(0) + track.width_m
        assert (12 <= track.length_m <= 30 and .7 <= track.width_m <= 1 and (size <= [9, 7]).all()
                and np.abs(track.curvature).max() <= 1/.6)
        assert (len(track.cones) == 0
                or (np.abs(track.locate(track.cones)[1]) >= track.width_m / 2 + .1 - 1e-9).all())
        assert track.reverse().length_m == pytest.approx(track.length_m)
        # is one as well when it comes from a file
        Track(track.name, track.points, track.width_m, track.cones)
        seen.add(track.xy.tobytes())
    assert len(seen) == 80


def test_same_tracks_in_another_process():
    code = '''if True:
        from hashlib import sha256
        from edgecar.sim.track import BUILTIN_TRACKS, generate_track, read_track
        tracks = [*map(read_track, BUILTIN_TRACKS), *map(generate_track, range(10))]
        arrays = [a for t in tracks for a in (t.xy, t.tangent, t.curvature, t.cones)]
        print(sha256(b''.join(a.tobytes() for a in arrays)).hexdigest())'''
    one, two = (subprocess.run([sys.executable, '-c', code], env={'PYTHONHASHSEED': seed},
                               capture_output=True, text=True, check=True).stdout for seed in '12')
    assert one == two and len(one) == 65
