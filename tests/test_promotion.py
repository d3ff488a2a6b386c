"""Promotion from end to end: signed images in a real registry, overlays in a repository behind a real git
server. What devices follow changes only by a commit that was earned."""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support.loopback import free_port
from support.registry import Server
from support.signing import Club

from edgecar.contracts.rules import RULES, RuleVerdict
from edgecar.core import EdgecarError
from edgecar.release.oci import OciLayout
from edgecar.release.promotion import (
    OVERLAY, PROOF_FILE, Promotion, overlay_pin, promote_image, prove_twin
)

ROOT, EDGECAR = Path(__file__).parents[1], Path(sys.prefix)/'bin/edgecar'
pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
quiet = dict(say=lambda line: None)
WHO = {f'GIT_{who}_{what}': f'{what.lower()}@localhost' for who in ('AUTHOR', 'COMMITTER')
       for what in ('NAME', 'EMAIL')}


@pytest.fixture(scope='module', autouse=True)
def tools():
    done = subprocess.run([ROOT/'scripts/image-tools'], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr)


@pytest.fixture(scope='module')
def registry(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp('registry'))
    yield server
    server.stop()


class GitServer:
    "git's own daemon on this machine, with one bare repository that anybody may push to."
    def __init__(self, folder):
        self.folder = folder
        subprocess.run(['git', 'init', '-q', '--bare', '-b', 'main', folder/'deploy.git'], check=True)
        self.port = free_port()
        self.url = f'git://127.0.0.1:{self.port}/deploy.git'
        self.start()

    def start(self):
        "Serve, until `stop`, in a process group of its own."
        daemon = Path(subprocess.run(['git', '--exec-path'], capture_output=True, text=True).stdout.strip())
        self.process = subprocess.Popen(
            [daemon/'git-daemon', '--listen=127.0.0.1', f'--port={self.port}', '--reuseaddr', '--export-all',
             f'--base-path={self.folder}', '--enable=receive-pack', self.folder], stderr=subprocess.DEVNULL,
            start_new_session=True)
        end = time.monotonic() + 30
        while subprocess.run(['git', 'ls-remote', self.url], capture_output=True).returncode:
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(.05)

    def git(self, *words):
        done = subprocess.run(['git', '-C', self.folder/'deploy.git', *words], check=True, text=True,
                              capture_output=True)
        return done.stdout

    def file(self, path, branch='main'):
        return self.git('show', f'{branch}:{path}')

    def pin(self, target, branch='main'):
        return overlay_pin(self.file(OVERLAY.format(target), branch), target)[1]

    def subjects(self, branch='main'):
        return self.git('log', '--format=%s', branch).splitlines()

    def stop(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def git(tmp_path):
    (tmp_path/'git').mkdir()
    server = GitServer(tmp_path/'git')
    work = tmp_path/'work'
    subprocess.run(['git', 'clone', '-q', server.url, work], check=True, capture_output=True)
    shutil.copytree(ROOT/'deploy/overlays', work/'deploy/overlays')
    for words in ('add -A', 'commit -qm Deploy', 'push -q origin HEAD:main'):
        subprocess.run(['git', '-C', work, *words.split()], check=True, env=os.environ | WHO)
    yield server
    server.stop()


class Releases:
    "Releases of a club, pushed with their signatures and attestations."
    def __init__(self, folder, registry):
        self.club, self.to = Club(folder), f'localhost:{registry.port}/club/{folder.name}'
        self.keys = folder/'image.pub', folder/'gate.pub'

    def push(self, *words, **says):
        "Push a signed release; return its digest."
        digest, send = self.make(*words, **says)
        send()
        return digest

    def make(self, target, version='v1.0.0', pilot=b'pilot', **says):
        "Make a signed release; return its digest, and what pushes it."
        name = f'{self.to}-{target}'
        ref = self.club.release(version, pilot, listed=False, below=target.encode(), repository=name,
                                target=target, **says)
        folder = Path(ref.removeprefix('oci:').rpartition(':')[0])
        digest = OciLayout(folder).find(version)
        tags = version, *(f"{digest.replace(':', '-')}.{kind}" for kind in ('sig', 'att'))

        def send(some=tags):
            for tag in some:
                subprocess.run(['skopeo', 'copy', '-q', '--preserve-digests', '--dest-tls-verify=false',
                                f'oci:{folder}:{tag}', f'docker://{name}:{tag}'], check=True)

        send.tags = tags
        return digest, send

    def promotion(self, git, target, digest, **more):
        return Promotion(target, self.to, digest, git.url, **more)


@pytest.fixture
def releases(tmp_path, registry):
    (tmp_path/'club').mkdir()
    return Releases(tmp_path/'club', registry)


def promote(releases, git, target, digest, **more):
    return promote_image(releases.promotion(git, target, digest, **more), *releases.keys, **quiet)


def judge(kept):
    "In the place of a drive of minutes: what it would find."
    found = dict(most=1., least=1.) if kept else dict(most=2., least=0.)
    verdicts = [RuleVerdict(n, rule.kind, 1., found[rule.kind]) for n, rule in RULES.items() if rule.driving]
    return lambda pilot: (verdicts, 1.5)


def prove(releases, git, kept=True):
    promotion = releases.promotion(git, 'twin', 'sha256:' + '0'*64)
    return prove_twin(promotion, releases.keys, judge(kept), **quiet)


def test_the_twin_then_its_proof_then_the_car(releases, git):
    twin, car = releases.push('twin'), releases.push('car')
    with pytest.raises(EdgecarError, match='the twin has not proved the pilot'):
        promote(releases, git, 'car', car)
    assert git.pin('car') == ''
    promote(releases, git, 'twin', twin)
    with pytest.raises(EdgecarError, match='the twin has not proved the pilot'):
        promote(releases, git, 'car', car)
    assert all(v.kept for v in prove(releases, git))
    promote(releases, git, 'car', car)
    assert (git.pin('twin'), git.pin('car')) == (twin, car)
    assert git.subjects() == ['Promote car to v1.0.0', 'Let the twin prove v1.0.0', 'Promote twin to v1.0.0',
                              'Deploy']
    lists = [yaml.safe_load(git.file(OVERLAY.format(t)))['images'] for t in ('twin', 'car')]
    assert [x['newName'] for [x] in lists] == [f'{releases.to}-{t}' for t in ('twin', 'car')]


def test_signatures_that_come_later_are_waited_for(releases, git):
    "As Chains signs: the image is there first, then its signature, then what is attested."
    twin, send = releases.make('twin', pilot=b'late')   # another digest than other tests have
    left, lines = list(send.tags), []

    def say(line):
        lines.append(line)
        if line.startswith('waits'):   # for one more
            send([left.pop(0)])

    promote_image(releases.promotion(git, 'twin', twin), *releases.keys, say=say, wait_s=120.)
    assert git.pin('twin') == twin and not left, lines


def test_again_it_changes_nothing(releases, git):
    twin = releases.push('twin')
    assert promote(releases, git, 'twin', twin) and not promote(releases, git, 'twin', twin)
    prove(releases, git)
    prove(releases, git)
    assert len(git.subjects()) == 3


def test_a_pilot_below_the_gate_leaves_no_proof(releases, git):
    twin, car = releases.push('twin'), releases.push('car')
    promote(releases, git, 'twin', twin)
    assert not all(v.kept for v in prove(releases, git, kept=False))
    with pytest.raises(EdgecarError, match='has not proved'):
        promote(releases, git, 'car', car)
    assert git.pin('car') == '' and len(git.subjects()) == 2


def test_the_proof_of_another_pilot_does_not_count(releases, git):
    promote(releases, git, 'twin', releases.push('twin'))
    prove(releases, git)
    with pytest.raises(EdgecarError, match='has not proved'):
        promote(releases, git, 'car', releases.push('car', 'v1.1.0', b'another'))


def test_a_proof_ends_with_the_next_twin(releases, git):
    first = releases.push('twin'), releases.push('car')
    promote(releases, git, 'twin', first[0])
    prove(releases, git)
    promote(releases, git, 'twin', releases.push('twin', 'v1.1.0', b'another'))
    with pytest.raises(EdgecarError, match='has not proved'):
        promote(releases, git, 'car', first[1])


def test_a_proof_that_was_written_by_hand_is_no_proof(releases, git, tmp_path):
    twin, car = releases.push('twin'), releases.push('car')
    promote(releases, git, 'twin', twin)
    subprocess.run(['git', 'clone', '-q', git.url, tmp_path/'hand'], check=True)
    (tmp_path/'hand'/PROOF_FILE).write_text(json.dumps(dict(schema=1, image=twin)))
    for words in ('add -A', 'commit -qm Hope', 'push -q origin HEAD:main'):
        subprocess.run(['git', '-C', tmp_path/'hand', *words.split()], check=True, env=os.environ | WHO)
    with pytest.raises(EdgecarError, match='has not proved'):
        promote(releases, git, 'car', car)


def test_what_nobody_signed_is_not_promoted(releases, git, tmp_path):
    (tmp_path/'others').mkdir()
    twin, other = releases.push('twin'), Club(tmp_path/'others')
    keys = other.folder/'image.pub', other.folder/'gate.pub'
    nothing = 'sha256:' + '1'*64
    for digest, use, why in ((twin, keys, 'signed|signature'), (nothing, releases.keys, 'not there')):
        with pytest.raises(EdgecarError, match=why):
            promote_image(releases.promotion(git, 'twin', digest), *use, **quiet)
    assert git.pin('twin') == '' and git.subjects() == ['Deploy']


def edgecar(releases, git, *words):
    env = os.environ | dict(EDGECAR_REGISTRY=releases.to, EDGECAR_DEPLOY_GIT=git.url, COLUMNS='200',
                            EDGECAR_IMAGE_PUB=str(releases.keys[0]), EDGECAR_GATE_PUB=str(releases.keys[1]))
    done = subprocess.run([EDGECAR, 'release', *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert 'Traceback' not in done.stderr, done.stderr
    return done


def test_a_roll_back_is_the_same_verb(releases, git):
    old = releases.push('twin'), releases.push('car')
    promote(releases, git, 'twin', old[0])
    prove(releases, git)
    promote(releases, git, 'car', old[1])
    new = releases.push('twin', 'v1.1.0', b'new'), releases.push('car', 'v1.1.0', b'new')
    promote(releases, git, 'twin', new[0])
    prove(releases, git)
    assert edgecar(releases, git, 'promote', 'car', '--to', new[1]).returncode == 0
    done = edgecar(releases, git, 'rollback', 'car')
    assert done.returncode == 0, done.stderr
    assert git.pin('car') == old[1] and git.pin('twin') == new[0]
    assert git.subjects()[0] == 'Roll back car to v1.0.0'


def test_a_car_does_not_roll_back_to_what_the_twin_never_proved(releases, git):
    never = releases.push('car', 'v0.9.0', b'never')
    promote(releases, git, 'twin', releases.push('twin'))
    prove(releases, git)
    done = edgecar(releases, git, 'rollback', 'car', '--to', never)
    assert done.returncode == 1 and 'has not proved' in done.stderr


def test_a_branch_of_its_own_asks_for_a_review(releases, git):
    twin = releases.push('twin')
    promote(releases, git, 'twin', twin, branch='promote/v1.0.0')
    assert git.pin('twin') == '' and git.pin('twin', 'promote/v1.0.0') == twin


def test_whoever_was_slower_fails_and_can_try_again(releases, git):
    git.git('config', 'receive.denyUpdateHook', 'true')
    hook = git.folder/'deploy.git/hooks/update'
    hook.write_text('#!/bin/sh\necho protected >&2; exit 1\n')
    hook.chmod(0o755)
    twin = releases.push('twin')
    with pytest.raises(EdgecarError, match='git push failed.*protected'):
        promote(releases, git, 'twin', twin)
    assert git.pin('twin') == ''
    hook.unlink()
    assert promote(releases, git, 'twin', twin) and git.pin('twin') == twin


def push_hook(tmp_path, monkeypatch, script):
    "Let git run a script before it pushes, in the clone of the promotion: what happens just then."
    (hooks := tmp_path/'hooks').mkdir()
    (hooks/'pre-push').write_text(f'#!/bin/sh\nset -e\n{script}\n')
    (hooks/'pre-push').chmod(0o755)
    (tmp_path/'gitconfig').write_text(f'[core]\n\thooksPath = {hooks}\n')
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', str(tmp_path/'gitconfig'))


def others(tmp_path, change):
    "A script: somebody else pushes a change, once."
    who = '-c core.hooksPath=/dev/null -c user.name=o -c user.email=o@localhost'
    return f"""[ -e {tmp_path}/done ] && exit 0
        touch {tmp_path}/done
        cd {tmp_path}/work
        unset GIT_DIR
        git {who} pull -q origin main
        {change}
        git add -A
        git {who} commit -qm Other
        git {who} push -q origin HEAD:main"""


def test_a_branch_that_moved_is_read_again(releases, git, tmp_path, monkeypatch):
    twin = releases.push('twin')
    push_hook(tmp_path, monkeypatch, others(tmp_path, 'echo 1 >other'))
    assert promote(releases, git, 'twin', twin) and git.pin('twin') == twin
    assert git.subjects() == ['Promote twin to v1.0.0', 'Other', 'Deploy'] and git.file('other') == '1\n'


def test_a_car_is_not_promoted_by_a_proof_that_ended_meanwhile(releases, git, tmp_path, monkeypatch):
    first = releases.push('twin'), releases.push('car')
    promote(releases, git, 'twin', first[0])
    prove(releases, git)
    overlay, new = OVERLAY.format('twin'), 'sha256:' + '7'*64
    push_hook(tmp_path, monkeypatch, others(tmp_path, f'sed -i s/{first[0]}/{new}/ {overlay}'))
    with pytest.raises(EdgecarError, match='has not proved'):
        promote(releases, git, 'car', first[1])
    assert git.pin('car') == '' and git.subjects()[0] == 'Other'


def test_a_proof_of_what_the_twin_ran_before_is_not_written(releases, git, tmp_path, monkeypatch):
    old, new = releases.push('twin'), 'sha256:' + '7'*64
    promote(releases, git, 'twin', old)
    overlay = OVERLAY.format('twin')
    push_hook(tmp_path, monkeypatch, others(tmp_path, f'sed -i s/{old}/{new}/ {overlay}'))
    with pytest.raises(EdgecarError, match='the twin runs sha256:777'):
        prove(releases, git)
    assert PROOF_FILE not in git.git('ls-tree', '-r', '--name-only', 'main')


def test_a_server_that_goes_in_the_middle_leaves_what_was(releases, git, tmp_path, monkeypatch):
    "It answers the fetch, and is gone at the push; later the same command goes through."
    twin = releases.push('twin')
    push_hook(tmp_path, monkeypatch, f"{sys.executable} -c 'import os; os.killpg({git.process.pid}, 9)'")
    with pytest.raises(EdgecarError, match='git push failed'):
        promote(releases, git, 'twin', twin)
    git.process.wait()
    assert git.pin('twin') == '' and git.subjects() == ['Deploy']
    monkeypatch.delenv('GIT_CONFIG_GLOBAL')
    git.start()
    assert promote(releases, git, 'twin', twin) and git.pin('twin') == twin


def test_without_a_server_nothing_is_promoted(releases, git):
    twin = releases.push('twin')
    git.stop()
    with pytest.raises(EdgecarError, match='git fetch failed'):
        promote(releases, git, 'twin', twin)


def test_no_password_of_the_repository_is_shown(releases, git):
    twin = releases.push('twin')
    secret = releases.promotion(git, 'twin', twin)
    url = f'http://me:geheim@127.0.0.1:{git.port}/deploy.git'
    with pytest.raises(EdgecarError) as e:
        promote_image(Promotion('twin', secret.to, twin, url), *releases.keys, **quiet)
    assert 'geheim' not in str(e.value)
