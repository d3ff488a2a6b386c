"A line between two ends on this machine, which can be cut."
import contextlib
import socket
import threading


class Line:
    """Between a browser and a page: passes bytes on until it is `cut`, and then nothing, without a word,
    as a radio does."""
    def __init__(self, port):
        self.to, self.whole, self.lines = port, threading.Event(), []
        self.whole.set()
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.listen)]
        self.threads[0].start()

    def listen(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(('127.0.0.1', self.to))
                self.lines += [near, far]
                for pair in ((near, far), (far, near)):
                    self.threads.append(threading.Thread(target=self.carry, args=pair))
                    self.threads[-1].start()

    def carry(self, source, sink):
        with contextlib.suppress(OSError):
            while (data := source.recv(1 << 16)):
                if self.whole.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        for line in [self.listener, *self.lines]:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        for thread in self.threads:
            thread.join(10)
