"""The book that `make book` has built: links, texts of pictures, nothing from a network; and looked at in
Chromium, wide and on a phone. Pictures of eight pages go to _build/pictures."""
import functools
import re
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support.browser import Browser, needs_browser
from support.pages import serving

from edgecar.core import repo_root

ROOT = repo_root(Path(__file__).parent)
BOOK = ROOT/'_build/html'
PICTURES = ROOT/'_build/pictures'
pytestmark = pytest.mark.book
WIDE, PHONE, DARK = (1366, 900, False), (390, 844, True), (1366, 900, False, True)
PAGES = ['nbs/book/index', 'nbs/guides/01_ablations', 'nbs/guides/03_your_own_tub', 'nbs/book/loop',
         'nbs/book/benchmarks', 'nbs/sim/03_vehicle', 'nbs/data/03_tub', 'SECURITY']


class Page(HTMLParser):
    "What a page links to, what it shows, and what it is made of."
    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.links, self.pictures, self.loaded, self.places, self.code = [], [], [], set(), ''
        self.in_code = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs.get('id'), attrs.get('name')}
        self.in_code += tag == 'pre'
        if tag == 'a':
            self.links.append(attrs.get('href') or '')
        elif tag == 'img':
            self.pictures.append((attrs.get('src') or '', attrs.get('alt') or ''))
            self.loaded.append(attrs.get('src') or '')
        elif tag == 'script' and attrs.get('src'):
            self.loaded.append(attrs['src'])
        elif tag == 'link' and attrs.get('rel') in ('stylesheet', 'icon', 'preload', 'shortcut icon'):
            self.loaded.append(attrs.get('href') or '')

    def handle_endtag(self, tag):
        self.in_code -= tag == 'pre'

    def handle_data(self, text):
        if self.in_code:
            self.code += text


@functools.cache
def page(path):
    return Page(path)


@pytest.fixture(scope='session')
def pages():
    found = [path for path in sorted(BOOK.rglob('*.html')) if '_static' not in path.parts]
    if len(found) < 100:
        pytest.fail('there is no book -> make book')
    return found


def target(path, link):
    "The file and the place that a link of a page leads to; None for another host."
    split = urlsplit(link)
    if split.scheme or split.netloc:
        return None
    return ((path.parent/unquote(split.path)).resolve() if split.path else path), unquote(split.fragment)


def test_it_was_built_without_a_warning(pages):
    assert not re.findall('WARNING|ERROR', (ROOT/'_build/book.log').read_text())


def test_every_link_leads_somewhere(pages):
    dead = set()
    for path in pages:
        for link in page(path).links:
            to = target(path, link)
            if not to or not link:
                continue
            file, place = to
            if not file.is_file() or place and file.suffix == '.html' and place not in page(file).places:
                dead.add((str(path.relative_to(BOOK)), link))
    assert not dead, sorted(dead)[:20]


def test_every_picture_says_what_it_shows(pages):
    silent = {(str(path.relative_to(BOOK)), src) for path in pages for src, alt in page(path).pictures
              if not alt.strip() or re.search(r'\.(png|jpe?g|svg|webp)$', alt)}
    assert not silent, sorted(silent)[:20]


def test_nothing_is_loaded_from_a_network(pages):
    foreign = {(str(path.relative_to(BOOK)), link) for path in pages for link in page(path).loaded
               if not link.startswith('data:') and not target(path, link)}
    assert not foreign, sorted(foreign)[:20]
    lacking = {(str(path.relative_to(BOOK)), link) for path in pages for link in page(path).loaded
               if not link.startswith('data:') and not target(path, link)[0].is_file()}
    assert not lacking, sorted(lacking)[:20]


def test_no_directive_and_no_hidden_cell_is_shown(pages):
    shown = [str(path.relative_to(BOOK)) for path in pages
             if re.search(r'^#\s?\|\s?\w', page(path).code, re.M)]
    assert not shown


# --- in a browser

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope='module')
def address():
    with serving(functools.partial(Quiet, directory=BOOK)) as address:
        yield address


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp('browser'))
    yield browser
    browser.close()


def open_at(browser, url, width, height, phone, dark=False):
    browser.ask('Emulation.setDeviceMetricsOverride', width=width, height=height,
                deviceScaleFactor=2 if phone else 1, mobile=phone)
    browser.ask('Emulation.setEmulatedMedia', features=[
        dict(name='prefers-color-scheme', value='dark' if dark else 'light')])
    browser.ask('Page.navigate', url=url)
    browser.wait(f"location.href == '{url}' && document.readyState == 'complete' && "
                 "[...document.images].every(image => image.complete || image.loading == 'lazy') && "
                 "!document.getAnimations().some(change => change.playState == 'running')")


@needs_browser
@pytest.mark.parametrize('screen', [WIDE, PHONE, DARK], ids=['wide', 'phone', 'dark'])
@pytest.mark.parametrize('name', PAGES)
def test_a_page_fits_its_screen(request, pages, address, browser, name, screen):
    open_at(browser, f'{address}/{name}.html', *screen)
    PICTURES.mkdir(parents=True, exist_ok=True)
    kind = request.node.callspec.id.rpartition('-')[2]
    browser.picture().save(PICTURES/f'{name.replace("/", "_")}_{kind}.png')
    assert browser.value('document.documentElement.scrollWidth <= window.innerWidth')
    cut = browser.value("[...document.querySelectorAll('div.cell_input pre')]"
                        ".filter(pre => pre.scrollWidth > pre.clientWidth + 1).length")
    assert cut == 0, 'a line of code is cut off'
    broken = browser.value("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
    assert not broken


@needs_browser
def test_the_landing_page_moves_in_both_themes(pages, address, browser):
    for dark in (False, True):
        open_at(browser, f'{address}/nbs/book/index.html', *WIDE, dark)
        assert browser.value("document.documentElement.dataset.theme") == ('dark' if dark else 'light')
        browser.picture().save(PICTURES/f'landing_{"dark" if dark else "light"}.png')
    assert browser.value("[...document.images].filter(i => i.src.endsWith('lap.webp'))[0].naturalWidth") > 300
    assert browser.value("document.querySelectorAll('.sd-card a').length") == 3
    assert browser.value("!!document.querySelector('link[rel=icon]')")


@needs_browser
def test_the_search_finds_a_word(pages, address, browser):
    open_at(browser, f'{address}/search.html?q=latency', *WIDE)
    browser.wait("document.querySelectorAll('#search-results li').length > 10")
    browser.picture().save(PICTURES/'search.png')


@needs_browser
def test_formulas_are_set(pages, address, browser):
    open_at(browser, f'{address}/nbs/sim/03_vehicle.html', *WIDE)
    browser.wait("document.querySelectorAll('mjx-container svg').length > 2")
    browser.value("document.querySelector('mjx-container').scrollIntoView({block: 'center'})")
    browser.picture().save(PICTURES/'formulas.png')
