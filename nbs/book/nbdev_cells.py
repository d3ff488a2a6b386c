"""Notebooks as the book shows them: without nbdev's directives, and without the cells that they hide;
pictures
with a text for who does not see them; formulas without a network.

A Sphinx extension, named in _config.yml, and a reader of notebooks for myst-nb.
"""
import re
from importlib.util import find_spec
from pathlib import Path

import nbformat

DIRECTIVE = re.compile(r'^#\s*\|\s*(\w+)(.*)\n?', re.M)
MARKS = re.compile(r'^[#>|\-\s]+|[*`$|]|\[(?=[^]]*\]\()|\]\([^)]*\)', re.M)
MATHJAX = 'tex-svg.js'   # one file: with its letters, which are drawn


def shown_cell(cell):
    "Return a code cell without its directives; None when nothing of it is to be seen."
    directives = {name: value.strip(' :') for name, value in DIRECTIVE.findall(cell.source)}
    cell.source = DIRECTIVE.sub('', cell.source).strip('\n')
    if 'hide' in directives or not cell.source:
        return None
    if directives.get('echo') == 'false':
        cell.metadata.setdefault('tags', []).append('remove-input')
    return cell


def last_words(prose):
    "Return the last paragraph of a cell of prose, without its marks."
    paragraphs = [text for text in re.split(r'\n\s*\n', prose) if text.strip()]
    return ' '.join(MARKS.sub('', paragraphs[-1]).split())[:300] if paragraphs else ''


def read(text):
    "Return the notebook that a text holds, as the book shows it."
    notebook = nbformat.reads(text, as_version=4)
    cells, words = [], ''
    for cell in notebook.cells:
        if cell.cell_type == 'markdown':
            words = last_words(cell.source) or words
        elif cell.cell_type == 'code' and (cell := shown_cell(cell)):
            cell.metadata['mystnb'] = dict(image=dict(alt=words or 'what the code above draws'))
        if cell is not None:
            cells.append(cell)
    notebook.cells = cells
    return notebook


def use_own_mathjax(app, config):
    "Take MathJax from the package that the lock has, where it is installed; else from its usual address."
    if package := find_spec('mathjax'):
        [folder] = package.submodule_search_locations
        config.html_static_path.append(str(Path(folder)/'static/mathjax/es5'/MATHJAX))
        config.mathjax_path = MATHJAX


def setup(app):
    "Tell Sphinx what to do before it reads, and that the extension may read pages in parallel."
    app.connect('config-inited', use_own_mathjax)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
