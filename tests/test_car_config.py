"An owner's myconfig.py: what DonkeyCar makes of it, this makes of it, without running it."
import random
from pathlib import Path

import donkeycar
import pytest
from donkeycar.config import Config

from edgecar.car.config import myconfig_changes, read_myconfig
from edgecar.car.hardware import parse_device_uri
from edgecar.core import EdgecarError

TEMPLATES = Path(donkeycar.__file__).parent/'templates'


@pytest.fixture
def myconfig(tmp_path):
    def write(text):
        (tmp_path/'myconfig.py').write_text(text)
        return tmp_path/'myconfig.py'
    return write


@pytest.mark.parametrize('template', sorted(TEMPLATES.glob('cfg_*.py')), ids=lambda p: p.name)
def test_what_is_read_is_what_donkeycar_has_when_it_has_run_it(template, tmp_path):
    theirs = Config()
    theirs.from_pyfile(str(template))
    ours, unread = read_myconfig(template)
    def plain(x):
        return (list(map(plain, x)) if isinstance(x, (list, tuple))
                else {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else x)
    assert len(ours) > 10 and {k: v for k, v in ours.items() if plain(getattr(theirs, k)) != v} == {}
    missing = {k for k in vars(theirs) if k.isupper()} - ours.keys()
    assert all(any(name in line for _, line in unread) for name in missing), 'what is not read is told'


def test_donkeycars_own_configuration_is_a_stock_car():
    taken_over, over = myconfig_changes(TEMPLATES/'cfg_complete.py')
    taken = parse_device_uri(taken_over['actuator'], '', address=0, steering=9, throttle=9, left=0, right=0,
                             forward=0, stopped=0, reverse=0)
    assert taken == ('/dev/i2c-1', dict(address=0x40, steering=1, throttle=0, left=460, right=290,
                                        forward=500, stopped=370, reverse=220))
    assert (taken_over['camera'] == 'v4l2:/dev/video0?width=160&height=120&hz=20'
            and taken_over['gamepad'].startswith('js:/dev/input/js0?layout=xbox'))
    assert taken_over['rate_hz'] == 20 and taken_over['mode'] == 'user' and 'imu' not in taken_over
    assert taken_over['record'] == dict(auto=True, pilots=False)
    assert ('MAX_EPOCHS' in over[0].split()
            and not {'AUTO_RECORD_ON_THROTTLE', 'PWM_STEERING_THROTTLE', 'CAMERA_TYPE',
                     'DRIVE_LOOP_HZ'} & set(over[0].split())
            and any('WEB_CONTROL_PORT' in line for line in over[1:]))


def test_nothing_is_run(myconfig, tmp_path):
    touched = tmp_path/'touched'
    lines = [
        f'open({str(touched)!r}, "w")',
        f'A = open({str(touched)!r}, "w")',
        f'import os; B = os.system("touch {touched}")',
        f'def f(x=open({str(touched)!r}, "w")): pass',
        f'class C: D = open({str(touched)!r}, "w")',
        f'E = [open({str(touched)!r}, "w") for _ in (1,)]',
        f'F = f"{{open({str(touched)!r}, chr(119))}}"',
        f'G = {{**open({str(touched)!r}, "w")}}',
        f'@open({str(touched)!r}, "w")\ndef g(): pass',
        f'(H := open({str(touched)!r}, "w"))',
        f'I: open({str(touched)!r}, "w") = 1',
        f'J = 1 < open({str(touched)!r}, "w")',
    ]
    path = myconfig('\n'.join(lines) + '\nDRIVE_LOOP_HZ = 30\n')
    taken_over, over = myconfig_changes(path)
    assert taken_over['rate_hz'] == 30 and len(over) >= len(lines) and not touched.exists()


def test_any_bytes_are_read_or_refused(tmp_path):
    "Never another error, and never long."
    chance, template = random.Random(0), (TEMPLATES/'cfg_complete.py').read_bytes()
    path = tmp_path/'myconfig.py'
    for n in range(60):
        text = bytearray(template[(at := chance.randrange(len(template) - 2000)):at + 2000])
        for _ in range(chance.randrange(6)):
            text[chance.randrange(len(text))] = chance.randrange(256)
        path.write_bytes(text)
        try:
            myconfig_changes(path, car=bool(n % 2))
        except EdgecarError:
            pass


@pytest.mark.parametrize('text', [
    'CAMERA_TYPE = "OAKD"',
    'DRIVE_TRAIN_TYPE = "VESC"',
    'PWM_STEERING_THROTTLE = {"PWM_THROTTLE_INVERTED": True}',
    'DRIVE_LOOP_HZ = 0',
    'WEB_INIT_MODE = "fly"',
    'HAVE_IMU = 1',
    'PWM_STEERING_THROTTLE = {"PWM_THROTTLE_PIN": "PIGPIO.BCM.13"}',
    'IMAGE_DEPTH = 1',
    'PWM_STEERING_THROTTLE = []',
    'STEERING_CHANNEL = 16',
])
def test_another_car_is_refused_and_does_not_matter_to_a_twin(myconfig, text):
    path = myconfig(text)
    with pytest.raises(EdgecarError, match='is not supported'):
        myconfig_changes(path)
    if not text.startswith(('DRIVE_LOOP', 'WEB')):
        myconfig_changes(path, car=False)
