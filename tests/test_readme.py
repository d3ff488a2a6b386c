"README.md is nbs/index.ipynb, and its pictures are where it says."
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)


def test_the_readme_is_the_index(tmp_path):
    subprocess.run([ROOT/'scripts/readme', tmp_path], check=True,
                   env={**os.environ, 'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}'})
    made = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    assert made == {'README.md': (ROOT/'README.md').read_bytes()}, 'make check'


def test_its_links_lead_somewhere():
    text = (ROOT/'README.md').read_text()
    links = re.findall(r'\]\(([^)#\s]+)[^)]*\)', text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert len(links) > 10
    assert not [link for link in links if '://' not in link and not (ROOT/link).exists()]


def test_it_is_an_entrance():
    text = (ROOT/'README.md').read_text()
    assert len(text.split()) < 900
    assert text.index('](nbs/images/lap.webp)') < text.index('## '), 'a moving picture comes first'


PAGES = sorted((ROOT/'nbs/book').glob('*.md')) + sorted(ROOT.glob('*.md'))


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_links_of_a_page_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#\s]+)[^)]*\)', page.read_text())
    assert not [link for link in links if '://' not in link and not (page.parent/link).exists()]
    prose = [line for line in page.read_text().splitlines() if '|' not in line and '](' not in line]
    assert max(map(len, prose)) <= 110
