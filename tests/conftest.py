"What holds for every test."
from edgecar.core import donkeycar

donkeycar()   # before a test imports it: its recursion limit would let hostile JSON overflow the stack
