"`scripts/uv` installs as pip would: from where pip's settings say, by hash, and from nowhere else."
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.package_index import certificate, serving, sha256, wheel

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
TOY, NEWER = wheel('toy'), wheel('toy', '2.0')
UV = Path(sys.prefix)/'bin/uv'
pytestmark = pytest.mark.skipif(not UV.exists() and 'CI' not in os.environ, reason='no uv -> make setup')


@pytest.fixture
def nobody():
    "The address of an index that is not there: refused at once."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        yield f'http://127.0.0.1:{s.getsockname()[1]}/simple'


@pytest.fixture
def install(tmp_path):
    "Install toy 1.0 into a folder with the settings given; what the folder then holds, and what was said."
    def run(digest=sha256(TOY[1]), **settings):
        (tmp_path/'wanted.txt').write_text(f'toy==1.0 --hash={digest}\n')
        others = 'PIP_', 'UV_', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE', 'SSL_CERT_FILE', 'SSL_CERT_DIR'
        ours = {k: v for k, v in os.environ.items() if not k.startswith(others) and 'proxy' not in k.lower()}
        ours |= dict(HOME=str(tmp_path), PIP_CONFIG_FILE=os.devnull, PIP_RETRIES='0', PIP_TIMEOUT='10')
        ours |= settings
        wanted = '--no-deps', '--require-hashes', '--target', 'to', '-r', 'wanted.txt'
        command = [sys.executable, ROOT/'scripts/uv', *wanted]
        done = subprocess.run(command, cwd=tmp_path, env=ours, capture_output=True, text=True, timeout=100)
        assert (done.returncode == 0) == (tmp_path/'to/toy').exists(), done.stderr
        return done.returncode == 0, done.stderr
    return run


@pytest.fixture
def index():
    with serving(TOY) as server:
        yield server


def test_the_index_of_the_environment(install, index):
    installed, output = install(PIP_INDEX_URL=index.address)
    assert installed and '/simple/toy/' in index.asked, output


def test_the_index_of_a_configuration_file(install, index, tmp_path):
    (tmp_path/'pip.conf').write_text(f'[install]\nindex-url = {index.address}\n')
    assert install(PIP_CONFIG_FILE=str(tmp_path/'pip.conf'))[0] and index.asked


def test_a_further_index_has_the_version_that_is_pinned(install, index):
    with serving(NEWER) as first:
        assert install(PIP_INDEX_URL=first.address, PIP_EXTRA_INDEX_URL=index.address)[0] and index.asked


def test_a_folder_and_no_index(install, tmp_path):
    (tmp_path/'wheels').mkdir()
    (tmp_path/'wheels'/TOY[0]).write_bytes(TOY[1])
    assert install(PIP_NO_INDEX='1', PIP_FIND_LINKS=f'{tmp_path}/not-there {tmp_path}/wheels')[0]


@pytest.mark.parametrize('name', ['PIP_PROXY', 'HTTP_PROXY', 'http_proxy'])
def test_a_proxy(install, index, name):
    proxy = index.address.removesuffix('/simple')
    assert install(PIP_INDEX_URL='http://packages.invalid/simple', **{name: proxy})[0]
    assert 'http://packages.invalid/simple/toy/' in index.asked


def test_certificates(install, tmp_path):
    with serving(TOY, tls=certificate(tmp_path)) as index:
        installed, output = install(PIP_INDEX_URL=index.address)
        assert not installed and not index.asked and 'certificate' in output
        assert install(PIP_INDEX_URL=index.address, PIP_CERT=str(tmp_path/'authority.pem'))[0]


@pytest.mark.parametrize('setting', ['PIP_TRUSTED_HOST', 'REQUESTS_CA_BUNDLE'])
def test_other_ways_to_trust(install, tmp_path, setting):
    with serving(TOY, tls=certificate(tmp_path)) as index:
        trust = dict(PIP_TRUSTED_HOST='127.0.0.1', REQUESTS_CA_BUNDLE=str(tmp_path/'authority.pem'))[setting]
        assert install(PIP_INDEX_URL=index.address, **{setting: trust})[0]


def test_another_file_of_that_name_is_refused(install, index):
    installed, output = install(digest=sha256(NEWER[1]), PIP_INDEX_URL=index.address)
    assert not installed and 'ash mismatch' in output


def test_nobody_else_is_asked(install, index, nobody):
    "Neither uv's own default, when pip's index does not answer, nor what uv has been told."
    proxy = index.address.removesuffix('/simple')
    with serving(TOY) as other:
        misleading = dict(UV_DEFAULT_INDEX=other.address, UV_INDEX_URL=other.address, UV_INDEX=other.address)
        misleading |= dict(HTTP_PROXY=proxy, HTTPS_PROXY=proxy, NO_PROXY='127.0.0.1')
        assert not install(PIP_INDEX_URL=nobody, **misleading)[0]
        assert index.asked == other.asked == []
        with serving() as empty:
            assert not install(PIP_INDEX_URL=empty.address, **misleading)[0]
        assert empty.asked and index.asked == other.asked == []


def test_files_of_uv_are_not_read(install, index, nobody, tmp_path):
    (tmp_path/'uv.toml').write_text(f'[[index]]\nurl = "{nobody}"\ndefault = true\n')
    assert install(PIP_INDEX_URL=index.address)[0]


def test_the_cache_lies_beside_pips(install, index, tmp_path):
    assert install(PIP_INDEX_URL=index.address, PIP_CACHE_DIR=str(tmp_path/'kept'))[0]
    assert (tmp_path/'kept/uv').is_dir() and not (tmp_path/'.cache/uv').exists()


def test_no_cache(install, index, tmp_path):
    assert install(PIP_INDEX_URL=index.address, PIP_NO_CACHE_DIR='1')[0]
    assert not (tmp_path/'.cache/uv').exists()


def test_no_place_for_a_cache(install, index, tmp_path):
    "As in a container whose user has no home."
    home = tmp_path/'home'
    home.mkdir(mode=0o500)
    if not os.geteuid():
        os.chown(home, 12345, -1)   # root could write, and leaves others' folders alone
    assert install(PIP_INDEX_URL=index.address, HOME=str(home))[0] and not [*home.iterdir()]
