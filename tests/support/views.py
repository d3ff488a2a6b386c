"What tests of a view share: a page that is served, a mouse, keys, and tubs of any length."
import asyncio
import contextlib
import json
import threading

import numpy as np
from PIL import Image

from edgecar.widgets.page import WidgetPage, serve_widget

KEYS = {'ArrowLeft': 37, 'ArrowRight': 39, 'ArrowUp': 38, 'ArrowDown': 40, 'Home': 36, 'End': 35,
        'PageUp': 33, 'PageDown': 34, 'Delete': 46, 'Escape': 27, 'Enter': 13, ' ': 32}


@contextlib.contextmanager
def served(session):
    "Serve a session as a page, in a thread with a loop of its own."
    page, ready, made = WidgetPage(session), threading.Event(), []

    async def main():
        made.append((asyncio.get_running_loop(), stop := asyncio.Event()))
        await serve_widget(page, lambda line: ready.set(), stop)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(20)
        yield page
    finally:
        loop, stop = made[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
    assert not thread.is_alive()


def press(browser, key, shift=False):
    "Press a key and let it go, as a keyboard does."
    how = dict(key=key, modifiers=8*shift, windowsVirtualKeyCode=KEYS.get(key, ord(key[0].upper())))
    text = {'Enter': '\r'}.get(key, key if len(key) == 1 else '')
    browser.ask('Input.dispatchKeyEvent', type='keyDown' if text else 'rawKeyDown', text=text, **how)
    browser.ask('Input.dispatchKeyEvent', type='keyUp', **how)


def box(browser, selector):
    "Scroll to an element, and return its left, top, width and height on the screen."
    return json.loads(browser.value(
        f'(() => {{ const e = document.querySelector({json.dumps(selector)}); '
        "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect(); "
        'return JSON.stringify([b.x, b.y, b.width, b.height]) })()'))


def mouse(browser, kind, x, y, buttons=1, shift=False):
    "Send an event of a mouse with its left button."
    browser.ask('Input.dispatchMouseEvent', type=f'mouse{kind}', x=x, y=y, button='left', buttons=buttons,
                clickCount=int(kind != 'Moved'), modifiers=8*shift)


def click(browser, selector, across=.5, down=.5):
    "Click on an element, at a share of its width and height."
    x, y, width, height = box(browser, selector)
    mouse(browser, 'Pressed', x + width*across, y + height*down)
    mouse(browser, 'Released', x + width*across, y + height*down, 0)


def drag(browser, selector, *shares, shift=False):
    "Drag across an element, from share to share of its width."
    x, y, width, height = box(browser, selector)
    mouse(browser, 'Pressed', x + width*shares[0], y + height/2, shift=shift)
    for share in shares[1:]:
        mouse(browser, 'Moved', x + width*share, y + height/2, shift=shift)
    mouse(browser, 'Released', x + width*shares[-1], y + height/2, 0, shift)


def long_tub(folder, count, pictures=200, drawn=200):
    "Write a tub of many records: the frame of record i is picture i % `pictures`, of which some are drawn."
    (folder/'images').mkdir(parents=True)
    for i in range(drawn):
        shade = np.full((120, 160, 3), (i, 255 - i, 90), np.uint8)
        Image.fromarray(shade).save(folder/f'images/{i}_cam_image_array_.jpg')
    names = []
    for start in range(0, count, 1000):
        lines = [json.dumps({'_index': i, '_session_id': f's{i*4//count}', '_timestamp_ms': 10**12 + 50*i,
                             'cam/image_array': f'{i % pictures}_cam_image_array_.jpg', 'user/mode': 'user',
                             'user/angle': round(float(np.sin(i/300)), 4), 'user/throttle': .4})
                 for i in range(start, min(start + 1000, count))]
        names.append(f'catalog_{start//1000}.catalog')
        (folder/names[-1]).write_text('\n'.join(lines) + '\n')
        note = dict(created_at=0., line_lengths=[len(x) + 1 for x in lines], start_index=start,
                    path=f'{names[-1]}_manifest')
        (folder/f'{names[-1]}_manifest').write_text(json.dumps(note) + '\n')
    fields = ['cam/image_array', 'user/angle', 'user/throttle', 'user/mode']
    catalogs = dict(paths=names, current_index=count, max_len=1000, deleted_indexes=[])
    rows = fields, ['image_array', 'float', 'float', 'str'], {}, dict(created_at=0.), catalogs
    (folder/'manifest.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder
