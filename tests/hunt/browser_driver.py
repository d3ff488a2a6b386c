"""The page's client of a campaign as Chromium with the page's own script, for `findings.py --browser`.

It takes the orders of edgecar/campaign/driver.py and writes the same log. The sticks are those of a gamepad;
to press a button the person lets them go and waits until the page offers it.
"""
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.browser import Browser

SCRIPT = """
window.sticks = [0, 0]; window.letGoUntil = 0
navigator.getGamepads = () => {
  const [angle, throttle] = performance.now() < letGoUntil ? [0, 0] : sticks
  const buttons = Array.from({ length: 17 }, () => ({ pressed: false, value: 0 }))
  return [{ connected: true, axes: [angle, 0, 0, -throttle], buttons }]
}
window.stopCar = () => document.getElementById('estop').click()
window.pressed = (id, until = performance.now() + 1000) => {
  const button = document.getElementById(id)
  letGoUntil = performance.now() + 200
  if (!button.disabled) button.click()
  else if (performance.now() < until) setTimeout(pressed, 20, id, until)
}
"""


def obey(browser, orders, say):
    "Do what each line of the orders says, until they end."
    sticks = dict(angle=0., throttle=0.)
    for line in orders:
        order = json.loads(line)
        sticks |= {name: order[name] for name in sticks if name in order}
        browser.value(f"sticks = [{sticks['angle']}, {sticks['throttle']}]")
        for word in order.get('press', ()):
            say(word)
            browser.value('stopCar()' if word == 'stop' else f"pressed('{word}')")


def main():
    port, log = int(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            browser.ask('Page.addScriptToEvaluateOnNewDocument', source=SCRIPT)
            browser.ask('Page.navigate', url=f'http://127.0.0.1:{port}/drive')
            browser.wait("document.getElementById('take') && document.body.className === ''")
            browser.value("document.getElementById('take').click()")
            obey(browser, sys.stdin, lambda word: os.write(log, f'{time.monotonic():.4f} {word}\n'.encode()))
        finally:
            browser.process.kill()
            browser.process.wait()


if __name__ == '__main__':
    main()
