"""Notebooks as the book shows them: without nbdev's directives, and without the cells that they hide.

A Sphinx extension, named in _config.yml, and a reader of notebooks for myst-nb.
"""
import re

import nbformat

DIRECTIVE = re.compile(r'^#\s*\|\s*(\w+)(.*)\n?', re.M)


def shown_cell(cell):
    "Return a code cell without its directives; None when nothing of it is to be seen."
    directives = {name: value.strip(' :') for name, value in DIRECTIVE.findall(cell.source)}
    cell.source = DIRECTIVE.sub('', cell.source).strip('\n')
    if 'hide' in directives or not cell.source:
        return None
    if directives.get('echo') == 'false':
        cell.metadata.setdefault('tags', []).append('remove-input')
    return cell


def read(text):
    "Return the notebook that a text holds, as the book shows it."
    notebook = nbformat.reads(text, as_version=4)
    cells = [shown_cell(cell) if cell.cell_type == 'code' else cell for cell in notebook.cells]
    notebook.cells = [cell for cell in cells if cell is not None]
    return notebook


def setup(app):
    "Tell Sphinx that the extension may read pages in parallel; there is nothing else to set up."
    return dict(parallel_read_safe=True, parallel_write_safe=True)
