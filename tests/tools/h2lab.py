# SPDX-License-Identifier: Apache-2.0
"""h2lab: HTTP/2 peers for weirlab's stories, on python3-h2: a client and an upstream that do what a story says.

    @story
    def get(lab):                                    # h2 client ── weir ── h2 upstream
        up = h2_upstream(lab)                        # answers every request by what it received
        w = lab.weir(up, upstream={"protocol": "h2"})
        with h2_client(w) as c:
            r = c.request("GET /a").response()
            eq(r.status, 200, "status")

Each connection has a thread that reads and writes; what a story calls waits for what it wants. `Square` is one weir with
all listeners and all upstreams, h1 and h2, plain and TLS, for what must be the same in every combination.
"""
import json
import select
import socket
import ssl
import struct
import sys
import threading
import time

sys.path.append("/usr/lib/python3/dist-packages")  # pure Python that Debian has for its own interpreter
try:
    import h2.config
    import h2.connection
    import h2.events
    import h2.exceptions
    import h2.settings
    import hpack
except ImportError:
    print("skipped: python3-h2 is not installed")
    sys.exit(77)

from certs import Authority
from weirlab import PATIENCE, Conn, Cut, Upstream, Wrong, address, chunk, dial, text_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION) = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM,
 CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED) = range(14)
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
ENABLE_CONNECT_PROTOCOL = 8
OUT_MAX = 1 << 20  # bytes that wait for the socket, until a sender waits


def frame(kind, flags=0, stream=0, payload=b""):
    """The bytes of a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def frames(data):
    """[(kind, flags, stream, payload)] of bytes that hold whole frames; the rest."""
    found = []
    while len(data) >= 9:
        size = struct.unpack(">I", b"\0" + data[:3])[0]
        if len(data) < 9 + size:
            break
        kind, flags, stream = struct.unpack(">BBI", data[3:9])
        found.append((kind, flags, stream & 0x7fffffff, data[9:9 + size]))
        data = data[9 + size:]
    return found, data


def never_indexed(name, value):
    """A field that no table of HPACK may keep (RFC 7541 6.2.3)."""
    return hpack.NeverIndexedHeaderTuple(name, value)


def block(*fields):
    """A header block without state: ((name, value), ...)."""
    return hpack.Encoder().encode(fields, huffman=False)


def ask(path="/", method="GET", authority="weir.test", scheme="http"):
    """The pseudo fields of a request."""
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]


def check_request(headers):
    """RFC 9113 8.2, 8.3 and RFC 8441: python3-h2 knows nothing of CONNECT, so that its own check is off for requests."""
    names = [n for n, _ in headers]
    told = dict(headers)
    pseudo = [n for n in names if n.startswith(b":")]
    wanted = {b":method", b":authority"} if told.get(b":method") == b"CONNECT" and b":protocol" not in told else {b":method", b":scheme", b":path"}
    faults = [n for n in names if n != n.lower() or n in (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")]
    faults += [(n, v) for n, v in headers if v != v.strip() or any(c in v for c in b"\r\n\0") or n == b"te" and v != b"trailers"]
    if pseudo != names[:len(pseudo)] or len(set(pseudo)) < len(pseudo) or not wanted <= set(pseudo) or told.get(b":path") == b"":
        faults.append(pseudo)
    if wanted == {b":method", b":authority"} and len(pseudo) > 2 or b"host" in told and told[b"host"] != told.get(b":authority", told[b"host"]):
        faults.append(pseudo)
    if faults:
        raise h2.exceptions.ProtocolError("a malformed request: %r" % faults)


def text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value


class Lenient(h2.connection.H2Connection):
    """Lives on after GOAWAY (which is no end, RFC 9113 6.8), and says nothing about frames of streams that it has reset."""

    def _receive_goaway_frame(self, received):
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = received.error_code, received.last_stream_id
        event.additional_data = received.additional_data
        return [], [event]

    def _handle_data_on_closed_stream(self, events, exc, received):
        _, events = super()._handle_data_on_closed_stream(events, exc, received)
        self.increment_flow_control_window(received.flow_controlled_length or 1)
        return [], events


class Stream:
    """One exchange; what came on it, and what is sent on it. For a client it looks like weirlab's response, for an upstream
    like its request."""

    def __init__(self, peer, number):
        self.peer, self.id, self.reads = peer, number, peer.reads
        self.early, self.fields, self.trailers, self.chunks = [], None, [], []
        self.status = self.method = self.target = self.host = self.scheme = self.protocol = None
        self.pseudo, self.data, self.size, self.taken, self.owed = [], bytearray(), 0, 0, 0
        self.ended, self.reset, self.sent_end, self.began, self.ended_at = False, None, False, time.monotonic(), None
        self.version = "HTTP/2"

    # what came
    def take_head(self, headers):
        self.never_indexed = [text(h[0]) for h in headers if not getattr(h, "indexable", True)]
        headers = [(text(n), text(v)) for n, v in headers]
        self.pseudo = [(n, v) for n, v in headers if n.startswith(":")]
        self.fields = [(n, v) for n, v in headers if not n.startswith(":")]
        told = dict(self.pseudo)
        if ":status" in told:
            self.status = int(told[":status"])
        else:
            self.method, self.target, self.scheme = told.get(":method"), told.get(":path"), told.get(":scheme")
            self.host, self.protocol = told.get(":authority"), told.get(":protocol")

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self.fields if n == name]

    @property
    def body(self):
        with self.peer.lock:
            return bytes(self.data)

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "<stream %d %s %r %d bytes%s%s>" % (self.id, self.status or "%s %s" % (self.method, self.target), self.fields, self.size,
                                                  " ended" if self.ended else "", "" if self.reset is None else " reset %d" % self.reset)

    def wait(self, condition, what, seconds=None):
        """Until condition() holds; Cut when the stream or its connection ends before."""
        def over():
            return condition() or self.reset is not None or self.peer.over
        self.peer.wait(over, "%s of %r" % (what, self), seconds)
        if not condition():
            cut = Cut("%s: reset by %s, connection %s" % (what, self.reset, self.peer.over or "open"))
            cut.response = self
            raise cut
        return self

    def head(self):
        """Until the (final) head is there."""
        return self.wait(lambda: self.fields is not None, "the head")

    def response(self):
        """Until the message is whole; Cut when it never will be."""
        self.head()
        return self.wait(lambda: self.ended, "the end")

    def take(self, count):
        """The next bytes of the body."""
        self.wait(lambda: self.size - self.taken >= count, "%d bytes" % count)
        with self.peer.lock:
            self.taken += count
            return bytes(self.data[self.taken - count:self.taken])

    def until_reset(self, seconds=None):
        """The code of the RST_STREAM that comes."""
        self.peer.wait(lambda: self.reset is not None or self.peer.over, "a reset of %r" % self, seconds)
        return self.reset

    def read(self, on=True):
        """Opens this stream's window again for what has come and what will, or stops."""
        with self.peer.lock:
            self.reads = on
            if on and self.owed and self.reset is None and not self.ended:
                self.peer.h2.increment_flow_control_window(self.owed, self.id)
                self.owed = 0
                self.peer.flush()

    def got(self, data, counted):
        self.data += data
        self.size += len(data)
        if not counted:
            return
        self.peer.credit(counted)
        self.owed += counted
        if self.reads and self.owed >= self.peer.credit_at and self.reset is None:
            try:
                self.peer.h2.increment_flow_control_window(self.owed, self.id)
                self.owed = 0
            except (h2.exceptions.StreamClosedError, KeyError):
                pass  # its end came with it; python3-h2 may have forgotten it already

    # what is sent
    def headers(self, headers, end=False):
        with self.peer.lock:
            self.peer.h2.send_headers(self.id, headers, end_stream=end)
            self.sent_end = self.sent_end or end
            self.peer.flush()
        return self

    def send(self, data, end=False, pad=None):
        """Waits for windows, and for the socket."""
        data = memoryview(data.encode("latin-1") if isinstance(data, str) else data)
        while True:
            def room():
                if self.reset is not None or self.peer.over:
                    return True
                return len(self.peer.out) < OUT_MAX and (not data or self.peer.h2.local_flow_control_window(self.id) > 0)
            with self.peer.lock:
                self.peer.wait(room, "room to send on %r" % self)
                if self.reset == NO_ERROR:
                    return self  # the peer has enough (RFC 9113 8.1)
                if self.reset is not None or self.peer.over:
                    raise BrokenPipeError("stream %d is reset by %s, connection %s" % (self.id, self.reset, self.peer.over or "open"))
                n = min(len(data), self.peer.h2.local_flow_control_window(self.id), self.peer.h2.max_outbound_frame_size)
                last = end and n == len(data)
                self.peer.h2.send_data(self.id, bytes(data[:n]), end_stream=last, pad_length=pad)
                self.sent_end = self.sent_end or last
                self.peer.flush()
            data = data[n:]
            if not data:
                return self

    def end(self, trailers=None):
        if trailers:
            return self.headers(trailers, end=True)
        return self.send(b"", end=True)

    def rst(self, code=CANCEL):
        with self.peer.lock:
            try:
                self.peer.h2.reset_stream(self.id, code)
            except h2.exceptions.ProtocolError:
                self.peer.raw(frame(RST_STREAM, 0, self.id, struct.pack(">I", code)))
            self.peer.flush()

    # an upstream's side, as Exchange1 has it for HTTP/1
    def early_hint(self, status, fields=()):
        return self.headers([(":status", str(status))] + list(fields))

    def begin(self, status=200, fields=(), end=False):
        return self.headers([(":status", str(status))] + [(n.lower(), v) for n, v in fields], end)

    def reply(self, status=200, body=b"", fields=(), trailers=None, length=True):
        body = body.encode("latin-1") if isinstance(body, str) else body
        fields = list(fields)
        if length and not trailers and status >= 200 and status not in (204, 304):
            fields.append(("content-length", str(len(body))))
        bodiless = self.method == "HEAD" or (not body and not trailers)
        self.begin(status, fields, end=bodiless)
        if not bodiless:
            self.send(body, end=not trailers)
            if trailers:
                self.end(trailers)

    def cut(self):
        self.rst(INTERNAL_ERROR)

    def whole(self):
        """Until the request has come whole."""
        return self.wait(lambda: self.ended, "the end of the request")


class Peer:
    """One side of a connection."""

    def __init__(self, sock, client=True, settings=None, window=1 << 20, reads=True, begin=b"", on_stream=None, start=True):
        self.sock, self.client, self.reads, self.on_stream = sock, client, reads, on_stream
        self.owed = 0  # of the connection's window
        # bytes until a stream's window is opened again
        self.credit_at = min(16384, max(1, (settings or {}).get(INITIAL_WINDOW_SIZE, 65535) // 2))
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.out, self.over, self.fault, self.reading, self.closing = bytearray(begin), None, None, True, False
        self.streams, self.goaways, self.pongs, self.settings_seen = {}, [], [], 0
        config = h2.config.H2Configuration(client_side=client, header_encoding=None, validate_outbound_headers=False,
                                           normalize_outbound_headers=False, validate_inbound_headers=client)
        self.h2 = Lenient(config)
        # What we want of the peer holds from its ACK on (RFC 9113 6.5.3): python3-h2 takes initial values to hold at once.
        first = {HEADER_TABLE_SIZE: 4096, MAX_HEADER_LIST_SIZE: 1 << 20, **({ENABLE_PUSH: 0} if client else {})}
        late = {MAX_CONCURRENT_STREAMS: 1000, **(settings or {})}
        if ENABLE_CONNECT_PROTOCOL in late:
            first[ENABLE_CONNECT_PROTOCOL] = late.pop(ENABLE_CONNECT_PROTOCOL)
        self.h2.local_settings = h2.settings.Settings(client=client, initial_values=first)
        self.h2.initiate_connection()
        self.h2.update_settings(late)
        if window > 65535:
            self.h2.increment_flow_control_window(window - 65535)
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bell, self.ear = socket.socketpair()
        self.bell.setblocking(False)
        self.ear.setblocking(False)
        self.flush()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        if start:
            self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- the thread
    def loop(self):
        try:
            while self.turn():
                pass
            self.ends("closed")
        except (OSError, ValueError) as e:
            self.ends("broken: %s" % e)
        except h2.exceptions.ProtocolError as e:
            self.fault = e
            try:
                with self.lock:
                    self.flush()
                    self.push()
            except OSError:
                pass
            self.ends("fault: %r" % e)
        finally:
            for s in (self.bell, self.ear, self.sock):
                s.close()

    def ends(self, why):
        with self.lock:
            self.over = self.over or why
            self.changed.notify_all()

    def turn(self):
        poll = select.poll()
        poll.register(self.ear, select.POLLIN)
        with self.lock:
            mask = (select.POLLOUT if self.out else 0) | (select.POLLIN if self.reading else 0)
            if self.closing and not self.out:
                return False
        if mask:
            poll.register(self.sock, mask)
        ready = dict(poll.poll(1000))
        if ready.get(self.ear.fileno()):
            try:
                self.ear.recv(4096)
            except BlockingIOError:
                pass
        with self.lock:
            self.push()
        if self.reading and ready.get(self.sock.fileno(), 0) & ~select.POLLOUT:
            return self.pull()
        return True

    def push(self):
        while self.out:
            try:
                n = self.sock.send(bytes(self.out[:262144]))
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            del self.out[:n]
            self.changed.notify_all()

    def pull(self):
        while True:
            try:
                data = self.sock.recv(262144)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            if not data:
                return False
            with self.lock:
                for event in self.h2.receive_data(data):
                    self.on_event(event)
                self.flush()
                self.changed.notify_all()
            if not isinstance(self.sock, ssl.SSLSocket):
                return True

    def on_event(self, event):
        number = getattr(event, "stream_id", None)
        stream = self.streams.get(number)
        if isinstance(event, h2.events.RequestReceived):
            check_request(event.headers)
            stream = self.streams[number] = Stream(self, number)
            stream.take_head(event.headers)
            if self.on_stream:
                self.on_stream(stream)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((int(event.error_code), event.last_stream_id, bytes(event.additional_data or b"")))
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings_seen += 1
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs.append(event.ping_data)
        elif stream is None:
            pass
        elif isinstance(event, h2.events.InformationalResponseReceived):
            hint = Stream(self, number)
            hint.take_head(event.headers)
            stream.early.append(hint)
        elif isinstance(event, h2.events.ResponseReceived):
            stream.take_head(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.got(event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = [(text(n), text(v)) for n, v in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended, stream.ended_at = True, time.monotonic()
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)

    # --- what stories call
    def flush(self):
        with self.lock:
            self.out += self.h2.data_to_send()
            self.wake()

    def credit(self, bytes):
        """The connection's window follows what came, whoever reads it."""
        self.owed += bytes
        if self.owed >= 16384:
            self.h2.increment_flow_control_window(self.owed)
            self.owed = 0

    def wake(self):
        try:
            self.bell.send(b"x")
        except OSError:
            pass  # it has ended, or has enough to hear

    def wait(self, condition, what, seconds=None):
        end = time.monotonic() + (seconds or PATIENCE)
        with self.lock:
            while not condition():
                left = end - time.monotonic()
                if left <= 0:
                    raise Wrong("waited in vain: %s (connection %s, fault %r)" % (what, self.over or "open", self.fault))
                self.changed.wait(min(left, 0.5))

    def raw(self, data):
        """Bytes past python3-h2, which knows nothing of them."""
        with self.lock:
            self.flush()
            self.out += data
            self.wake()

    def read(self, on=True):
        """Stops reading from the socket, or goes on."""
        with self.lock:
            self.reading = on
            self.wake()

    def open(self, headers, end=True):
        """A request of these fields as they are."""
        with self.lock:
            number = self.h2.get_next_available_stream_id()
            stream = self.streams[number] = Stream(self, number)
            stream.method = dict((text(n), text(v)) for n, v in headers).get(":method")
            return stream.headers(headers, end)

    def request(self, request, fields=(), body=None, end=True, trailers=None, length=True, host="weir.test", scheme=None):
        """ "GET /a" and what goes with it; with `end` off the body is the story's to send."""
        method, path = request.split(" ", 1)
        scheme = scheme or ("https" if isinstance(self.sock, ssl.SSLSocket) else "http")
        headers = ask(path, method, host, scheme) + [(n.lower(), v) for n, v in (fields.items() if isinstance(fields, dict) else fields)]
        if body is not None and length and not trailers:
            headers.append(("content-length", str(len(body))))
        stream = self.open(headers, end and not body and not trailers and (body is None or length))
        if body or (end and not stream.sent_end and not trailers):
            stream.send(body or b"", end=end and not trailers)
        if trailers:
            stream.end(trailers)
        return stream

    def websocket(self, path="/", host="weir.test", protocol="websocket", fields=(("sec-websocket-version", "13"),)):
        """Extended CONNECT (RFC 8441)."""
        self.wait(lambda: self.settings_seen or self.over, "SETTINGS")
        scheme = "https" if isinstance(self.sock, ssl.SSLSocket) else "http"
        return self.open([(":method", "CONNECT"), (":protocol", protocol), (":scheme", scheme), (":path", path), (":authority", host),
                          *fields], end=False)

    def ping(self, data=b"12345678"):
        with self.lock:
            self.h2.ping(data)
            self.flush()
        self.wait(lambda: data in self.pongs or self.over, "the answer to PING")

    def goaway(self, last, code=NO_ERROR):
        self.raw(frame(GOAWAY, 0, 0, struct.pack(">II", last, code)))

    def peer_setting(self, number, default=None):
        self.wait(lambda: self.settings_seen or self.over, "SETTINGS")
        return self.h2.remote_settings.get(number, default)

    def until_over(self, what="the connection ends", seconds=None):
        self.wait(lambda: self.over, what, seconds)
        return self.goaways[-1] if self.goaways else None

    def drained(self):
        """All that was sent is in the kernel."""
        self.wait(lambda: not self.out or self.over, "what was sent leaves")

    def close(self):
        with self.lock:
            self.closing = True
            self.over = self.over or "closed by us"
            self.changed.notify_all()
            self.wake()
        if threading.current_thread() is not self.thread:
            self.thread.join(PATIENCE)

    def cut(self):
        """Ends by RST."""
        with self.lock:
            self.out.clear()
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.close()


class RawPeer(Conn):
    """HTTP/2 without any machine behind it: frames out, frames in."""

    def __init__(self, sock):
        super().__init__(sock)
        self.decoder = hpack.Decoder()

    def begin(self, settings=b""):
        return self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def frame(self):
        """The next frame: (kind, flags, stream, payload); None at the end."""
        try:
            head = self.take(9)
        except (Cut, ConnectionError):
            return None
        size = struct.unpack(">I", b"\0" + head[:3])[0]
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        return kind, flags, stream & 0x7fffffff, self.take(size)

    def until_frame(self, *kinds):
        """The next frame of these kinds; None at the end."""
        while True:
            got = self.frame()
            if got is None or got[0] in kinds:
                return got


def connect(w, listener=None, tls=None, sni=None, **kw):
    to = w.address if listener is None else w.config["listeners"][listener]["bind"]
    return dial(to, tls=tls, sni=sni, **kw).sock


def h2_client(w, listener=None, tls=None, sni=None, source=None, rcvbuf=None, **kw):
    """A client's connection: by prior knowledge, or by ALPN when `tls` is a context that offers it."""
    sock = connect(w, listener, tls, sni, source=source, rcvbuf=rcvbuf)
    if tls and sock.selected_alpn_protocol() != "h2":
        raise Wrong("ALPN gave %r" % sock.selected_alpn_protocol())
    peer = Peer(sock, **kw)
    w.lab.closing.append(peer)
    return peer


def raw_client(w, listener=None, tls=None, sni=None):
    peer = RawPeer(connect(w, listener, tls, sni))
    w.lab.closing.append(peer)
    return peer


# --- upstreams -------------------------------------------------------------------------------------------------------

def tell(x):
    """Answers by what came: of either protocol."""
    told = {"method": x.method, "target": x.target, "version": x.version, "host": x.host, "scheme": x.scheme, "fields": x.fields,
            "body": x.body.decode("latin-1"), "trailers": x.trailers}
    x.reply(200, json.dumps(told), [("content-type", "application/json")])


class H2Upstream(Upstream):
    """A scripted HTTP/2 server. reply(stream) runs in a thread of its own when a request is whole, or with `early` when its
    head has come; script(peer) when a connection begins. With TLS, a client that does not choose h2 gets `fallback`."""

    def __init__(self, reply=tell, script=None, early=False, fallback=None, peer=None, **kw):
        self.early, self.start, self.fallback, self.peer_options = early, script, fallback, peer or {}
        super().__init__(reply, **kw)

    def serve(self, sock):
        with self.lock:
            self.open += 1
        peer = None
        try:
            if self.tls:
                sock.settimeout(PATIENCE)
                sock = self.tls.wrap_socket(sock, server_side=True)
                if sock.selected_alpn_protocol() != "h2" and self.fallback:
                    self.fallback(sock)
                    return
            peer = Peer(sock, client=False, on_stream=self.on_stream, start=False, **self.peer_options)
            peer.server = self
            with self.lock:
                self.conns.append(peer)
                peer.index = len(self.conns)
            peer.thread.start()
            if self.start:
                self.start(peer)
            peer.thread.join()
            if peer.fault:
                self.faults.append(peer.fault)
        except OSError as e:
            self.faults.append(e)
        finally:
            if peer:
                peer.close()
            sock.close()
            with self.lock:
                self.open -= 1

    def on_stream(self, stream):
        with self.lock:
            self.requests.append(stream)
        threading.Thread(target=self.run, args=(stream,), daemon=True).start()

    def run(self, stream):
        try:
            if not self.early:
                stream.whole()
            self.reply(stream)
        except (OSError, Cut, Wrong, h2.exceptions.ProtocolError) as e:
            stream.peer.server.faults.append(e)

    def close(self):
        self.stop()
        for peer in list(self.conns):
            peer.close()


def h2_upstream(lab, reply=tell, **kw):
    peer = H2Upstream(reply, name="up%d" % len(lab.peers), **kw)
    lab.peers.append(peer)
    return peer


class Exchange1:
    """A request on HTTP/1 with the methods that an upstream's Stream has."""

    def __init__(self, conn, request, ended=True):
        self.conn, self.request, self.chunked, self.ended = conn, request, False, ended
        self.method, self.target, self.version, self.scheme = request.method, request.target, request.version, None
        self.fields, self.protocol = request.fields, None
        self.host, self.get, self.all = request.get("host"), request.get, request.all

    @property
    def body(self):
        return self.request.body

    @property
    def trailers(self):
        return self.request.trailers

    def whole(self):
        if not self.ended:
            self.conn.body(self.request)
        self.ended = True
        return self

    def early_hint(self, status, fields=()):
        self.conn.send("HTTP/1.1 %d Early\r\n%s\r\n" % (status, "".join("%s: %s\r\n" % f for f in fields)))

    def begin(self, status=200, fields=(), end=False):
        fields, names = list(fields), [n.lower() for n, _ in fields]
        bodiless = status in (204, 304) or self.method == "HEAD"
        if "content-length" not in names and not bodiless:
            fields.append(("content-length", "0") if end else ("transfer-encoding", "chunked"))
        self.chunked = ("transfer-encoding", "chunked") in fields
        self.conn.send("HTTP/1.1 %d OK\r\n%s\r\n" % (status, "".join("%s: %s\r\n" % f for f in fields)))

    def send(self, data, end=False):
        self.conn.send((chunk(data) if data else b"") if self.chunked else data)
        if end:
            self.end()

    def end(self, trailers=None):
        if self.chunked:
            self.conn.send("0\r\n%s\r\n" % "".join("%s: %s\r\n" % f for f in trailers or ()))

    def reply(self, status=200, body=b"", fields=(), trailers=None, length=True):
        body = body.encode("latin-1") if isinstance(body, str) else body
        fields = list(fields)
        if length and not trailers and status not in (204, 304):
            fields.append(("content-length", str(len(body))))
        self.begin(status, fields, end=not body and not trailers)
        if self.method != "HEAD" and (body or trailers):
            self.send(body)
            self.end(trailers)

    def cut(self):
        self.conn.reset()


def reply1(reply, early=False):
    """A reply of either protocol as weirlab's Upstream calls it."""
    def run(conn, request):
        reply(Exchange1(conn, request))
    if not early:
        return {"reply": run}

    def script(conn):
        while conn.buffer or conn.more():
            x = Exchange1(conn, conn.head(), False)
            conn.server.requests.append(x)
            reply(x)
    return {"script": script}


# --- every combination -----------------------------------------------------------------------------------------------

FRONTS, BACKS = ("h1", "h2", "h1s", "h2s"), ("h1", "h2", "h2s")


class Square:
    """One weir with a plain and a TLS listener, and an upstream each for h1, h2 and h2 over TLS, chosen by host."""

    def __init__(self, lab, reply=tell, early=False, route=None, peer=None, **top):
        self.lab, self.ca, self.ups = lab, Authority(lab, "ca%d" % len(lab.weirs)), {}
        pair = self.ca.issue("weir.test", *[b + ".test" for b in BACKS])
        routes = [{"name": b, "match": {"host": b + ".test"}, "to": b, **(route or {})} for b in BACKS]
        upstreams = {}
        for b in BACKS:
            secure = self.ca.server(pair) if b == "h2s" else None
            if secure:
                secure.set_alpn_protocols(["h2"])
            up = self.ups[b] = h2_upstream(lab, reply, early=early, peer=peer, tls=secure) if b != "h1" else lab.upstream(**reply1(reply, early))
            upstreams[b] = {"servers": [up.address], "protocol": b[:2], **({"tls": {"ca": self.ca.cert, "sni": "h2s.test"}} if secure else {})}
        tls = {"bind": address(), "routes": routes, "tls": {"cert": pair[0], "key": pair[1]}}
        self.w = lab.weir(routes=routes, listeners={"tls": tls}, upstreams=upstreams, **top)

    def context(self, alpn):
        """A client's: it trusts our authority, and offers these protocols."""
        return self.ca.client(alpn=alpn)

    def pairs(self):
        """(front, back) of each combination."""
        return [(f, b) for f in FRONTS for b in BACKS]

    def connect(self, front, **kw):
        """A connection of this kind: weirlab's Conn or a Peer."""
        tls = {"listener": "tls", "tls": self.context(["h2"] if front == "h2s" else ["http/1.1"]), "sni": "weir.test"} if front[-1] == "s" else {}
        return self.w.client(**tls, **kw) if front.startswith("h1") else h2_client(self.w, **tls, **kw)

    def ask(self, front, back, request, fields=(), body=None, length=True, trailers=None):
        """One request on a connection of its own; the answer, whole, or Cut."""
        with self.connect(front) as c:
            return exchange(c, back + ".test", request, fields, body, length, trailers)


def exchange(c, host, request, fields=(), body=None, length=True, trailers=None):
    """One request on this connection of either protocol, and its answer."""
    if isinstance(c, Peer):
        return c.request(request, fields, body, trailers=trailers, length=length, host=host).response()
    fields = [("Host", host)] + list(fields)
    if trailers or not length:
        fields.append(("Transfer-Encoding", "chunked"))
    c.send(text_of(request, fields, body if length and not trailers else None))
    if trailers or not length:
        c.send((chunk(body) if body else b"") + b"0\r\n" + "".join("%s: %s\r\n" % f for f in trailers or ()).encode() + b"\r\n")
    return c.response(request.split()[0])
