"The house style, measured: budgets of the notebooks, direction of the imports, what may not be in the tree."
import ast
import io
import json
import re
import statistics
import subprocess
import tokenize
from pathlib import Path

import pytest

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
LAYERS = [   # folder and the numbers in it: what stands below imports nothing that stands above
    ('contracts', '*'), ('.', '0?'), ('data', '*'), ('sim', '*'), ('pilot', '*'), ('web', '*'),
    ('widgets', '*'), ('car', '*'), ('campaign', '*'), ('release', '*'), ('fleet', '*'), ('.', '[1-9]?')]
ROOMS = [p for folder, numbers in LAYERS for p in sorted((ROOT/'nbs'/folder).glob(f'{numbers}_*.ipynb'))]
FLOWS = sorted((ROOT/'nbs/flows').glob('*.ipynb'))
GUIDES = sorted((ROOT/'nbs/guides').glob('*.ipynb'))
MODULES = sorted(p for p in (ROOT/'edgecar').rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))
named = dict(ids=lambda p: str(p.relative_to(ROOT)))


class Notebook:
    "The cells of a notebook, sorted by what they are for."
    def __init__(self, path):
        self.cells = json.loads(path.read_text())['cells']
        self.code = [c for c in self.cells if c['cell_type'] == 'code']
        self.prose = [c for c in self.cells if c['cell_type'] == 'markdown']

    def text(self, cell):
        return ''.join(cell['source'])

    def says(self, cell, word):
        return cell['cell_type'] == 'code' and bool(re.search(rf'^#\|\s*{word}', self.text(cell), re.M))

    def exports(self):
        return [c for c in self.code if self.says(c, 'export')]

    def lines(self, cell):
        return sum(bool(line.strip()) and not line.startswith('#|') for line in self.text(cell).splitlines())

    def defines(self, cell):
        return any(not isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(self.text(cell)).body)

    def picture_sizes_kb(self):
        data = [o.get('data', {}) for c in self.code for o in c['outputs']]
        pictures = [d[kind] for d in data for kind in ('image/png', 'image/jpeg', 'image/webp') if kind in d]
        return [len(''.join(picture)) * 3 / 4e3 for picture in pictures]

    def shows(self, cell):
        return (cell['cell_type'] == 'code'
                and not any(self.says(cell, w) for w in ('export', 'hide', 'default_exp')))


@pytest.mark.parametrize('path', ROOMS, **named)
def test_library_notebook(path):
    nb = Notebook(path)
    exports = nb.exports()
    sizes = [nb.lines(c) for c in exports]
    defining = [c for c in exports if nb.defines(c)]
    shown = [any(map(nb.shows, nb.cells[(i := nb.cells.index(c)) + 1:i + 4])) for c in defining]
    pictures = nb.picture_sizes_kb()
    first, title = nb.text(nb.cells[0]), nb.text(nb.cells[1])
    assert re.fullmatch(r'#\| default_exp [\w.]+', first)
    assert re.match(r'# \w+\n\n> [^\n]+(\n|$)', title), 'a title, then the line that becomes the docstring'
    budget = [  # what, measured, at least, at most
        ('prose cells to code cells', len(nb.prose) / len(nb.code), .35, 99),
        ('median lines of an export cell', statistics.median(sizes), 0, 16),
        ('lines of the longest export cell', max(sizes), 0, 60),
        ('exported lines', sum(sizes), 1, 500),
        ('cells', len(nb.cells), 1, 80),
        ('export cells with a demo or a test within 3 cells', sum(shown) / len(shown), .75, 1),
        ('hidden cells', sum(nb.says(c, 'hide') for c in nb.cells) / len(nb.cells), 0, .2),
        ('code cells with output', sum(bool(c['outputs']) for c in nb.code) / len(nb.code), .1, .25),
        ('cells with an execution count', sum(c['execution_count'] is not None for c in nb.code), 0, 0),
        ('KB of the largest picture', max(pictures, default=0), 0, 60),
    ]
    over = {what: value for what, value, least, most in budget if not least <= value <= most}
    assert not over
    ids = [c['id'] for c in nb.cells]
    assert len(set(ids)) == len(ids), 'a cell is there twice'


@pytest.mark.parametrize('path', FLOWS, **named)
def test_flow_notebook(path):
    nb = Notebook(path)
    assert len(nb.cells) <= 25
    assert not any(c['outputs'] or c['execution_count'] for c in nb.code), 'run `make check`'
    parameters = [c for c in nb.code if 'parameters' in c['metadata'].get('tags', [])]
    assert len(parameters) == 1, 'papermill ignores -p in silence without exactly one'
    for line in filter(None, nb.text(parameters[0]).splitlines()):
        statement, = ast.parse(line).body
        assert isinstance(statement, (ast.AnnAssign, ast.Assign)) and '  # ' in line, (
            f'name: type = default  # meaning, unit: {line}')
        ast.literal_eval(statement.value)
    for cell in nb.code:
        source = '\n'.join(line for line in nb.text(cell).splitlines() if not line.startswith('%'))
        assert not any(isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Lambda))
                       for n in ast.walk(ast.parse(source))), 'move it to a room'


@pytest.mark.parametrize('path', GUIDES, **named)
def test_guide(path):
    nb = Notebook(path)
    pictures = nb.picture_sizes_kb()
    assert re.match(r'# [^\n]+\n\n> [^\n]+(\n|$)', nb.text(nb.cells[0])), (
        'a title, then the line that says what one learns')
    assert not any(nb.says(c, word) for c in nb.code for word in ('export', 'default_exp')), (
        'a guide uses the library, and adds nothing to it')
    assert len(nb.prose) / len(nb.code) >= .5 and max(map(nb.lines, nb.code)) <= 25
    assert not any(c['execution_count'] for c in nb.code), 'run `make check`'
    assert pictures and max(pictures) <= 60, pictures


def module_name(path):
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def imports(path):
    "Every module that a module imports, absolute, also those inside functions."
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not any(a.name == '*' for a in node.names), f'{path}: import *'
            package = module_name(path).split('.')[:-node.level] if node.level else []
            base = '.'.join(package + [node.module] * bool(node.module))
            yield from (f'{base}.{a.name}' if f'{base}.{a.name}' in NUMBER else base for a in node.names)

NUMBER = {'edgecar.' + re.search(r'default_exp ([\w.]+)', p.read_text())[1]: n for n, p in enumerate(ROOMS)}


def test_rooms_are_numbered_within_their_folder():
    assert len(NUMBER) == len(MODULES)
    for folder in {p.parent for p in ROOMS} - {ROOT/'nbs'}:
        numbers = [int(p.name[:2]) for p in sorted(folder.glob('*.ipynb'))]
        assert numbers == list(range(1, len(numbers) + 1)), folder


@pytest.mark.parametrize('path', MODULES, **named)
def test_imports(path):
    modules, name = set(imports(path)), module_name(path)
    up = {i for i in modules if i.startswith('edgecar') and i != 'edgecar' and NUMBER[i] >= NUMBER[name]}
    assert not up, 'a room imports only what stands before it'
    tops = {i.split('.')[0] for i in modules}
    assert not tops & {'fastcore', 'execnb', 'ghapi'} | (
        tops & {'nbdev'} if name != 'edgecar.hooks' else set()), 'their pins would reach the car'
    if name not in ('edgecar.pilot.model', 'edgecar.pilot.train', 'edgecar.pilot.export'):
        assert not tops & {'tensorflow', 'keras'}


def public_definitions(path):
    "Public functions, classes and constants of a module: (name, node)."
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            targets = [e for t in node.targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
            names = [t.id for t in targets if isinstance(t, ast.Name)]
        else:
            names = []
        yield from ((name, node) for name in names if not name.startswith('_'))


def comment_lines(path):
    "Numbers of the lines that end in a comment."
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def public_functions(path):
    "Public functions and methods of public classes: (name, node)."
    for name, node in public_definitions(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield name, node
        elif isinstance(node, ast.ClassDef):
            methods = [m for m in node.body if isinstance(m, (ast.FunctionDef, ast.AsyncFunctionDef))]
            yield from ((f'{name}.{m.name}', m) for m in methods
                        if not m.name.startswith('_') or m.name == '__init__')


def parameters(function):
    "Parameters of a function that a caller gives."
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [a for a in given if a.arg not in ('self', 'cls')]


def is_property(function):
    return any('property' in ast.unparse(decorator) for decorator in function.decorator_list)


def gives(function):
    "Whether a function gives a value."
    functions = [n for n in ast.walk(function) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    nested = {id(x) for inner in functions if inner is not function for x in ast.walk(inner)}
    return any(isinstance(n, ast.Return) and n.value is not None and id(n) not in nested
               for n in ast.walk(function))


def test_parameters_returns_and_methods_are_documented():
    documented, missing = dict(parameters=[], returns=[], docstrings=[]), []
    for path in MODULES:
        commented = comment_lines(path)
        for name, function in public_functions(path):
            where = f'{module_name(path)}.{name}'
            for a in parameters(function):
                documented['parameters'].append(a.lineno in commented)
                missing += [f'{where}: {a.arg}'] * (a.lineno not in commented)
            if function.name == '__init__':
                continue
            documented['docstrings'].append(bool(ast.get_docstring(function)))
            if gives(function) and not is_property(function):
                head = range(function.lineno, function.body[0].lineno)
                documented['returns'].append(bool(function.returns or commented & set(head[-2:])))
                missing += [f'{where}: what it returns'] * (not documented['returns'][-1])
    shares = {what: sum(x) / len(x) for what, x in documented.items()}
    assert min(shares.values()) >= .98, f'{shares}, among them {missing[:40]}'


def paragraphs(text):
    "Prose of a Markdown text, a paragraph or an item of a list each: no code, table, heading or picture."
    text = re.sub(r'```.*?```|\$\$.*?\$\$', '\n\n', text, flags=re.S)
    text = re.sub(r'<[^>\n]+>', '', text)
    for part in re.split(r'\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)', text):
        lines = [line for line in part.splitlines() if not re.match(r'\s*[|#]|!\[|    ', line)]
        yield ' '.join(re.sub(r'^\s*(?:[-*]|\d+\.|>)\s+', '', line) for line in lines).strip()


def sentences(paragraph):
    "Sentences of a paragraph; what stands in backticks is one word."
    paragraph = re.sub(r'`[^`]*`|\$[^$]*\$', 'x', paragraph)
    paragraph = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', paragraph)
    return re.split(r'(?<=[.!?])\s+|(?<=[.!?]\*\*)\s+|(?<=[:;])\s+(?=[A-Z*(`x])', paragraph)


def prose():
    "All prose of the project: (where, text)."
    for path in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' not in path.parts:
            yield from ((path, ''.join(c['source'])) for c in json.loads(path.read_text())['cells']
                        if c['cell_type'] == 'markdown')
    files = subprocess.run(['git', 'ls-files', '*.md'], cwd=ROOT, capture_output=True, text=True, check=True)
    yield from ((ROOT/name, (ROOT/name).read_text()) for name in files.stdout.split())
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, ast.get_docstring(node) or ''


def test_sentences_are_short():
    long = []
    for path, text in prose():
        for sentence in (s for p in paragraphs(text) for s in sentences(p)):
            words = len(re.findall(r"[\w'-]+", sentence))
            long += [f'{path.relative_to(ROOT)}: {words} words: {sentence}'] * (words > 30)
    assert not long, '\n'.join(long)


BANNED = [   # phrasings that a reader stumbles over, as patterns
    r'\bthat are none\b', r'\bis none\b(?! of)', r'\bheeded\b', r'\bis told of\b', r'\bcannot be had\b',
    r'\bto whom it concerns\b', r'\bwhoever stands\b', r'\bmake .{0,20} one that\b']


def test_prose_has_no_banned_phrasing():
    hits = [f'{path.relative_to(ROOT)}: {hit[0]}' for path, text in prose()
            for pattern in BANNED if (hit := re.search(pattern, text))]
    assert not hits, '\n'.join(hits)


NOT_WRITTEN = re.compile(   # notebooks are ruff's; locks, data and pictures are tools'; nbdev's modules
    r'tests/fuzz/corpus/.*|edgecar/.*\.py$|.*\.(ipynb|lock|sum|mod|csv|png|jpg|webp|ico|svg)$'
    r'|LICENSE|dvc\.lock')


def test_no_line_is_longer_than_110_characters():
    files = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True)
    long = []
    for name in filter(None, files.stdout.split('\0')):
        if NOT_WRITTEN.match(name) or not (ROOT/name).is_file():
            continue
        for n, line in enumerate((ROOT/name).read_text().splitlines(), 1):
            whole = re.match(r'\s*\S+$|!\[|\|', line)   # a word, a picture, a row of a table
            long += [f'{name}:{n}: {len(line)}'] * (len(line) > 110 and not whole)
    assert not long, '\n'.join(long)


USED_TWICE = {   # public names that stand in more than one module
    'log',       # the logger of a module
    'main',      # of a module that is a process of its own
}


def test_no_test_imports_another():
    imports = re.compile(r'^(?:from|import) test_\w+', re.MULTILINE)
    assert {path.name: found for path in sorted((ROOT/'tests').glob('*.py'))
            if (found := imports.findall(path.read_text()))} == {}


def test_public_names_are_unique():
    places = {}
    for path in MODULES:
        for name in {name for name, _ in public_definitions(path)}:
            places.setdefault(name, []).append(module_name(path))
    assert not {name: where for name, where in places.items() if len(where) > 1 and name not in USED_TWICE}


FACTS_SAID_ONCE = [   # what, how its code looks, the one module that has it
    ('evaluation of a rule', r"if (self\.)?kind == 'most'|kind != 'most'", {'contracts.rules'}),
    ('digest of a folder', r'\brelpath\b', {'contracts.digest'}),
    ('guard of what listens', r'\.is_loopback|compare_digest', {'contracts.access'}),
    ('what a number is', r'isinstance\(\w+, bool\) or not isinstance\(\w+, \(int, float\)\)',
     {'contracts.number'}),
    ('ranges of fields', r'_RANGES\b', set()),
    ('reader of JSON from anywhere', r'parse_constant=', {'contracts.untrusted'}),
]


@pytest.mark.parametrize('what, pattern, where', FACTS_SAID_ONCE, ids=[what for what, *_ in FACTS_SAID_ONCE])
def test_a_fact_is_said_once(what, pattern, where):
    modules = [path for path in MODULES if re.search(pattern, path.read_text(), re.M)]
    assert {module_name(path).removeprefix('edgecar.') for path in modules} == where


def test_the_tree_names_no_registry_and_no_machine():
    hosts = [a + b for a, b in [
        ('pypi', '.org'), ('pythonhosted', '.org'), ('npmjs', '.org'), ('npmjs', '.com'),
        ('deb.debian', '.org'), ('proxy.go', 'lang.org'), ('sum.go', 'lang.org'), ('crates', '.io'),
        ('repo.ma', 'ven.apache'), ('repo1.ma', 'ven')]]
    places = [rf'(?<![\w.)}}\]]){re.escape(a + b)}' for a, b in [
        ('/wo', 'rk/'), ('/ro', 'ot/'), ('/ho', 'me/'), ('/opt/wh', 'eels'), ('/tmp/', 'tools')]]
    secrets = ['-----BEGIN ' + '[A-Z ]*PRIVATE' + ' KEY', 'AKI' + 'A[0-9A-Z]{16}', 'gh' + 'p_[0-9A-Za-z]{36}']
    pattern = re.compile('|'.join([*map(re.escape, hosts), *places, *secrets]))
    files = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\0')
    hits = [f'{name}:{n}: {hit[0]}' for name in filter(None, files) if (ROOT/name).is_file()
            for n, line in enumerate((ROOT/name).read_text(errors='replace').splitlines(), 1)
            if (hit := pattern.search(line))]
    assert not hits
