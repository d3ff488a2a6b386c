"Free ports of this machine, and what answers at them."
import contextlib
import http.client
import socket


def free_ports(count):
    "Return ports of the loopback that nobody had a moment ago, each another one."
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(('127.0.0.1', 0))
        return [s.getsockname()[1] for s in sockets]


def free_port():
    "Return a port of the loopback that nobody had a moment ago."
    return free_ports(1)[0]


def answer(port, path, **headers):
    "Return status, body and headers of an answer; None while nobody answers."
    line = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
    try:
        line.request('GET', path, headers=headers)
        said = line.getresponse()
        return said.status, said.read().decode(errors='replace'), dict(said.headers)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        line.close()


def status(port, path, **headers):
    "Return the status of an answer; None while nobody answers."
    said = answer(port, path, **headers)
    return said and said[0]
