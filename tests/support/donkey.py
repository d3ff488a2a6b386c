"DonkeyCar's own pilots, and what they are given beside a frame."
from types import SimpleNamespace

import numpy as np

H = W = 96   # about the smallest frame that DonkeyCar's nets take

IMU = np.float32([.1, -.2, .9, .05, -.3, .2])

BESIDE = dict(imu=(IMU,), behavior=(np.float32([0, 1]),))


def donkey(kind, h=H, w=W, **more):
    "DonkeyCar's own pilot of a type, as its manage.py makes it."
    import donkeycar.templates.cfg_complete as defaults
    from donkeycar.utils import get_model_by_type
    return get_model_by_type(kind, SimpleNamespace(**{k: x for k, x in vars(defaults).items() if k.isupper()}
                                                   | dict(IMAGE_H=h, IMAGE_W=w, NUM_LOCATIONS=5) | more))
