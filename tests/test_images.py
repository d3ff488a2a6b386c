"""The finished images, with real tools: pulled from a registry and started, a Raspberry Pi's instructions,
the same bytes twice, and what is refused."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from support.loopback import free_port, status
from support.waiting import wait

from edgecar.core import EdgecarError, read_json, repo_root, sha256_file
from edgecar.release import image
from edgecar.release.base import build_base
from edgecar.release.bundle import TARGETS

ROOT = repo_root(Path(__file__).parent)
pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]
TOOLS = dict(skopeo='skopeo', podman='podman', runc='runc',
             **{'docker-registry': 'docker-registry', 'qemu-aarch64-static': 'qemu-user-static',
                'apt-get': 'apt', 'dpkg-deb': 'dpkg', 'unshare': 'util-linux'})
BOUND = 1e-4   # of a command: sums of float32 in another order


@pytest.fixture(scope='session', autouse=True)
def tools():
    lacking = [package for command, package in TOOLS.items() if not shutil.which(command)]
    if lacking:
        pytest.fail(f'{" and ".join(lacking)} needed -> apt-get install {" ".join(lacking)}')
    for target in TARGETS:
        if not (ROOT/'build/bundle'/target).is_dir():
            pytest.fail('there is nothing to make images of -> make repro')


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    "Both images, built afresh: target -> OCI layout."
    return {target: image.build_image(target, ROOT, tmp_path_factory.mktemp('images')/target)
            for target in TARGETS}


def files(layout):
    "path -> (entry, which layer) of an image, the way a device sees it."
    manifest = image.read_json_blob(layout, image.digest_and_size(layout)[0])
    entries = {}
    for n, layer in enumerate(manifest['layers']):
        with tarfile.open(layout/'blobs/sha256'/layer['digest'][7:]) as tar:
            entries |= {m.name.removeprefix('./'): (m, n) for m in tar}
    return entries


def config(layout):
    return image.read_json_blob(layout,
                                image.read_json_blob(layout,
                                                     image.digest_and_size(layout)[0])['config']['digest'])


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope='session')
def registry(tmp_path_factory):
    "A registry on this machine: HOST:PORT."
    folder, port = tmp_path_factory.mktemp('registry'), free_port()
    (folder/'config.yml').write_text(
        f'version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n'
        f'http: {{addr: "127.0.0.1:{port}"}}\n')
    with ended(subprocess.Popen(['docker-registry', 'serve', folder/'config.yml'], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)) as process:
        wait(lambda: process.poll() is None and status(port, '/v2/') == 200, 30, 'no registry', .1)
        yield f'127.0.0.1:{port}'


def push(layout, tag, to):
    subprocess.run(['skopeo', 'copy', '--quiet', '--preserve-digests', '--dest-tls-verify=false',
                    f'oci:{layout}:{tag}', f'docker://{to}'], check=True)


# --- what is in them

def test_both_carry_the_pilot_that_passed_the_gate(images):
    passed = read_json(ROOT/'build/gate/passed.json')['pilot']
    manifests = {target: image.check_image(layout, target) for target, layout in images.items()}
    assert ({m.sha256 for m in manifests.values()} == {passed}
            == {config(x)['config']['Labels']['dev.edgecar.pilot.sha256'] for x in images.values()})
    twin, car = manifests['twin'], manifests['car']
    assert (twin.sha256, twin.interface, twin.gate) == (car.sha256, car.interface, car.gate)
    assert car.gate.rules and car.gate.passed


@pytest.mark.parametrize('target', TARGETS)
def test_layers_and_configuration(images, target):
    entries, settings = files(images[target]), config(images[target])
    assert ((settings['architecture'], settings['os']) == (TARGETS[target], 'linux')
            and len(settings['rootfs']['diff_ids']) == 4)
    assert ({n: sorted({p.split('/')[2] for p, (m, k) in entries.items()
                        if k == n and p.startswith('opt/edgecar/')}) for n in range(4)}
            == {0: [], 1: ['runtime'], 2: ['app'], 3: ['pilot']})
    c = settings['config']
    assert (c['User'], c['StopSignal'], c['Entrypoint']) == ('1001:0', 'SIGTERM', ['edgecar'])
    assert all(m.mtime == 0 and m.uid == m.gid == 0 for p, (m, n) in entries.items()), 'one time, one owner'
    assert not [p for p, (m, n) in entries.items() if n and m.mode & 0o044 != 0o044 and not m.issym()], (
        'any user may read it')
    assert not re.search(r'version|revision|created', ' '.join(c['Labels'])), (
        'a label would tell one build from another')


@pytest.mark.parametrize('target', TARGETS)
def test_what_is_not_in_them(images, target):
    entries = files(images[target])
    def last(word):
        return [p for p in entries if re.search(word, p)]
    for word in (r'/(tensorflow|keras|pip|pytest|jupyter\w*|nbdev|pandas)/', r'/tests?/', r'\.(whl|pyx|h|a)$',
                 r'var/(cache|lib)/apt/.', r'\.cache'):
        assert not last(word), last(word)[:5]
    assert not [p for p in last(r'(^|/)(sh|bash|gcc|cc|apt-get|dpkg)$') if not entries[p][0].isdir()], (
        'a folder of that name is only data')
    assert (last(r'^usr/share/doc/libc6/copyright$') and last(r'numpy-[\d.]+\.dist-info/LICENSE')
            and last(r'^opt/edgecar/pilot/LICENSES$'))
    assert bool(last(r'/llvmlite/')) == (target == 'twin')


# --- the same bytes

def test_another_folder_and_another_cache_give_the_same_digests(images, tmp_path):
    "As on another machine: another clone, nothing kept from before."
    clone = tmp_path/'somewhere'/'else'
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\0')
    for name in [*filter(None, listed), 'build/export/pilot.tflite', 'build/gate/passed.json',
                 *(f'build/bundle/{t}/{f.name}' for t in TARGETS for f in (ROOT/'build/bundle'/t).iterdir())]:
        if not (ROOT/name).is_file():
            continue
        (clone/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT/name, clone/name)
    for target, layout in images.items():
        done = subprocess.run(
            [sys.executable, '-c',
             'import sys; from edgecar.release.image import build_image; build_image(sys.argv[1])', target],
            cwd=clone, capture_output=True, text=True,
            env={**os.environ, 'XDG_CACHE_HOME': str(tmp_path/'cache'), 'PYTHONPATH': str(clone)})
        assert done.returncode == 0, done.stderr[-2000:]
        assert image.digest_and_size(clone/'build/images'/target)[0] == image.digest_and_size(layout)[0]


def test_a_base_from_a_registry_gives_the_same_image(images, registry, tmp_path):
    push(made := build_base('arm64', ROOT), 'base', f'{registry}/edgecar/base-arm64:bookworm')
    digest = read_json(made/'index.json')['manifests'][0]['digest']
    layout = image.build_image('car', ROOT, tmp_path/'car', f'{registry}/edgecar/base-arm64@{digest}')
    assert image.digest_and_size(layout)[0] == image.digest_and_size(images['car'])[0]


# a pod of the standard `restricted`: no capability, none to gain, and no user namespace to make
RESTRICTED = ['unshare', '--user', '--map-root-user', 'sh', '-c',
              'echo 0 >/proc/sys/user/max_user_namespaces && '
              'exec setpriv --bounding-set=-all --no-new-privs "$@"', 'restricted']


def test_who_has_no_rights_builds_the_same_image(images, tmp_path):
    code = ('import sys; from edgecar.release.image import build_image; '
            'build_image("car", sys.argv[1], sys.argv[2])')
    done = subprocess.run([*RESTRICTED, sys.executable, '-c', code, ROOT, tmp_path/'car'], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    nested = subprocess.run([*RESTRICTED, 'unshare', '--user', 'true'], capture_output=True)
    assert nested.returncode, 'these had a right to make namespaces'
    assert image.digest_and_size(tmp_path/'car')[0] == image.digest_and_size(images['car'])[0]


# --- they run

WATCH = '''
import asyncio, json, sys
from tornado.websocket import websocket_connect
async def main():
    line = await websocket_connect(f"ws://127.0.0.1:{sys.argv[1]}/wsDrive?page=1&token={sys.argv[3]}")
    laps, frames = 0, 0
    while laps < int(sys.argv[2]):
        said = await line.read_message()
        if isinstance(said, bytes): frames += said[:2] == b"\\xff\\xd8"
        else: laps = max(laps, json.loads(said)["status"].get("laps", 0))
    print(json.dumps(dict(laps=laps, frames=frames)))
asyncio.run(main())
'''


@pytest.fixture
def podman():
    """A function that runs podman with images and containers of its own, which are gone afterwards;
    in a folder of few letters, as podman wants it."""
    with tempfile.TemporaryDirectory(prefix='pod', ignore_cleanup_errors=True) as d:
        def run(*words, **kw):
            return subprocess.run(
                ['podman', '--root', f'{d}/root', '--runroot', f'{d}/run', '--runtime=runc', *words],
                capture_output=True, text=True, **kw)
        yield run
        run('rm', '--all', '--force', '--time=0')


def test_the_twin_from_a_registry_serves_its_page_and_drives_laps(images, registry, podman):
    "With a read-only root, as a user nobody knows; it compiles nothing, and ends at once and well."
    push(images['twin'], 'edgecar', f'{registry}/edgecar/twin:test')
    name = f'{registry}/edgecar/twin@{image.digest_and_size(images["twin"])[0]}'
    pulled = podman('pull', '--quiet', '--tls-verify=false', name)
    assert pulled.returncode == 0, pulled.stderr
    port = free_port()
    open_to_all = podman('run', '--rm', '--network=host', '--ulimit=nofile=1024:1024',
                         '--ulimit=nproc=4096:4096', '--read-only', name)
    assert open_to_all.returncode != 0 and 'EDGECAR_TOKEN' in open_to_all.stderr, (
        'a page for every machine wants a token')
    began = podman('run', '--detach', '--name=twin', '--network=host', '--ulimit=nofile=1024:1024',
                   '--ulimit=nproc=4096:4096', '--read-only', '--user=12345:0',
                   f'--env=EDGECAR_PAGE_PORT={port}', '--env=EDGECAR_TOKEN=of a test', name)
    assert began.returncode == 0, began.stderr
    def running():
        return podman('inspect', '--format={{.State.Running}}', 'twin').stdout.strip() == 'true'
    wait(lambda: status(port, '/healthz') == 200 or not running(), 120, 'no page', .1)
    assert running(), podman('logs', 'twin').stderr
    assert (status(port, '/drive'), status(port, '/wsDrive')) == (200, 403), (
        'a page to log in with, and no more')
    dockerfile = (ROOT/'Dockerfile.donkey').read_text().replace('\\\n', '')
    health = json.loads(re.search(r'HEALTHCHECK .*CMD (\[.*\])', dockerfile)[1])
    assert podman('exec', 'twin', *health).returncode == 0
    done = podman('exec', 'twin', '/usr/bin/python3.11', '-c',
                  'import os; from edgecar.sim.kernels import compile_kernels, kernel_counts; '
                  'compile_kernels(); '
                  'print(os.getuid(), kernel_counts()["compiled"])')
    assert done.stdout == '12345 0\n', done.stderr
    seen = json.loads(subprocess.run([sys.executable, '-c', WATCH, str(port), '2', 'of%20a%20test'],
                                     stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)
    assert seen['laps'] >= 2 and seen['frames'] > 20
    assert podman('stop', '--time=20', 'twin').returncode == 0
    assert podman('inspect', '--format={{.State.ExitCode}}', 'twin').stdout.strip() == '0', (
        podman('logs', 'twin').stderr)


CORE = ('processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n'
        'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n'
        'CPU revision\t: 3\n\n')


@pytest.fixture(scope='session')
def pi(images, tmp_path_factory):
    """The car's root on a Raspberry Pi 4: its instructions by qemu, and what its kernel would
    say of its processor, which LiteRT reads. A function that starts Python there."""
    home = tmp_path_factory.mktemp('pi')
    manifest = image.read_json_blob(images['car'], image.digest_and_size(images['car'])[0])
    for layer in manifest['layers']:
        with tarfile.open(images['car']/'blobs/sha256'/layer['digest'][7:]) as tar:
            tar.extractall(home)
    for name, text in {'proc/cpuinfo': ''.join(map(CORE.format, range(4))),
                       'sys/devices/system/cpu/possible': '0-3\n',
                       'sys/devices/system/cpu/present': '0-3\n'}.items():
        (home/name).parent.mkdir(parents=True, exist_ok=True)
        (home/name).write_text(text)
    python, real = home/'usr/bin/python3.11', home/'usr/bin/python3.11.arm64'
    python.rename(real)   # the loop starts the owner of the wheels as `sys.executable`
    python.write_text(
        f'#!/bin/sh\nexec qemu-aarch64-static -cpu cortex-a72 -L {home} -0 {python} {real} "$@"\n')
    python.chmod(0o755)
    env = dict(PATH=os.environ['PATH'], HOME=str(home/'tmp'), PYTHONDONTWRITEBYTECODE='1',
               PYTHONPATH=f'{home}/opt/edgecar/app:{home}/opt/edgecar/runtime')
    return home, lambda *words, **kw: subprocess.Popen(
        [python, *words], env=env, cwd=home/'tmp', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **kw)


def test_the_car_replays_frames_as_amd64_does(pi, tmp_path):
    from edgecar.data.frames import load_recording
    from edgecar.pilot.runtime import Pilot
    home, python = pi
    frames = load_recording([next((ROOT/'data').glob('*/manifest.json')).parent], bar=False).frames[:200:4]
    np.save(tmp_path/'frames.npy', frames)
    with ended(python('-c', 'import platform, sys, numpy as np; from edgecar.pilot.runtime import Pilot; '
                            'p = Pilot(sys.argv[1]); np.save(sys.argv[3], p.drive(np.load(sys.argv[2]))); '
                            'print(platform.machine(), p.digest)',
                      home/'opt/edgecar/pilot/pilot.tflite', tmp_path/'frames.npy',
                      tmp_path/'drove.npy')) as process:
        out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert out.split() == ['aarch64', sha256_file(ROOT/'build/export/pilot.tflite')]
    here, there = Pilot(ROOT/'build/export/pilot.tflite').drive(frames), np.load(tmp_path/'drove.npy')
    assert len(frames) == 50 and np.ptp(here[:, 0]) > .1 and np.abs(here - there).max() <= BOUND


def test_the_car_loops_and_stops_when_told(pi, tmp_path):
    home, python = pi
    port, log = free_port(), tmp_path/'wheels.log'
    with ended(python(home/'opt/edgecar/app/bin/edgecar', 'drive', '--profile', 'mock',
                      '--actuator', f'mock:{log}', '--model', home/'opt/edgecar/pilot/pilot.tflite',
                      '--mode', 'local', '--arm', '--page-port', str(port))) as process:
        wait(lambda: status(port, '/healthz') == 200 or process.poll() is not None, 300, 'no page', .1)
        assert process.poll() is None, process.communicate()[1]
        wait(lambda: log.exists() and any(
            float(line.split()[2]) for line in log.read_text().splitlines() if line.count(' ') >= 2),
            60, 'it does not drive', .1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert float(log.read_text().splitlines()[-1].split()[2]) == 0, 'the wheels are in neutral'


# --- what is refused

def refused(words, *args, **kw):
    with pytest.raises(EdgecarError) as e:
        image.build_image(*args, **kw)
    assert words in str(e.value), e.value


def test_a_base_of_the_wrong_processor(registry, tmp_path):
    push(made := build_base('amd64', ROOT), 'base', f'{registry}/edgecar/base-amd64:bookworm')
    refused('is for linux/amd64, and the car is linux/arm64', 'car', ROOT, tmp_path/'car',
            f"{registry}/edgecar/base-amd64@{read_json(made/'index.json')['manifests'][0]['digest']}")
    refused('names a base that may change', 'car', ROOT, tmp_path/'car',
            f'{registry}/edgecar/base-amd64:bookworm')
    refused('failed', 'car', ROOT, tmp_path/'car', f'{registry}/edgecar/none@sha256:{"0"*64}')
    assert not list(tmp_path.iterdir())


def test_a_manifest_and_a_pilot_that_disagree(images, tmp_path):
    shutil.copytree(ROOT/'build/bundle/car', tmp_path/'bundle')
    with open(tmp_path/'bundle/pilot.tflite', 'ab') as f:
        f.write(b'x')
    refused('its manifest names', 'car', ROOT, tmp_path/'car', bundle=tmp_path/'bundle')
    manifest = read_json(tmp_path/'bundle/manifest.json')
    manifest['pilot']['sha256'] = sha256_file(tmp_path/'bundle/pilot.tflite')
    (tmp_path/'bundle/manifest.json').write_text(json.dumps(manifest))
    refused('is not what the locks say now', 'car', ROOT, tmp_path/'car', bundle=tmp_path/'bundle')
    assert not (tmp_path/'car').exists()


def test_a_missing_tool(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    refused('edgecar doctor images', 'car', ROOT, tmp_path/'car', f'quay.io/base@sha256:{"0"*64}')
    assert not (tmp_path/'car').exists()


def test_a_full_disk(tmp_path):
    "A disk of 40 MB, where 100 are needed; mounted for this process alone."
    code = ('import sys; from edgecar.release.image import build_image; '
            'build_image("car", sys.argv[1], sys.argv[2] + "/car")')
    (tmp_path/'disk').mkdir()
    done = subprocess.run(
        ['unshare', '--mount', *([] if os.geteuid() == 0 else ['--user', '--map-root-user']), 'sh', '-c',
         f'mount -t tmpfs -o size=40m none "$2" && "$0" -c \'{code}\' "$1" "$2"; code=$?; '
         'ls -A "$2"; exit $code',
         sys.executable, str(ROOT), str(tmp_path/'disk')], capture_output=True, text=True)
    assert done.returncode == 1 and 'no room left' in done.stderr.splitlines()[-1], done.stderr
    assert done.stdout == '', 'what was begun is gone'
