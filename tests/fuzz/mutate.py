"""Inputs from inputs: seeded, so that a number names a mutation anywhere, and none depends on another."""

import random
import re
import struct

TOKENS = [
    b'NaN',
    b'-Infinity',
    b'-1',
    b'0',
    b'1',
    b'1e999',
    b'-1e308',
    b'1.5',
    b'9' * 400,
    b'9' * 5000,
    b'null',
    b'true',
    b'[]',
    b'{}',
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"a"',
    b'[[',
    b'{"a":',
    b'["a"]',
    b'\0',
    b'\xff',
    b'\r\n',
    b'\n',
    b'4294967296',
    b'9223372036854775807',
    b'9223372036854775808',
    b'1000000000',
    b'[' * 1200,
    b'{"a":' * 1200,
    b'../',
    b'"..\\\\x"',
    b'\xef\xbb\xbf',
    b'\xe2\x80\xa8',
    b'"x"',
    b'(',
    b'*',
    b'.',
    b':',
    b'=',
]
WORDS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
VALUES = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null|\{\}|\[\]')
MOST = 1 << 16  # bytes of a mutated input


def _flip(r, data, others):
    at = r.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << r.randrange(8)]) + data[at + 1 :]


def _byte(r, data, others):
    at = r.randrange(len(data))
    return data[:at] + bytes([r.randrange(256)]) + data[at + 1 :]


def _word(r, data, others):
    at, word = r.randrange(len(data)), r.choice(WORDS)
    packed = struct.pack(r.choice('<>') + 'I', word)[: r.choice((1, 2, 4))]
    return data[:at] + packed + data[at + len(packed) :]


def _token(r, data, others):
    at = r.randrange(len(data) + 1)
    return data[:at] + r.choice(TOKENS) + data[at:]


def _value(r, data, others):
    places = [m.span() for m in VALUES.finditer(data)]
    if not places:
        return _token(r, data, others)
    (start, end), (a, b) = r.choice(places), r.choice(places)
    return data[:start] + r.choice((r.choice(TOKENS), data[a:b])) + data[end:]


def _range(r, data):
    start = r.randrange(len(data))
    return start, min(len(data), start + r.choice((1, 4, 16, 64, 256, 4096)))


def _delete(r, data, others):
    start, end = _range(r, data)
    return data[:start] + data[end:]


def _repeat(r, data, others):
    start, end = _range(r, data)
    return data[:end] + data[start:end] * r.choice((1, 2, 8, 64)) + data[end:]


def _cut(r, data, others):
    return data[: r.randrange(len(data))]


def _splice(r, data, others):
    other = r.choice(others)
    return data[: r.randrange(len(data))] + other[r.randrange(len(other) + 1) :]


CHANGES = [_flip, _byte, _word, _word, _token, _value, _value, _value, _delete, _repeat, _cut, _splice]


def mutated(seeds, *name):
    "Return a mutation of one of the seeds, which are bytes; equal names give equal mutations."
    r = random.Random('/'.join(map(str, name)))
    data = r.choice(seeds)
    for _ in range(r.choice((1, 1, 1, 2, 3, 5))):
        data = r.choice(CHANGES)(r, data, seeds)[:MOST] if data else r.choice(TOKENS)
    return data
