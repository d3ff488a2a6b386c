"Public tubs: a server that misbehaves, archives that mean harm, interruptions, full disks, DVC."
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgecar.core import EdgecarError, repo_root
from edgecar.contracts.digest import folder_md5
from edgecar.data import public
from edgecar.data.public import (PUBLIC_TUBS, PublicTub, install_tub, is_installed, pinned_md5,
                                 pin_tub, unpack_archive)

REAL = 'donkeycar-test-tub'
QUICK = dict(wait=.01, stall=.5)


# A tub in an archive, and an entry for it in the registry

def tub_files(folder='tub/'):
    "The files of a small tub; its picture does not compress, so that the archive has some size."
    noise = b''.join(hashlib.sha256(bytes([n, m])).digest() for n in range(100) for m in range(100))
    manifest = (b'[]\n[]\n{}\n{}\n'
                b'{"paths": [], "current_index": 0, "max_len": 1000, "deleted_indexes": []}\n')
    return {f'{folder}manifest.json': manifest, f'{folder}images/0_cam_image_array_.jpg': noise}

def tar(files, mode='w:gz'):
    "A tar of {name: bytes} or of headers without content."
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for x in files:
            head, body = (tarfile.TarInfo(x), files[x]) if isinstance(x, str) else (x, b'')
            if body:
                head.size = len(body)
            t.addfile(head, io.BytesIO(body) if body else None)
    return out.getvalue()

def header(name, kind, target='', size=0):
    head = tarfile.TarInfo(name)
    head.type, head.linkname, head.size = kind, target, size
    return head

def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, body in files.items():
            z.writestr(name, body)
    return out.getvalue()

ARCHIVE = tar(tub_files())
SIZE = len(ARCHIVE)

@pytest.fixture
def here(tmp_path, monkeypatch):
    "An empty working folder without a mirror and without a proxy."
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('EDGECAR_MIRROR', raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    return tmp_path

@pytest.fixture
def register(monkeypatch):
    "Put an archive into the registry as the tub `toy`."
    def add(url='http://127.0.0.1:0/toy.tar.gz', body=ARCHIVE, name='toy'):
        tub = PublicTub(name, url, hashlib.sha256(body).hexdigest(), len(body),
                        'none stated by the publisher')
        monkeypatch.setitem(PUBLIC_TUBS, name, tub)
        return tub
    return add

def left(folder):
    "What lies in a folder besides the downloads and their locks."
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*')
                  if p.is_file() and '.cache' not in p.parts)


# A server that does as it is told: one behaviour a request, the last one for ever

class Server(ThreadingHTTPServer):
    daemon_threads = True
    def __init__(self, behaviours, body):
        super().__init__(('127.0.0.1', 0), Handler)
        self.behaviours, self.body, self.asked, self.over = deque(behaviours), body, [], threading.Event()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_port}/toy.tar.gz'


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        behave = server.behaviours.popleft() if len(server.behaviours) > 1 else server.behaviours[0]
        server.asked.append(self.headers.get('Range'))
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            behave(self)

    @property
    def start(self):
        return int(re.fullmatch(r'bytes=(\d+)-', self.headers['Range'])[1]) if 'Range' in self.headers else 0

    def head(self, code, **headers):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace('_', '-'), str(value))
        self.end_headers()

    def rest(self, ranges=True):
        "Answer with the headers of all that is missing, and return it."
        at, size = self.start if ranges else 0, len(self.server.body)
        if at:
            self.head(206, Content_Length=size - at, Content_Range=f'bytes {at}-{size - 1}/{size}')
        else:
            self.head(200, Content_Length=size)
        return self.server.body[at:]


def well(h):
    h.wfile.write(h.rest())


def ignores_ranges(h):
    h.wfile.write(h.rest(ranges=False))


def refuses_ranges(h):
    h.head(416, Content_Range=f'bytes */{SIZE}', Content_Length=0) if h.start else well(h)


def wrong_range(h):
    h.head(206, Content_Length=SIZE, Content_Range=f'bytes 0-{SIZE - 1}/{SIZE}') if h.start else well(h)


def wrong_hash(h):
    h.rest()
    h.wfile.write(bytes(SIZE - h.start))


def labelled(h):
    h.head(200, Content_Length=SIZE, Content_Encoding='gzip')
    h.wfile.write(h.server.body)


def in_chunks(h):
    h.protocol_version = 'HTTP/1.1'
    h.head(200, Transfer_Encoding='chunked')
    for at in range(0, SIZE, 5000):
        h.wfile.write(b'%x\r\n%b\r\n' % (len(piece := h.server.body[at:at + 5000]), piece))
    h.wfile.write(b'0\r\n\r\n')


def too_much(h):
    h.head(200)
    h.wfile.write(h.server.body + b'!')


def other_file(h):
    h.head(200, Content_Length=5)
    h.wfile.write(b'hello')


def moved(h):
    h.head(302, Location='/elsewhere.tar.gz', Content_Length=0)


def status(code):
    return lambda h: h.head(code, Content_Length=0)


def truncates(n, ranges=True):
    return lambda h: h.wfile.write(h.rest(ranges)[:n])


def drops(n):
    def behave(h):
        h.wfile.write(h.rest()[:n])
        h.wfile.flush()
        # close with a reset
        h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        h.connection.close()
    return behave


def stalls(n):
    def behave(h):
        h.wfile.write(h.rest()[:n])
        h.server.over.wait(60)
    return behave


@pytest.fixture
def serve():
    "Start servers that stop with the test."
    with contextlib.ExitStack() as stack:
        def start(*behaviours, body=ARCHIVE):
            server = stack.enter_context(Server(behaviours, body))
            thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=.01))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            stack.callback(server.over.set)
            return server

        yield start


# The registry

def test_registry_is_whole():
    assert len(PUBLIC_TUBS) == 43 and {name for name, tub in PUBLIC_TUBS.items() if name != tub.name} == set()
    for tub in PUBLIC_TUBS.values():
        assert (re.fullmatch('[0-9a-f]{64}', tub.sha256) and tub.bytes > 1e6
                and tub.url.startswith('https://') and tub.url.endswith('.tar.gz'))
    assert len({tub.sha256 for tub in PUBLIC_TUBS.values()}) == len({tub.url
                                                                     for tub in PUBLIC_TUBS.values()}) == 43

def test_terms_say_when_there_are_none():
    assert 'ask before you publish' in PUBLIC_TUBS['ucsd_morn'].terms
    assert PUBLIC_TUBS[REAL].terms == 'MIT (donkeycar)'

def test_unknown_name_suggests_one(here):
    with pytest.raises(EdgecarError, match='did you mean ucsd_morn?'):
        install_tub('ucsd_mron')


# Servers

@pytest.mark.parametrize('behaviours, ranges', [
    ([well], [None]),
    ([truncates(1000), well], [None, 'bytes=1000-']),
    ([stalls(1000), well], [None, 'bytes=1000-']),
    ([truncates(1000), ignores_ranges], [None, 'bytes=1000-']),
    ([truncates(1000), refuses_ranges, well], [None, 'bytes=1000-', None]),
    ([truncates(1000), wrong_range, well], [None, 'bytes=1000-', None]),
    ([status(500), status(503), status(429), well], [None] * 4),
    ([moved, well], [None, None]),
    ([in_chunks], [None]),
    ([labelled], [None]),
    # as long as it gets on, it goes on
    ([truncates(SIZE // 20)], [None] + [f'bytes={n * (SIZE // 20)}-' for n in range(1, 21)]),
], ids=['well', 'truncated', 'stalled', 'ranges ignored', 'ranges refused', 'wrong range', 'errors first',
        'moved', 'chunked', 'labelled gzip', 'in 20 pieces'])
def test_delivers(here, register, serve, behaviours, ranges):
    server = serve(*behaviours)
    register(server.url)
    tub = install_tub('toy', **QUICK)
    assert tub == here/'tubs/toy' and is_installed('toy')
    assert {p: (tub/p).read_bytes() for p in left(tub)} == tub_files('')
    assert server.asked == ranges
    assert not list(here.rglob('*.part')) and not list((here/'tubs').glob('.*'))

def test_delivers_over_a_line_that_drops(here, register, serve):
    server = serve(drops(1000), drops(2000), well)      # how much of it arrives is the kernel's choice
    register(server.url)
    install_tub('toy', **QUICK)
    assert is_installed('toy') and len(server.asked) == 3

@pytest.mark.parametrize('behaviour, message, requests', [
    (status(404), '404', 1),
    (status(403), '403', 1),
    (status(500), '500', 5),
    (truncates(0), 'closed early|broken|IncompleteRead', 5),
    # the same 1000 bytes again and again are no progress
    (truncates(1000, ranges=False), '1000 of .* after 5 tries', 6),
    (drops(0), 'after 5 tries', 5),
    (stalls(0), 'timed out', 5),
    (too_much, 'sends more than', 1),
    (other_file, 'offers 5 bytes where', 1),
])
def test_gives_up_with_the_cause_and_the_mend(here, register, serve, behaviour, message, requests):
    server = serve(behaviour)
    register(server.url)
    with pytest.raises(EdgecarError, match=message) as e:
        install_tub('toy', wait=.001, stall=.2)
    assert len(server.asked) == requests and left(here) == []
    assert server.url in str(e.value) and 'EDGECAR_MIRROR' in str(e.value) and 'toy.tar.gz' in str(e.value)

def test_offline_names_address_and_mirror(here, register):
    url = register('http://127.0.0.1:0/toy.tar.gz').url     # nobody can listen there
    with pytest.raises(EdgecarError, match='refused') as e:
        install_tub('toy', **QUICK)
    assert url in str(e.value) and 'EDGECAR_MIRROR' in str(e.value) and left(here) == []

def test_wrong_hash_is_put_aside_and_never_unpacked(here, register, serve, monkeypatch):
    monkeypatch.setattr(public, 'unpack_archive',
                        lambda *_: pytest.fail('unpacked before the sha256 was right'))
    server = serve(wrong_hash)
    register(server.url)
    with pytest.raises(EdgecarError, match='sha256 is .*not unpacked'):
        install_tub('toy', **QUICK)
    assert [p.name for p in here.rglob('toy.*')] and not list(here.rglob('*.part'))
    assert next(here.rglob('toy.wrong')).read_bytes() == bytes(SIZE)
    with pytest.raises(EdgecarError):
        install_tub('toy', **QUICK)
    assert server.asked == [None, None]     # what was wrong is not gone on with

def test_part_of_another_file_is_found_out(here, register, serve):
    server = serve(well)
    register(server.url)
    (here/'.cache/tubs').mkdir(parents=True)
    (here/'.cache/tubs/toy.part').write_bytes(bytes(1000))
    with pytest.raises(EdgecarError, match='run it again'):
        install_tub('toy', **QUICK)
    assert install_tub('toy', **QUICK).is_dir() and server.asked == ['bytes=1000-', None]


# Mirrors

def test_folder_is_a_mirror(here, register, serve, monkeypatch):
    server = serve(status(500))
    register(server.url)
    (here/'usb').mkdir()
    (here/'usb/toy.tar.gz').write_bytes(ARCHIVE)
    monkeypatch.setenv('EDGECAR_MIRROR', 'usb')
    assert install_tub('toy').is_dir() and server.asked == []
    assert (here/'usb/toy.tar.gz').read_bytes() == ARCHIVE

def test_mirror_may_use_the_publishers_name(here, register):
    register('http://127.0.0.1:0/data/morning.tar.gz')
    (here/'morning.tar.gz').write_bytes(ARCHIVE)
    assert install_tub('toy', mirror=f'file://{here}').is_dir()

def test_address_is_a_mirror(here, register, serve):
    mirror, publisher = serve(well), serve(status(500))
    register(publisher.url)
    assert install_tub('toy', mirror=mirror.url.rsplit('/', 1)[0]).is_dir() and publisher.asked == []

@pytest.mark.parametrize('mirror', ['missing/folder', 'http://127.0.0.1:0', 'ftq://nowhere'])
def test_publisher_follows_a_mirror_that_has_nothing(here, register, serve, mirror):
    register(serve(well).url)
    assert install_tub('toy', mirror=mirror, **QUICK).is_dir()

def test_wrong_file_in_a_mirror_is_an_error_and_stays(here, register):
    register()
    (here/'toy.tar.gz').write_bytes(b'something else')
    with pytest.raises(EdgecarError, match='toy.tar.gz: sha256 is .* replace it'):
        install_tub('toy', mirror=here)
    assert left(here) == ['toy.tar.gz']


# Archives

HOSTILE = {'parent': tar({'../escaped': b'x'}),
           'parent inside': tar({'tub/../../escaped': b'x'}),
           'absolute': tar({'/tmp/escaped': b'x'}),
           'backslash': tar({'tub\\..\\escaped': b'x'}),
           'symlink out': tar([header('tub/images', tarfile.SYMTYPE, '/etc')]),
           'symlink inside': tar([header('tub/a', tarfile.SYMTYPE, 'manifest.json')]),
           'hard link': tar([header('tub/a', tarfile.LNKTYPE, '/etc/passwd')]),
           'device': tar([header('tub/null', tarfile.CHRTYPE)]),
           'block device': tar([header('tub/disk', tarfile.BLKTYPE)]),
           'pipe': tar([header('tub/pipe', tarfile.FIFOTYPE)]),
           'bomb by size': tar([header('tub/zeros', tarfile.REGTYPE, size=1 << 40)]),
           'file as folder': tar({'tub': b'x', 'tub/manifest.json': b'x'}),
           'long name': tar({'n' * 300: b'x'}),
           'not an archive': b'<html>sign in first</html>',
           'empty': b'',
           'gzip of text': gzip.compress(b'hello' * 1000),
           'truncated gz': ARCHIVE[:SIZE // 2],
           'truncated tar': tar(tub_files(), 'w')[:100_000],
           'damaged gz': ARCHIVE[:1000] + bytes(1000) + ARCHIVE[2000:],
           'truncated zip': zipped(tub_files())[:-30],
           'zip parent': zipped({'../escaped': b'x'}),
           'zip absolute': zipped({'/tmp/escaped': b'x'}),
           'no tub': tar({'README': b'x'}),
           'old tub': tar({'tub/record_0.json': b'{}'}),
}

@pytest.mark.parametrize('body', HOSTILE.values(), ids=HOSTILE)
def test_refuses(tmp_path, monkeypatch, register, body):
    home = tmp_path/'home'
    home.mkdir()
    monkeypatch.chdir(home)
    register(body=body)
    (tmp_path/'toy.tar.gz').write_bytes(body)
    with pytest.raises(EdgecarError):
        install_tub('toy', mirror=tmp_path)
    assert (left(tmp_path) == ['toy.tar.gz'] and not (home/'tubs/toy').exists()
            and not list((home/'tubs').glob('.*')))

def test_refuses_a_link_in_a_zip(tmp_path):
    link = zipfile.ZipInfo('tub/images')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    (tmp_path/'a.zip').write_bytes(zipped({link: '/etc'}))
    with (tmp_path/'a.zip').open('rb') as f, pytest.raises(EdgecarError, match='holds a link'):
        unpack_archive(f, tmp_path/'out')

@pytest.mark.parametrize('pack', [tar, zipped])
def test_refuses_bombs(tmp_path, pack):
    (tmp_path/'many').write_bytes(pack({f'{n}.jpg': b'' for n in range(101)}))
    (tmp_path/'much').write_bytes(pack({'a': bytes(600_000), 'b': bytes(600_000)}))
    for name in 'many', 'much':
        with (tmp_path/name).open('rb') as f, pytest.raises(EdgecarError, match='more than'):
            unpack_archive(f, tmp_path/'out', most_files=100, most_bytes=1_000_000)
    assert sum(p.stat().st_size for p in (tmp_path/'out').rglob('*')) <= 1_000_000

def test_names_the_converter_of_old_tubs(here, register):
    body = HOSTILE['old tub']
    register(body=body)
    (here/'toy.tar.gz').write_bytes(body)
    with pytest.raises(EdgecarError, match='edgecar tub convert'):
        install_tub('toy', mirror=here)

@pytest.mark.parametrize('body', [
    ARCHIVE,
    tar(tub_files(''), 'w'),
    tar(tub_files('./'), 'w:bz2'),
    tar(tub_files('a/b/c/'), 'w:xz'),
    zipped(tub_files('tub/')),
    tar({'tub/._manifest.json': b'x', '._tub': b'x', '__MACOSX/tub/manifest.json': b'x',
         'tub/.DS_Store': b'x'} | tub_files() | {'readme.txt': b'x'}),
], ids=['gz', 'plain at the top', 'bz2 with dots', 'xz deep', 'zip', 'from a mac'])
def test_layouts_come_out_alike(here, register, body):
    register(body=body)
    (here/'toy.tar.gz').write_bytes(body)
    tub = install_tub('toy', mirror=here)
    assert {p: (tub/p).read_bytes() for p in left(tub)} == tub_files('')

def test_several_tubs_stay_apart(here, register):
    body = tar(tub_files('car/data/morning/') | tub_files('car/data/noon/') | {'car/config.py': b'x'})
    register(body=body)
    (here/'toy.tar.gz').write_bytes(body)
    tub = install_tub('toy', mirror=here)
    assert sorted(p.name for p in tub.iterdir()) == ['morning', 'noon'] and (tub/'noon/images').is_dir()


# What is there already

def test_changed_tub_is_told_and_not_touched(here, register):
    register()
    (here/'toy.tar.gz').write_bytes(ARCHIVE)
    tub = install_tub('toy', mirror=here)
    (tub/'manifest.json').write_text('mine')
    for _ in 1, 2:
        with pytest.raises(EdgecarError, match='move it away'):
            install_tub('toy', mirror=here)
        (here/'.cache/tubs/toy.json').unlink(missing_ok=True)    # also when nothing is remembered of it
    assert (tub/'manifest.json').read_text() == 'mine' and not is_installed('toy')

def test_forgotten_tub_is_recognised(here, register):
    register()
    (here/'toy.tar.gz').write_bytes(ARCHIVE)
    tub = install_tub('toy', mirror=here)
    (here/'.cache/tubs/toy.json').unlink()
    assert not is_installed('toy')
    assert install_tub('toy', mirror=here) == tub and is_installed('toy')

def test_empty_folder_is_filled(here, register):
    register()
    (here/'toy.tar.gz').write_bytes(ARCHIVE)
    (here/'data').mkdir()
    (here/'.data.new/images').mkdir(parents=True)       # what a killed process left
    assert (left(install_tub('toy', to='data', mirror=here)) == sorted(tub_files(''))
            and not (here/'.data.new').exists())


# Interruptions: real processes

PROGRAM = '''
import json, resource, signal, sys
from edgecar.data.public import PUBLIC_TUBS, PublicTub, install_tub
entry, limit = json.loads(sys.argv[1]), int(sys.argv[2])
PUBLIC_TUBS['toy'] = PublicTub(**entry)
# a parent in the background may have left it ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print(install_tub('toy', wait=.01))
'''

@pytest.fixture
def process(here):
    "Start `install_tub` in processes that end with the test."
    (here/'settings.ini').touch(), (here/'dvc.yaml').touch()
    with contextlib.ExitStack() as stack:
        def start(tub, limit=0):
            p = subprocess.Popen([sys.executable, '-c', PROGRAM, json.dumps(vars(tub)), str(limit)], cwd=here,
                                 text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            stack.callback(p.communicate)
            stack.callback(p.kill)
            return p

        yield start

def until(condition, process):
    "Wait for something that a running process does."
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(.01)

@pytest.mark.parametrize('blow', [signal.SIGINT, signal.SIGKILL], ids=['ctrl-C', 'kill -9'])
def test_interrupted_download_goes_on(here, register, serve, process, blow):
    server = serve(stalls(SIZE // 2), well)
    tub, part = register(server.url), here/'.cache/tubs/toy.part'
    first = process(tub)
    until(lambda: part.is_file() and part.stat().st_size > 0, first)
    first.send_signal(blow)
    first.communicate(timeout=60)
    assert first.returncode and not (here/'tubs').exists()
    have = part.stat().st_size
    assert 0 < have <= SIZE // 2 and part.read_bytes() == ARCHIVE[:have]
    again = process(tub)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert server.asked == [None, f'bytes={have}-'] and is_installed('toy')

def test_two_at_once_download_once(here, register, serve, process):
    server = serve(well)
    tub = register(server.url)
    both = [process(tub), process(tub)]
    for p in both:
        out, err = p.communicate(timeout=120)
        assert p.returncode == 0, err
    assert server.asked == [None] and is_installed('toy')

def test_full_disk_while_downloading(here, register, serve, process):
    server = serve(well)
    tub = register(server.url)
    p = process(tub, limit=SIZE // 2)
    _, err = p.communicate(timeout=60)
    assert 'EdgecarError' in err and 'no room left' in err and not (here/'tubs').exists()
    assert install_tub('toy').is_dir() and server.asked == [None, f'bytes={SIZE // 2}-']

def test_full_disk_while_unpacking(here, register, serve, process):
    body = tar(tub_files() | {'tub/images/1_cam_image_array_.jpg': bytes(3_000_000)})   # packs to little
    server = serve(well, body=body)
    tub = register(server.url, body)
    p = process(tub, limit=1_000_000)
    _, err = p.communicate(timeout=60)
    assert 'EdgecarError' in err and 'no room left' in err and left(here/'tubs') == []
    assert install_tub('toy').is_dir() and server.asked == [None]    # the archive was kept


# DVC

def dvc(*args):
    return subprocess.run(
        [sys.executable, '-m', 'dvc', *args], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(here, register):
    "A repository with DVC, and the archive in its folder `usb`."
    (here/'settings.ini').touch(), (here/'dvc.yaml').write_text('stages: {}\n')
    subprocess.run(['git', 'init', '-q'], check=True)
    dvc('init', '-q')
    register()
    (here/'usb').mkdir()
    (here/'usb/toy.tar.gz').write_bytes(ARCHIVE)
    return here

@pytest.mark.slow
def test_further_tub_leaves_the_first_pin_alone(repository, register):
    shutil.copytree(install_tub('toy', mirror='usb'), repository/'data')
    shutil.rmtree(repository/'tubs')
    dvc('add', 'data')
    pin = (repository/'data.dvc').read_bytes()
    tub = install_tub('toy', mirror='usb')
    assert pin_tub(tub) == repository/'tubs/toy.dvc' and pinned_md5(tub) == folder_md5(tub)
    assert (repository/'data.dvc').read_bytes() == pin
    with pytest.raises(EdgecarError, match='starter recording'):
        pin_tub('data')
    with pytest.raises(EdgecarError, match='DVC refuses'):
        pin_tub('tubs/missing')


# The real one

def test_the_real_tub_or_one_that_stands_in(tmp_path, monkeypatch, register):
    "Through EDGECAR_MIRROR when it is set; else through a mirror made here."
    if mirror := os.environ.get('EDGECAR_MIRROR'):
        mirror = mirror if '://' in mirror else repo_root()/mirror
    else:
        from edgecar.data.synthetic import synthetic_tub
        synthetic_tub(tmp_path/'tub', n=1000)
        with tarfile.open(tmp_path/f'{REAL}.tar.gz', 'w:gz') as t:
            t.add(tmp_path/'tub', 'tub')
        register(PUBLIC_TUBS[REAL].url, (tmp_path/f'{REAL}.tar.gz').read_bytes(), REAL)
        mirror = tmp_path
    (tmp_path/'work').mkdir()
    monkeypatch.chdir(tmp_path/'work')
    tub = install_tub(REAL, to='data', mirror=mirror)
    assert (tub/'manifest.json').is_file() and len(list((tub/'images').iterdir())) == 1000
    assert not [p for p in tub.rglob('._*')] and install_tub(REAL, to='data', mirror='nowhere') == tub
