"The arena in a real browser: two pilots on the same frames and on the same road, by keyboard and by mouse."
import pytest
from support.browser import needs_browser
from support.views import box, click, drag, press, served

from edgecar.data.synthetic import synthetic_tub
from edgecar.widgets.arena import Arena, open_pilots

pytestmark = [pytest.mark.slow, needs_browser]
VIEW = "document.querySelector('.edgecar-widget')"
NOTE = "document.querySelector('.note').textContent"
TIME = "document.querySelector('.time')?.textContent"


@pytest.fixture(scope='module')
def pilots(tmp_path_factory):
    "Two nets that nobody has trained, with loud outputs: they drive badly, and not in the same way."
    from edgecar.core import seed_all
    from edgecar.pilot.export import convert_to_tflite
    from edgecar.pilot.model import Edge
    folder, files = tmp_path_factory.mktemp('pilots'), []
    for number, name in enumerate(('old', 'new')):
        seed_all(number)
        k = Edge()
        net = k.net()
        out = net.get_layer('n_outputs0')
        out.set_weights([w*4 for w in out.get_weights()])
        files.append(folder/f'{name}.tflite')
        files[-1].write_bytes(convert_to_tflite(k.whole(net)))
    return files


def laptop(browser):
    "Give the page the screen of a laptop."
    browser.ask('Emulation.setDeviceMetricsOverride', width=1366, height=768, deviceScaleFactor=1,
                mobile=False)


def shown(browser, place):
    "Wait until the frames of a step are on the screen, with where the pilots look."
    browser.wait(f"{VIEW}?.dataset.looked == '{place} 1'", 30)


def reddish(browser):
    "Count the pixels of all panels in which red prevails."
    return browser.value(
        "(() => { let n = 0; for (const c of document.querySelectorAll('.pilot .picture')) { "
        "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true}); "
        "copy.drawImage(c, 0, 0); const d = copy.getImageData(0, 0, c.width, c.height).data; "
        "for (let i = 0; i < d.length; i += 4) n += d[i] > d[i + 2] + 60 } return n })()")


def test_widget_arena_on_the_same_frames(browser, tmp_path, pilots):
    tub = synthetic_tub(tmp_path/'tub', n=120)
    laptop(browser)
    with served(Arena(open_pilots(pilots), tub, 'oval')) as page:
        browser.ask('Page.navigate', url=page.url)
        shown(browser, 0)
        assert browser.value(TIME) == 'frame 0, 1 of 120'
        with_red = reddish(browser)
        press(browser, 's')
        browser.wait(f"{VIEW}.dataset.looked == '0 0'")
        assert reddish(browser) < with_red
        press(browser, 's')
        press(browser, 'ArrowRight', shift=True)
        press(browser, 'ArrowRight')
        shown(browser, 11)
        press(browser, 'd')
        browser.wait(f"{NOTE}.startsWith('they differ by ')")
        where = browser.value(f'{VIEW}.dataset.place')
        press(browser, 'd')
        browser.wait(f"Math.abs({VIEW}.dataset.place - {where}) >= 20")
        click(browser, '.chart', across=.504)
        shown(browser, 60)
        drag(browser, '.chart', .504, .6, .254)
        shown(browser, 30)

        steering = "document.querySelector('.pilot figcaption output').textContent"
        before = browser.value(steering)
        click(browser, '.brightness', across=.05)   # a slider, by mouse
        browser.wait(f"{steering} != '{before}'")
        browser.picture().save(tmp_path/'frames.png')
        assert not browser.said
    print(tmp_path/'frames.png')


def test_widget_arena_on_the_same_road(browser, tmp_path, pilots):
    laptop(browser)
    with served(Arena(open_pilots(pilots), track='oval')) as page:
        browser.ask('Page.navigate', url=page.url)
        shown(browser, 0)
        assert browser.value("document.querySelector('[data-act=recording]').disabled")
        assert browser.value(TIME) == '0.00 s, 1 of 400'
        press(browser, 'End')
        shown(browser, 399)
        rows = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent).join()"
        assert browser.value(rows) == 'old,new'
        back = "document.querySelector('table').textContent"
        before = browser.value(back)
        click(browser, '.track')
        press(browser, 'a')
        browser.wait("document.querySelector('.track').value.includes('a')")
        press(browser, 'Enter')
        browser.wait(f"{NOTE}.includes('No such file') || {NOTE}.includes('no track')")
        browser.value("document.querySelector('.track').value = 'club'; "
                      "document.querySelector('.track').dispatchEvent(new Event('change'))")
        browser.wait(f"{back} != '{before}'")
        browser.value(f'{VIEW}.focus()')
        press(browser, 'e')
        browser.wait(f"{VIEW}.dataset.examined == 'true'", 120)
        assert browser.value("document.querySelectorAll('.broken').length") > 0   # nobody has trained them
        press(browser, ' ')
        press(browser, 'Home')
        browser.wait(f'{VIEW}.dataset.place > 5')
        press(browser, ' ')
        browser.picture().save(tmp_path/'road.png')
        left, top, width, height = box(browser, '.help')
        assert left >= 0 and left + width <= 1366
        assert not browser.said
    print(tmp_path/'road.png')
