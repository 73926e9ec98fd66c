# SPDX-License-Identifier: Apache-2.0
"""Clients and upstreams that are processes of their own, for the scripts that change a proxy under load."""
import multiprocessing
import os
import selectors
import socket
import ssl
import sys
import threading
import time

from weirlab import Cut, Lab, dial, text_of


def upstream(port):
    """Answers everything by `up`, on a kept connection."""
    chooser, listener = selectors.DefaultSelector(), socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(port)
    listener.listen(1024)
    chooser.register(listener, selectors.EVENT_READ)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup"
    while True:
        for key, _ in chooser.select():
            if key.fileobj is listener:
                conn, _ = listener.accept()
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                chooser.register(conn, selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(answer * data.count(b"\r\n\r\n"))
            except OSError:
                data = b""
            if not data:
                chooser.unregister(key.fileobj)
                key.fileobj.close()


def client(where, tls, keep, stop, out):
    """Asks until it is stopped; every fault is one."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    count, faults, conn, text = 0, [], None, text_of("GET /")
    while not stop.is_set():
        try:
            conn = conn or dial(where, tls=context, sni="a.test" if tls else None)
            conn.send(text)
            r = conn.response()
            if r.status != 200 or r.body != b"up":
                faults.append("%d %r" % (r.status, r.body[:80]))
            count += 1
            if not keep or r.get("connection") == "close":
                conn.close()
                conn = None
        except (OSError, Cut) as e:
            faults.append(repr(e))
            conn = None
    out.put((count, faults[:3], len(faults)))


def mirror(port):
    """Sends back what it is sent, on each connection."""
    def serve(conn):
        try:
            while True:
                data = conn.recv(65536)
                if not data:
                    break
                conn.sendall(data)
        except OSError:
            pass
        conn.close()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(port)
    listener.listen(1024)
    while True:
        conn, _ = listener.accept()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


def tunnels(where, count, stop, out):
    """So many tunnels to a mirror; each says something now and then, and what comes back is what was said."""
    host, port = where.rsplit(":", 1)
    conns, faults, said = [socket.create_connection((host, int(port)), 10) for _ in range(count)], [], 0
    for conn in conns:
        conn.settimeout(10)
    while not stop.is_set():
        for conn in list(conns):
            data = os.urandom(1 + said % 3000)
            try:
                conn.sendall(data)
                got = b""
                while len(got) < len(data):
                    more = conn.recv(65536)
                    if not more:
                        raise OSError("a tunnel has ended after %d of %d bytes" % (len(got), len(data)))
                    got += more
                if got != data:
                    raise OSError("other bytes came back")
                said += 1
            except OSError as e:
                faults.append(repr(e))
                conns.remove(conn)
        time.sleep(0.01)
    out.put((said, faults[:3], len(faults)))


def spawn(target, *rest):
    process = multiprocessing.Process(target=target, args=rest, daemon=True)
    process.start()
    return process


class Load:
    """Clients that ask until the end: (address, TLS, whether the connection is kept) each."""

    def __init__(self, clients, work=client):
        self.stop, self.out, self.started = multiprocessing.Event(), multiprocessing.Queue(), time.monotonic()
        self.processes = [spawn(work, *one, self.stop, self.out) for one in clients]

    def end(self):
        """Counts: requests, those a second, and those that failed; the first of each client's faults are printed."""
        seconds = time.monotonic() - self.started
        self.stop.set()
        ends = [self.out.get(timeout=60) for _ in self.processes]
        for process in self.processes:
            process.terminate()
        self.count, self.faults = sum(e[0] for e in ends), sum(e[2] for e in ends)
        self.rate = self.count / seconds
        for _, first, _ in ends:
            for fault in first:
                print("fault:", fault)


def main(run):
    """In a lab, of which nothing is left; the exit status is 0 when `run` found all right."""
    lab, good = Lab(), False
    try:
        good = run(lab)
    finally:
        lab.end(not good)
    sys.exit(0 if good else 1)
