"README.md is nbs/index.ipynb, and its pictures are where it says."
import os
import re
import subprocess
import sys
from pathlib import Path

from edgecar.core import root

ROOT = root(Path(__file__).parent)


def test_the_readme_is_the_index(tmp_path):
    subprocess.run([ROOT/'scripts/readme', tmp_path], check=True,
                   env={**os.environ, 'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}'})
    made = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    ours = [ROOT/'README.md', *(ROOT/'README_files').rglob('*')]
    assert made == {str(p.relative_to(ROOT)): p.read_bytes() for p in ours if p.is_file()}, 'make check'


def test_its_links_lead_somewhere():
    text = (ROOT/'README.md').read_text()
    links = re.findall(r'\]\(([^)#\s]+)[^)]*\)', text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert not [link for link in links if '://' not in link and not (ROOT/link).exists()]
