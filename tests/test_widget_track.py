"The track editor in a real browser, by keyboard and by mouse: what it writes is a road that can be driven."

import pytest
from support.browser import needs_browser
from support.views import box, mouse, press, served

from edgecar.sim.track import read_track
from edgecar.widgets.track_editor import TrackEditor

pytestmark = [pytest.mark.slow, needs_browser]
POINTS = "+document.querySelector('.edgecar-widget').dataset.points"
VERDICT = "document.querySelector('.verdict').textContent"
NOTE = "document.querySelector('.note').textContent"


def test_widget_track_by_keyboard_and_by_mouse(browser, tmp_path):
    file = tmp_path/'hall.toml'
    with served(TrackEditor(file)) as page:
        browser.ask('Page.navigate', url=page.url)
        browser.wait(f"{VERDICT}?.includes('m long, tightest bend')")
        count = browser.value(POINTS)
        press(browser, 's')
        browser.wait(f"{NOTE} == 'saved hall.toml'")
        oval = read_track(file)
        assert (len(oval.points), oval.name) == (count, 'hall')

        press(browser, 'n')
        press(browser, 'ArrowUp', shift=True)
        press(browser, 'i')
        browser.wait(f'{POINTS} == {count + 1}')
        press(browser, 'Delete')
        browser.wait(f'{POINTS} == {count}')
        press(browser, 's')
        browser.wait(f"{NOTE} == 'saved hall.toml'")
        assert [round(float(d), 2) for d in read_track(file).points[1] - oval.points[1]] == [0, .25]
        for _ in range(2):
            press(browser, '+')
        press(browser, 'u')
        browser.wait(f"document.querySelector('.width').value == '{oval.width_m + .05:g}'")

        press(browser, 'x')
        x, y, width, height = box(browser, '.map')
        corners = [(.2, .25), (.5, .2), (.8, .25), (.85, .5), (.8, .75), (.5, .8), (.2, .75), (.15, .5),
                   (.17, .35)]
        places = [(x + width*a, y + height*b) for a, b in corners]
        mouse(browser, 'Pressed', *places[0])
        for place in places[1:]:
            mouse(browser, 'Moved', *place)
        mouse(browser, 'Released', *places[-1], 0)
        browser.wait(f'{POINTS} == {len(corners)}')
        browser.wait(f"{VERDICT}.includes('m long, tightest bend')")
        press(browser, 's')
        browser.wait(f"{NOTE} == 'saved hall.toml'")
        press(browser, 'd')
        browser.wait(f"{NOTE}.includes(' s a lap, off the line by ')", 30)
        browser.picture().save(tmp_path/'driven.png')

        drawn = read_track(file)
        mouse(browser, 'Pressed', *places[1])
        mouse(browser, 'Moved', places[1][0], y + height*.8)
        mouse(browser, 'Released', places[1][0], y + height*.8, 0)
        browser.wait("document.querySelector('.verdict').classList.contains('bad')")
        press(browser, 's')
        browser.wait(f"{NOTE}.startsWith('not saved: ')")
        browser.picture().save(tmp_path/'fault.png')
        assert (read_track(file).points == drawn.points).all()   # the file is as it was
        assert not browser.said
    print(tmp_path)
