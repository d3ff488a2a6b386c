"""What a release costs: MB that a device fetches, at first and for a new pilot; seconds to build for arm64
and for amd64, and to start; whether the digests repeat.

    .venv/bin/python benchmarks/image.py     # after make repro; about 5 minutes on 2 idle cores;
                                             # needs skopeo, podman and runc

Bases are made before the clocks start; wheels and kernels are fetched and compiled on the clock, into a cache
that is empty, but for what pip keeps of its own. `arm64_build_ratio` compares one image, the car's, for both
processors; the twin has more in it. The second builds, in another folder and from that warm cache, must have
the first ones' digests; `tests/test_images.py` has them agree from another clone with nothing kept.
"""
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgecar.contracts.manifest import read_manifest
from edgecar.core import read_json, repo_root, sha256_file, write_json
from edgecar.release import image
from edgecar.release.base import build_base, cache_folder
from edgecar.release.bundle import TARGETS

ROOT = repo_root(Path(__file__).parent)


def timed(target, to, **kw):
    start = time.perf_counter()
    return image.build_image(target, ROOT, to, **kw), time.perf_counter() - start


def blobs(layout):
    "digest -> bytes of all that a device fetches."
    descriptor = read_json(layout/'index.json')['manifests'][0]
    manifest = image.read_json_blob(layout, descriptor['digest'])
    return {x['digest']: x['size'] for x in [descriptor, manifest['config'], *manifest['layers']]}


def other_pilot(d):
    "Make a bundle of the car with another pilot, as if it had passed the gate; return its folder."
    to = shutil.copytree(ROOT/'build/bundle/car', d/'other')
    shutil.copyfile(ROOT/'build/export/donkey.tflite', to/'pilot.tflite')
    values = read_json(to/'manifest.json')
    values['pilot'] |= dict(sha256=sha256_file(to/'pilot.tflite'), bytes=(to/'pilot.tflite').stat().st_size)
    write_json(to/'manifest.json', values)
    manifest = read_manifest(values)
    image.build_manifest = lambda repo, target: manifest
    return to


def answers(port):
    line = http.client.HTTPConnection('127.0.0.1', port, timeout=2)
    try:
        line.request('GET', '/healthz')
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()


def starts(layout, d, times=3):
    """Seconds from `podman run` of the twin to a loop that turns and a page that says so;
    and how many kernels it had to compile."""
    def podman(*words, **kw):
        return subprocess.run(
            ['podman', '--root', d/'root', '--runroot', d/'r', '--runtime=runc', *words],
            capture_output=True, text=True, check=True, **kw).stdout.strip()
    name = podman('pull', '--quiet', f'oci:{layout}:edgecar').split()[-1]
    took = []
    try:
        for n in range(times):
            with socket.socket() as s:
                s.bind(('127.0.0.1', 0))
                port = s.getsockname()[1]
            start = time.perf_counter()
            podman('run', '--detach', f'--name=twin{n}', '--network=host', '--ulimit=nofile=1024:1024',
                   '--ulimit=nproc=4096:4096', '--read-only', f'--env=EDGECAR_PAGE_PORT={port}',
                   '--env=EDGECAR_TOKEN=of a benchmark', name)
            while not answers(port):
                if time.perf_counter() - start > 120:
                    sys.exit(f'the twin does not start: {podman("logs", f"twin{n}")}')
                time.sleep(.02)
            took.append(time.perf_counter() - start)
            if podman('inspect', '--format={{.State.Running}}', f'twin{n}') != 'true':
                sys.exit('something else answered: the twin has ended')
            code = ('from edgecar.sim.kernels import compile_kernels, kernel_counts; '
                    'compile_kernels(); print(kernel_counts()["compiled"])')
            compiled = int(podman('exec', f'twin{n}', '/usr/bin/python3.11', '-c', code))
            podman('rm', '--force', '--time=5', f'twin{n}')
    finally:
        podman('rm', '--all', '--force', '--time=0')
    return statistics.median(took), compiled


def main():
    if lacking := [t for t in TARGETS if not (ROOT/'build/bundle'/t).is_dir()]:
        sys.exit(f"build/bundle/{lacking[0]}: is not there -> make repro")
    bases = {arch: build_base(arch, ROOT) for arch in TARGETS.values()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as d:
        d = Path(d)
        os.environ['XDG_CACHE_HOME'] = str(d/'cache')
        for made in bases.values():
            shutil.copytree(made, cache_folder()/'base'/made.name)
        first = {t: timed(t, d/'first'/t) for t in TARGETS}
        TARGETS['car'] = 'amd64'   # the same image for this machine's processor
        _, native_s = timed('car', d/'native/car')
        TARGETS['car'] = 'arm64'
        again = {t: timed(t, d/'another'/'folder'/t)[0] for t in TARGETS}
        same = all(image.digest_and_size(again[t])[0] == image.digest_and_size(first[t][0])[0]
                   for t in TARGETS)
        new, _ = timed('car', d/'new/car', bundle=other_pilot(d))
        update = sum(n for digest, n in blobs(new).items() if digest not in blobs(first['car'][0]))
        cold_s, compiled = starts(first['twin'][0], d)
        mb = {t: image.digest_and_size(layout)[1]/1e6 for t, (layout, _) in first.items()}
        for t, (layout, took) in first.items():
            print(f'{t}: {image.digest_and_size(layout)[0]}, {mb[t]:.1f} MB, built in {took:.0f} s')
        print(json.dumps(dict(
            car_mb=round(mb['car'], 1), twin_mb=round(mb['twin'], 1), update_mb=round(update/1e6, 3),
            arm64_build_ratio=round(first['car'][1]/native_s, 2), cold_start_s=round(cold_s, 2),
            reproducible=same, car_arm64_s=round(first['car'][1], 1), car_amd64_s=round(native_s, 1),
            twin_amd64_s=round(first['twin'][1], 1), kernels_compiled=compiled)))


if __name__ == '__main__':
    main()
