"The `edgecar` command, as a shell sees it: output, exit codes, one-line errors, ctrl-C, completion."
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from edgecar.contracts.digest import folder_md5
from edgecar.data.public import pinned_md5
from edgecar.data.synthetic import synthetic_tub
from edgecar.sim.record import RecordingRecipe

EDGECAR = str(Path(sys.prefix)/'bin/edgecar')
GROUPS = {(): 'doctor score results record drive params data tub sim release remote report offer arena',
    ('sim',): 'serve view draw', ('data',): 'list get check',
    ('tub',): 'ls verify repair delete restore manage convert upload',
    ('release',): 'build push sign verify confirm reject policy diff trust plan check evaluate '
                  'promote rollback prove',
    ('release', 'trust'): 'init add remove refresh status rotate revoke'}


@pytest.fixture
def edgecar(tmp_path):
    "Run the command in a repository of its own: its exit code, output and errors."
    for name in ['settings.ini', 'dvc.yaml']:
        (tmp_path/name).touch()

    def run(*args, **env):
        done = subprocess.run([EDGECAR, *map(str, args)], cwd=tmp_path,
                              env={**os.environ, 'COLUMNS': '200', **env}, capture_output=True,
                              text=True, timeout=60)
        assert 'Traceback' not in done.stderr
        return done.returncode, done.stdout, done.stderr
    return run


@pytest.mark.parametrize('group', GROUPS, ids=' '.join)
def test_help(edgecar, group):
    code, out, _ = edgecar(*group, '--help')
    assert code == 0
    for command in GROUPS[group].split():
        assert f'\n  {command} ' in out
    code, again, err = edgecar(*group)
    assert 'Commands' in again + err, 'without arguments: the same help'


EXAMPLES = ('doctor,score,convert,record,drive,arena,data get,data check,sim serve,sim view,'
            'sim draw').split(',')


@pytest.mark.parametrize('command', EXAMPLES + [f'tub {name}' for name in GROUPS['tub',].split()])
def test_help_shows_an_example(edgecar, command):
    code, out, _ = edgecar(*command.split(), '--help')
    assert code == 0 and f'edgecar {command}' in out.split('Example', 1)[1]


def test_help_comes_at_once(edgecar):
    def processor_s():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        edgecar('--help')
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert min(processor_s() for _ in range(5)) < .5   # which other programs' work does not change much


def test_nothing_heavy_is_imported_to_say_so():
    heavy = "{'tensorflow', 'donkeycar', 'cv2', 'numpy', 'matplotlib', 'requests', 'nbdev', 'rich'}"
    say_help = 'import sys, edgecar.cli; edgecar.cli.app(["--help"], standalone_mode=False); '
    light = f'assert not {heavy} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', say_help + light], check=True, stdout=subprocess.DEVNULL)


def test_completion(edgecar):
    code, out, _ = edgecar(_EDGECAR_COMPLETE='complete_bash', COMP_WORDS='edgecar tub ', COMP_CWORD='2')
    assert code == 0 and out.split() == GROUPS['tub',].split()
    code, out, _ = edgecar(_EDGECAR_COMPLETE='source_zsh')
    assert code == 0 and '#compdef edgecar' in out


@pytest.mark.parametrize('args, says', [
    (['data', 'get', 'no-such-tub'], "no public tub is called 'no-such-tub' -> see `edgecar data list`"),
    (['data', 'get'], 'params.yaml: has no recipe for the starter recording'),
    (['data', 'check'], 'data: is not pinned -> dvc add data'),
    (['record', '--tracks', 'nowhere'], 'nowhere: No such file'),
    (['record', '--to', 'settings.ini'], 'is there already -> move it away'),
    (['record', '--to', '/dev/null/tubs', '--frames', '1'], 'cannot be recorded (Not a directory)'),
    (['record', '--pace', '9'], 'a recording cannot have pace = 9.0 -> give a number from 0.2 to 2'),
    (['data', 'get', 'hive_cone_avoit'], '-> did you mean hive_cone_avoid'),
    (['doctor', 'tea'], "no task is called 'tea' -> one of: setup"),
    (['tub', 'ls', '.'], 'holds no tub'),
    (['tub', 'delete', '.', 'x-3'], "'x-3' does not name records -> write `3` or `10-20`"),
    (['results'], 'no results yet -> make repro'),
])
def test_errors_take_one_line(edgecar, args, says):
    code, out, err = edgecar(*args)
    assert (code, out, err.count('\n')) == (1, '', 1)
    assert err.startswith('edgecar: ') and says in err


def test_usage_errors(edgecar):
    assert edgecar('tub', 'verify', 'nowhere')[0] == 2
    assert edgecar('teleport')[0] == 2


@pytest.mark.slow
def test_a_tub_from_end_to_end(edgecar, tmp_path):
    synthetic_tub(tmp_path/'tubs/toy', n=30)
    code, out, _ = edgecar('tub', 'ls', 'tubs')
    assert code == 0 and out.splitlines()[1].split()[:3] == ['tubs/toy', '30', '0']
    done = edgecar('tub', 'delete', 'tubs/toy', 3, '10-12')
    assert done[1].strip() == "Tub('tubs/toy'): 26 records, 4 deleted, 0 faults"
    done = edgecar('tub', 'restore', 'tubs/toy', '10-12')
    assert done[1].strip() == "Tub('tubs/toy'): 29 records, 1 deleted, 0 faults"
    code, _, err = edgecar('tub', 'delete', 'tubs/toy', 30)
    assert code == 1 and 'has no record 30' in err

    assert edgecar('tub', 'verify', 'tubs')[:2] == (0, '0 faults\n')
    images = sorted((tmp_path/'tubs/toy/images').iterdir())
    images[0].write_bytes(b'')
    code, out, _ = edgecar('tub', 'verify', 'tubs')
    assert code == 1 and 'empty image' in out and out.endswith('1 faults -> edgecar tub repair tubs\n')
    code, out, err = edgecar('tub', 'repair', 'tubs')
    assert (code == 0
            and out.startswith('tubs/toy: 1 faults, 1 records dropped into tubs/toy/.quarantine')), err
    assert edgecar('tub', 'verify', 'tubs')[0] == 0


@pytest.mark.slow
def test_recording(edgecar, tmp_path):
    (tmp_path/'params.yaml').write_text('data: {tracks: "oval,seed:1", frames: 12}')
    assert [edgecar('data', 'get')[1] for _ in range(2)] == ['data: recorded\n', 'data: already there\n']
    code, out, err = edgecar('record', '--tracks', 'club', '--seed', 3, '--workers', 1)
    assert (code == 0 and out.split()[-2:] == [str(tmp_path/'tubs/twin/00_club'), '12']
            and 'recording' in err), out + err
    assert 'there already' in edgecar('record')[2]
    (tmp_path/'data.dvc').write_text(f'outs:\n- md5: {folder_md5(tmp_path/"data")}\n  path: data\n')
    done = edgecar('data', 'check', '--workers', 1)
    assert done[:2] == (0, f'{pinned_md5(tmp_path/"data")}: recorded afresh, the same as data.dvc\n')
    (tmp_path/'params.yaml').write_text('data: {tracks: "oval,seed:1", frames: 13}')
    code, _, err = edgecar('data', 'check')
    assert code == 1 and 'the first file that differs is 00_oval/' in err
    assert 'frames 12 instead of 13' in edgecar('data', 'get')[1]


def test_every_ingredient_of_a_recipe_is_an_option(edgecar):
    out = edgecar('record', '--help')[1]
    assert all(f'--{f.name.replace("_", "-")} ' in out for f in fields(RecordingRecipe))


def test_score(edgecar, tmp_path, tf):
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.model import Edge
    synthetic_tub(tmp_path/'tubs/toy', n=30)
    pilot = Edge()
    (tmp_path/'pilot.tflite').write_bytes(convert_to_tflite(pilot.whole(pilot.net())))
    code, out, err = edgecar('score', 'pilot.tflite', 'tubs')
    rows = dict(line.split() for line in out.splitlines()[1:])
    assert (code == 0 and rows['frames'] == '30' and 0 < float(rows['steering.mae']) < 2
            and 'constant.mae' in rows), err
    code, _, err = edgecar('score', 'settings.ini', 'tubs')
    assert code == 1 and 'settings.ini: is not a TFLite file' in err


def test_results(edgecar, tmp_path):
    (tmp_path/'metrics').mkdir()
    (tmp_path/'metrics/evaluate.json').write_text(
        json.dumps({'steering': {'mae': .123456, 'bins': {'sharp': .5}}, 'frames': 200, 'model': 'edge'}))
    (tmp_path/'metrics/train.json').write_text(json.dumps({'epochs': 12}))
    (tmp_path/'dvc.yaml').write_text(
        'stages: {train: {metrics: [metrics/train.json]}, evaluate: {metrics: [metrics/evaluate.json]}}')
    for picture in ['evaluate/score.png', 'train/plots/curve.png']:
        (tmp_path/'build'/picture).parent.mkdir(parents=True)
        (tmp_path/'build'/picture).touch()
    code, out, _ = edgecar('results')
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert (rows[1] == ['train', 'epochs', '12'] and ['evaluate', 'steering.mae', '0.1235'] in rows
            and ['evaluate', 'steering.bins.sharp', '0.5'] in rows)
    assert ['build/evaluate/score.png'] in rows and ['build/train/plots/curve.png'] in rows
    (tmp_path/'metrics/train.json').write_text('{')
    code, _, err = edgecar('results')
    assert code == 1 and 'train.json: is not JSON' in err


def test_doctor(edgecar, tmp_path):
    code, out, _ = edgecar('doctor', EDGECAR_MIRROR=str(tmp_path))
    assert code == 0 and f'mirror {tmp_path}' in out
    code, out, _ = edgecar('doctor', 'setup', PATH='/nowhere')
    assert (code == 1 and ['setup', 'LACKS', 'git', '->', 'apt-get', 'install', 'git']
            in [line.split() for line in out.splitlines()])


def test_doctor_looks_at_the_starter(edgecar, tmp_path):
    def starter_line():
        return next(line for line in edgecar('doctor', 'train')[1].splitlines()
                    if 'starter recording' in line)
    assert 'ok' in starter_line() and 'not there yet: `make repro`' in starter_line()
    (tmp_path/'data.dvc').write_text('<<<<<<< HEAD')
    assert ' -  ' in starter_line() and '-> data/ is not what data.dvc pins' in starter_line()


def test_ctrl_c(tmp_path):
    "A download from a mirror that takes the connection and never answers."
    for name in ['settings.ini', 'dvc.yaml']:
        (tmp_path/name).touch()
    with socket.create_server(('127.0.0.1', 0)) as mirror:
        env = {**os.environ, 'EDGECAR_MIRROR': f'http://127.0.0.1:{mirror.getsockname()[1]}',
               'NO_PROXY': '127.0.0.1', 'HOME': str(tmp_path)}
        with subprocess.Popen(['env', '--default-signal=INT', EDGECAR, 'data', 'get', 'hive_cone_avoid'],
                              cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as get:
            mirror.settimeout(60)
            mirror.accept()[0].recv(1)  # it has asked
            get.send_signal(signal.SIGINT)
            err = get.communicate(timeout=60)[1]
    assert get.returncode == 130
    assert err.splitlines()[-1] == 'interrupted' and 'Traceback' not in err
