"Devices of a car, as a kernel would answer, and a process that looks at one."
import subprocess
from pathlib import Path

LOOK = '''
import json, sys, threading, time
from edgecar.car.hardware import open_v4l2_camera
part = open_v4l2_camera(sys.argv[1])
thread = threading.Thread(target=part.update); thread.start()
told, end = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    frame, seen_s, info = part.run_threaded()
    if frame is not None and (not told or told[-1][0] != seen_s):
        told.append([seen_s, time.monotonic() - seen_s, *frame.shape, str(frame.dtype), \
frame[60, 20].tolist(), frame[10, 80].tolist()])
        print(json.dumps(told[-1]), flush=True)
    time.sleep(.001)
part.shutdown(); thread.join()
'''


def build_kernel(made):
    "Build a library that goes before the C library and has devices, and return it."
    devices = Path(__file__).parents[1]/'kernel/devices.c'
    subprocess.run(['cc', '-Wall', '-Werror', '-shared', '-fPIC', '-O1', '-o', made, devices, '-ldl'],
                   check=True)
    return made
