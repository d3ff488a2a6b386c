"""Inputs of a megabyte at most that ask for far more: of memory, of time, of the stack. Made when used."""

import io
import json
import struct
import tarfile
import zlib

from fuzz.seeds import lines, record
from fuzz.targets import INPUTS, jpeg

MB = 1 << 20


def filled(start, piece, end=b''):
    "A megabyte of one piece, again and again."
    return start + piece * ((MB - len(start) - len(end)) // len(piece)) + end


def manifest(metadata={}, about={}, **catalogs):
    usual = dict(paths=['catalog_0.catalog'], current_index=2, max_len=1000, deleted_indexes=[])
    return lines(*INPUTS, metadata, about, usual | catalogs)


def jpeg_of(height, width, scans=0):
    "The JPEG of a few pixels, which claims others; then further scans of nothing."
    data = jpeg()
    at = data.index(b'\xff\xc0')
    data = data[: at + 5] + struct.pack('>HH', height, width) + data[at + 9 :]
    if not scans:
        return data
    data = data.replace(b'\xff\xc0', b'\xff\xc2', 1)
    return data[:-2] + b'\xff\xda\0\x08\x01\x01\0\0\0\0' * scans + data[-2:]


def packed(*parts):
    z = zlib.compressobj(9, wbits=31)
    return b''.join([*map(z.compress, parts), z.flush()])


def header(kind, size, name='a'):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(**fields):
    "A header of pax with its fields, as an archive holds it."
    text = b''
    for key, value in fields.items():
        line = f' {key.replace("_", ".")}={value}\n'
        text += f'{len(line) + 3 if len(line) < 97 else len(line) + 4}{line}'.encode()
    return header(tarfile.XHDTYPE, len(text)) + text.ljust(-(-len(text) // 512) * 512, b'\0')


def png(width, height):
    from PIL import Image

    Image.new('RGB', (width, height)).save(out := io.BytesIO(), 'PNG')
    return out.getvalue()


def webp(width, height):
    from PIL import Image

    Image.new('RGB', (width, height)).save(out := io.BytesIO(), 'WEBP', quality=1)
    return out.getvalue()


def note(transform, camera=(120, 160)):
    return json.dumps(dict(transform=transform, camera=camera)).encode()


def deep_json(start=b'', end=b''):
    return {f'deep {n}': start + b'[' * n + b']' * n + end for n in (200, 990, 200_000)}


def laughs():
    "Lists of lists: a name of ten characters for a billion elements."
    rows = [
        b'A0 = [0]*1' if not n else b'A%d = [%s]' % (n, b', '.join([b'A%d' % (n - 1)] * 10))
        for n in range(12)
    ]
    return (
        b'A0 = [0]\n' + b'\n'.join(rows[1:]) + b'\nCAMERA_TYPE = A11\nSIM_HOST = A11\nDRIVE_LOOP_HZ = A11\n'
    )


BOMBS = dict(
    tub_manifest=lambda: dict(
        deleted=manifest(deleted_indexes=[*range(140_000)]),
        paths=manifest(paths=['catalog_0.catalog'] * 40_000),
        names=manifest(paths=[f'{n}.catalog' for n in range(50_000)]),
        newlines=b'\n' * MB,
        current=manifest(current_index=2**62, paths=[]),
        sessions=manifest(about=dict(sessions=[])),
        fields=lines([['a']], [1], {}, {}, {}),
        length=manifest(paths=['x' * 5000]),
        half=manifest(paths=['\ud800']),
        **deep_json(lines(*INPUTS), b'\n{}\n{}\n'),
    ),
    tub_catalog=lambda: dict(
        newlines=b'\n' * MB,
        empty=filled(b'', b'{}\n'),
        zeros=filled(b'', b'0\n'),
        index=lines(record(10**15)),
        far=lines(record(10**9), record(10**9 + 1)),
        huge=lines(record(10**30)),
        digits=b'9' * MB,
        name=lines(record(0, **{'cam/image_array': 'x' * 5000})),
        half=lines(record(0, _session_id='\ud800')),
        same=filled(b'', lines(record(0))),
        many=b''.join(lines(record(i)) for i in range(6800)),
        **deep_json(b'{"_index": 0, "x": ', b'}\n'),
        string=b'{"a": "' + b'x' * (MB - 20) + b'"}\n',
    ),
    tub_alone=lambda: dict(
        sessions=b''.join(lines({'_session_id': str(i)}) for i in range(36_000)),
        keys=lines({str(i): i for i in range(60_000)}),
        empty=filled(b'', b'{}\n'),
    ),
    tub_lengths=lambda: dict(
        deep_json(b'{"line_lengths": ', b'}'), many=lines(dict(line_lengths=[1] * 300_000))
    ),
    picture=lambda: dict(
        claim=jpeg_of(65500, 65500),
        widest=jpeg_of(2048, 4096),
        scans=jpeg_of(2048, 4096, 60),
        more_scans=jpeg_of(2048, 4096, 90_000),
        png=png(4096, 2048),
        webp=webp(4096, 2048),
        png_large=png(9000, 2000),
        fill=jpeg_of(16384, 16384).replace(b'\xff\xc0', b'\xff\xff\xc0', 1),
    ),
    transform_note=lambda: dict(
        resize=note('RESIZE(width=9999, height=9999)'),
        scale=note('SCALE(scale=10000)'),
        scales=note('SCALE(scale=1.9), ' * 50 + 'CROP'),
        camera=note('CROP', [9999, 9999]),
        largest=note('CROP, RESIZE(width=1900, height=1000), RGB2HSV, HSV2RGB', [1000, 1900]),
        blur=note('BLUR(kernel_size=9999), ' * 40 + 'CROP'),
        blurs=note('BLUR(kernel_size=99), ' * 40 + 'CROP', [1080, 1920]),
        deep=note('(' * 400),
    ),
    sim_stream=lambda: dict(
        open=b'{' * MB,
        strings=filled(b'{', b'"a",'),
        quote=b'{"' + b'x' * (MB - 2),
        small=filled(b'', b'{}'),
        messages=filled(b'', b'{"msg_type":"a"}'),
        slashes=b'{"' + b'\\' * (MB - 2),
        spaces=b' ' * MB,
        huge=b'{"msg_type": "control", "steering": '
        + b'9' * 4000
        + b', "throttle": 1e999, "time": '
        + b'9' * 4000
        + b'}',
    ),
    view_question=lambda: dict(
        deep_json(b'{"id": 1, "ask": "delete", "ranges": ', b'}'),
        digits=b'{"ask": "frame", "id": ' + b'9' * 5000 + b'}',
        length=b'\xff\xff\xff\xff{"sizes": [4294967295]}',
        sizes=b'\x18\x00\x00\x00{"sizes": [99999999999]}',
    ),
    driver_message=lambda: dict(
        deep_json(b'{"buttons": ', b'}'),
        huge=b'{"angle": ' + b'9' * 4000 + b'}',
        digits=b'{"angle": ' + b'9' * 5000 + b'}',
        nan=b'{"angle": NaN}',
        keys=filled(b'{', b'"a":1,', b'"b":1}'),
        half=b'{"buttons": {"model": "\\ud800"}}',
    ),
    box_ring=lambda: dict(
        sizes=b'turn' + b'\xff' * 12 + b' ' * MB,
        marks=filled(b'', b'turn'),
        stops=filled(b'{"stops": [', b'[1,"a"],', b'[1,"a"]]}'),
        deep=b'{"stops": ' + b'[' * MB,
    ),
    audit_log=lambda: dict(
        lines=b'\n' * MB,
        deep=b'[' * 4000 + b'\n' + b'[' * 4000 + b'\0' + b'[' * 4000,
        digits=b'{"number":' + b'9' * 4000 + b'}\n\0{"number":' + b'9' * 5000 + b'}',
        long=b'{"number":1,"detail":"' + b'a' * MB + b'"}',
    ),
    access=lambda: dict(long=b'a' * MB, colons=b':' * MB, bracket=b'[\nhttp://[', half='\nhttp://['.encode()),
    image_name=lambda: dict(
        parts=filled(b'a.b/', b'a/', b'b'),
        dashes=b'a.b/a' + b'-' * MB,
        dots=filled(b'', b'a.'),
        folder=b'oci:' + b':' * MB,
        under=filled(b'a.b/', b'a__'),
    ),
    oci_index=lambda: dict(
        deep_json(b'{"manifests": ', b'}'),
        many=json.dumps(dict(manifests=[dict(digest=str(i)) for i in range(40_000)])).encode(),
        notes=b'{"manifests": [{"digest": "a", "annotations": {"org.opencontainers.image.ref.name": 5}}]}',
    ),
    oci_manifest=lambda: dict(
        deep_json(b'{"layers": ', b'}'),
        layers=filled(b'{"layers":[', b'[],', b'[]]}'),
        keys=b'{' + b','.join(b'"%d":0' % i for i in range(95_000)) + b'}',
    ),
    oci_config=lambda: dict(
        deep_json(b'{"rootfs": ', b'}'), half=b'{"config": {"Labels": {"a": "\\udc00"}}}'
    ),
    oci_layer=lambda: dict(
        zeros=packed(*[bytes(MB)] * 900),
        members=packed(*[header(tarfile.REGTYPE, 0) * 2048] * 200),
        long_name=packed(header(tarfile.GNUTYPE_LONGNAME, 900 * MB), *[b'a' * MB] * 900),
        pax_size=packed(header(tarfile.XHDTYPE, 900 * MB), *[b'a' * MB] * 900),
        chain=packed(pax(comment='a') * 2000),
        chain_long=packed((header(tarfile.GNUTYPE_LONGNAME, 1) + bytes(512)) * 2000),
        shared=packed(
            *[header(tarfile.XGLTYPE, 60_000) + b'%d a%d=' % (60_000, n) + b'x' * 60_400 for n in range(3000)]
        ),
        sparse=packed(
            pax(GNU_sparse_major=1, GNU_sparse_minor=0, GNU_sparse_name='a', GNU_sparse_realsize=5)
            + header(tarfile.REGTYPE, 100 * MB),
            b'9' * 6 + b'\n',
            *[b'1\n' * (MB // 2)] * 100,
        ),
        old_sparse=packed(header(tarfile.GNUTYPE_SPARSE, 0), *[(b'1' * 504 + b'\1' + bytes(7)) * 2048] * 100),
        lists=packed(
            *[
                header(tarfile.REGTYPE, 8 * MB, f'usr/a{n}.dist-info/METADATA') + bytes(8 * MB)
                for n in range(90)
            ]
        ),
        package_list=packed(
            header(tarfile.REGTYPE, 8 * MB, 'var/lib/dpkg/status'), *[b'a:\n\n' * (MB // 4)] * 8, bytes(1024)
        ),
        metadata=packed(
            header(tarfile.REGTYPE, 8 * MB, 'a.dist-info/METADATA'), *[b'a:\n' * (MB // 3) + b'\n'] * 8
        ),
        pilot=packed(
            header(tarfile.REGTYPE, 60 * MB, 'opt/edgecar/pilot/pilot.tflite'), *[bytes(MB)] * 60, bytes(1024)
        ),
    ),
    dsse_envelope=lambda: dict(
        deep_json(b'{"payload": ', b'}'),
        signatures=json.dumps(
            dict(payloadType='application/vnd.in-toto+json', payload='', signatures=[dict(sig='A')] * 60_000)
        ).encode(),
    ),
    dsse_statement=lambda: dict(
        deep_json(b'{"subject": ', b'}'),
        digest=json.dumps(
            dict(
                predicateType='https://edgecar.github.io/evaluation/v1',
                subject=[dict(digest=dict(sha256=[]))],
            )
        ).encode(),
    ),
    release_file=lambda: dict(deep_json(b'{"gate": ', b'}'), version=b'{"version": "v' + b'1' * MB + b'"}'),
    myconfig=lambda: dict(
        laughs=laughs(),
        lines=filled(b'', b'f()\n'),
        list=filled(b'A=[', b'1,', b'1]'),
        brackets=b'A=' + b'(' * 90_000,
        minus=b'A=' + b'-' * 190_000 + b'1',
        plus=b'A=' + b'1+' * 90_000 + b'1',
        short=b'A=1\n' * 49_000,
        not_read=b'f()\n' * 49_000,
        infinite=b'PWM_STEERING_THROTTLE={"PWM_STEERING_SCALE": 1e999, "STEERING_LEFT_PWM": 1}',
        loop=b'A={}\nA["x"]=A\nCAMERA_TYPE=A\n',
        digits=b'A=' + b'9' * 190_000,
        hexadecimal=b'IMAGE_W=0x' + b'f' * 190_000,
        string=b'CAMERA_TYPE="' + b'a' * 190_000 + b'"',
        attributes=b'A' + b'.a' * 90_000 + b'=1',
    ),
)


def bombs(name):
    "Return the bombs of a target: {label: bytes}."
    return BOMBS[name]() if name in BOMBS else {}
