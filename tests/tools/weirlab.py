# SPDX-License-Identifier: Apache-2.0
"""weirlab: a small laboratory around the binary: it starts `weir run` between scripted peers, and always stops it.

A test file is a row of stories:

    @story
    def get(lab):                                    # client ── weir ── up
        up = lab.upstream()                          # answers every request by what it received
        w = lab.weir(up)
        r = w.ask("GET /a")
        eq(r.status, 200, "status")

    main()

After each story weir is stopped by SIGTERM; it must end with 0, say nothing on the sanitizers' behalf, and count no bug.
Each process has a loopback address of its own, so that tests run beside each other. $WEIR is the binary.
"""
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BINARY = os.environ.get("WEIR") or os.path.join(os.path.dirname(__file__), "../../build/dev/weir")
SLOW = float(os.environ.get("WEIR_SLOW", "1"))
MOVER = os.environ.get("WEIR_MOVER")  # copy, pipe …: every configuration says so; None: as weir chooses
PATIENCE = 10 * SLOW  # seconds until a peer that says nothing is a failure
HOST = "127.%d.%d.%d" % (64 + (os.getpid() >> 16 & 63), os.getpid() >> 8 & 255, os.getpid() & 255)
STORIES = []


class Wrong(AssertionError):
    """What was seen is not what was wanted."""


class Cut(Exception):
    """A message that ended before its end; `response` is what there was of it."""
    response = None


class Skip(Exception):
    """This host can not show it."""


def story(function):
    STORIES.append(function)
    return function


def eq(seen, wanted, what):
    if seen != wanted:
        raise Wrong("%s: wanted %.600r, saw %.600r" % (what, wanted, seen))


def ok(condition, what, seen=None):
    if not condition:
        raise Wrong(what + ("" if seen is None else ": saw %.2000r" % (seen,)))


def has(text, part, what):
    if part not in text:
        raise Wrong("%s: wanted %.200r in %.2000r" % (what, part, text))


def wait(condition, what, seconds=None):
    """Until condition() is true; returns its value."""
    end = time.monotonic() + (seconds or PATIENCE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Wrong("waited in vain: %s" % what)
        time.sleep(0.01)


def may_use_bpf():
    """CAP_NET_ADMIN, CAP_BPF, and types of the kernel."""
    with open("/proc/self/status", encoding="ascii") as f:
        caps = int(re.search(r"^CapEff:\s*(\w+)", f.read(), re.M)[1], 16)
    return all(caps >> cap & 1 for cap in (12, 39)) and os.path.exists("/sys/kernel/btf/vmlinux")


GIVEN = set()


def free_port(kind=socket.SOCK_STREAM):
    """One that is free, and was not given before: who got it may not have bound it yet."""
    while True:
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind((HOST, 0))
            port = s.getsockname()[1]
        if port not in GIVEN:
            GIVEN.add(port)
            return port


def address():
    return "%s:%d" % (HOST, free_port())


# --- HTTP as bytes ---------------------------------------------------------------------------------------------------

class Message:
    """A request or a response as it came: first line, fields in order with their names in lower case, body, trailers."""

    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.raw, self.line = head, lines[0]
        self.fields = [(n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:] if line)]
        self.body, self.trailers, self.early, self.chunks = b"", [], [], []
        parts = self.line.split(" ", 2)
        if self.line.startswith("HTTP/"):
            self.version, self.status = parts[0], int(parts[1])
        else:
            self.method, self.target, self.version = (parts + ["", ""])[:3]

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self.fields if n == name]

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "<%s %r %r>" % (self.line, self.fields, self.body[:200])


class Conn:
    """One side of a connection: reads and writes HTTP/1 by hand."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.settimeout(PATIENCE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def more(self):
        """More bytes into the buffer; False at the end of the stream."""
        try:
            data = self.sock.recv(262144)
        except socket.timeout:
            raise Wrong("nothing came for %g s; before that: %.300r" % (self.sock.gettimeout(), self.buffer)) from None
        self.buffer += data
        return bool(data)

    def take(self, n):
        parts, have = [self.buffer], len(self.buffer)
        while have < n:
            self.buffer = b""
            if not self.more():
                self.buffer = b"".join(parts)
                raise Cut("%d of %d bytes" % (have, n))
            parts.append(self.buffer)
            have += len(self.buffer)
        data = b"".join(parts)
        self.buffer = data[n:]
        return data[:n]

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise Cut("the end came before %r: %.300r" % (mark, self.buffer))
        data, _, self.buffer = self.buffer.partition(mark)
        return data

    def rest(self):
        """All until the end of the stream."""
        parts = [self.buffer]
        self.buffer = b""
        while self.more():
            parts.append(self.buffer)
            self.buffer = b""
        return b"".join(parts)

    def ended(self):
        """Is this the end of the stream, clean and with nothing before it?"""
        return not self.buffer and not self.more()

    def head(self):
        return Message(self.until(b"\r\n\r\n"))

    def chunked(self, message):
        while True:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                break
            message.chunks.append(self.take(size))
            eq(self.take(2), b"\r\n", "the end of a chunk")
        message.body = b"".join(message.chunks)
        while True:
            line = self.until(b"\r\n").decode("latin-1")
            if not line:
                return
            name, _, value = line.partition(":")
            message.trailers.append((name.lower(), value.strip()))

    def body(self, message, close_ends=False):
        coding = message.get("transfer-encoding", "")
        if coding.lower().endswith("chunked"):
            self.chunked(message)
        elif message.get("content-length") is not None:
            want, parts = int(message.get("content-length")), []
            while want:
                if not self.buffer and not self.more():
                    message.body = b"".join(parts)
                    raise Cut("%d bytes of a body are missing" % want)
                part = self.buffer[:want]
                self.buffer = self.buffer[len(part):]
                parts.append(part)
                want -= len(part)
            message.body = b"".join(parts)
        elif close_ends:
            message.body = self.rest()
        return message

    def request(self):
        """The next request with its body; None at the end of the stream."""
        if not self.buffer and not self.more():
            return None
        return self.body(self.head())

    def response(self, to="GET"):
        """The next final response with its body; 1xx before it are in `early`. Raises Cut when it is not whole."""
        early = []
        while True:
            message = self.head()
            if message.status == 101 or message.status >= 200:
                break
            early.append(message)
        message.early = early
        if message.status in (101, 204, 304) or to == "HEAD" or (to == "CONNECT" and message.status < 300):
            return message
        try:
            return self.body(message, True)
        except (Cut, ConnectionError) as e:
            cut = Cut("%s (%s)" % (e, message.line))
            cut.response = message
            raise cut from None

    def reset(self):
        """Ends by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def half(self):
        """Sends FIN; reads on."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer has ended it meanwhile

    def close(self):
        try:
            # another thread may be reading from it: close() alone would not wake it, nor send FIN
            self.sock.close()
        except OSError:
            pass


def dial(to, source=None, tls=None, sni=None, rcvbuf=None):
    """A connection to ("host", port), "host:port" or the path of a UNIX socket."""
    if isinstance(to, str) and to.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(to)
        return Conn(sock)
    if isinstance(to, str):
        host, _, port = to.rpartition(":")
        to = (host, int(port))
    sock = socket.socket(socket.AF_INET)
    sock.settimeout(PATIENCE)
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    if source:
        sock.bind((source, 0))
    sock.connect(to)
    if tls:
        sock = tls.wrap_socket(sock, server_hostname=sni)
    return Conn(sock)


def text_of(request, fields=(), body=None):
    """ "GET /a" and fields as the bytes of a request. Host is there unless a field says it; a body has its length."""
    fields = list(fields.items()) if isinstance(fields, dict) else list(fields)
    names = [n.lower() for n, _ in fields]
    if "host" not in names:
        fields.insert(0, ("Host", "weir.test"))
    if body is not None and "transfer-encoding" not in names and "content-length" not in names:
        fields.append(("Content-Length", str(len(body))))
    version = "" if " HTTP/" in request else " HTTP/1.1"
    head = request + version + "\r\n" + "".join("%s: %s\r\n" % f for f in fields) + "\r\n"
    return head.encode("latin-1") + (body or b"")


def answer(status=200, body=b"", fields=(), reason="OK"):
    """The bytes of a response with its length."""
    body = body.encode("latin-1") if isinstance(body, str) else body
    head = "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n" % (status, reason, len(body))
    return (head + "".join("%s: %s\r\n" % f for f in fields) + "\r\n").encode("latin-1") + body


def chunk(data):
    data = data.encode("latin-1") if isinstance(data, str) else data
    return b"%x\r\n%s\r\n" % (len(data), data)


# --- peers -----------------------------------------------------------------------------------------------------------

def mirror(conn):
    """A script of an upstream without a protocol: every byte back, and the end."""
    while conn.more():
        data, conn.buffer = conn.buffer, b""
        conn.send(data)
    conn.half()


def echo(conn, request):
    """Answers by what came."""
    told = {"method": request.method, "target": request.target, "version": request.version, "fields": request.fields,
            "body": request.body.decode("latin-1"), "trailers": request.trailers, "server": conn.server.name}
    body = b"" if request.method == "HEAD" else json.dumps(told).encode()
    conn.send(answer(200, body, [("Content-Type", "application/json")]))


class Upstream:
    """A scripted server. reply(conn, request) answers one request; or script(conn) has the whole connection. `requests` and
    `conns` tell what came; a reply that returns True closes the connection."""

    def __init__(self, reply=echo, script=None, tls=None, name="up", listen=True, rcvbuf=None):
        self.reply, self.script, self.tls, self.name = reply, script, tls, name
        self.requests, self.conns, self.faults, self.open, self.listener = [], [], [], 0, None
        self.lock, self.rcvbuf = threading.Lock(), rcvbuf
        self.port = free_port()
        self.address = "%s:%d" % (HOST, self.port)
        if listen:
            self.listen()

    def listen(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.rcvbuf)
        self.listener.bind((HOST, self.port))
        self.listener.listen(256)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                sock, self.peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with self.lock:
            self.open += 1
        conn = None
        try:
            if self.tls:
                sock.settimeout(PATIENCE)
                sock = self.tls.wrap_socket(sock, server_side=True)
            conn = Conn(sock)
            conn.server, conn.count = self, 0
            with self.lock:
                self.conns.append(conn)
                conn.index = len(self.conns)
            if self.script:
                self.script(conn)
            else:
                self.loop(conn)
        except (OSError, Cut) as e:
            self.faults.append(e)
        except Exception as e:  # told at the end of the story
            self.faults.append(e)
            if not isinstance(e, ValueError):  # of a socket that was closed under us
                traceback.print_exc()
        finally:
            (conn or sock).close()
            with self.lock:
                self.open -= 1

    def loop(self, conn):
        conn.sock.settimeout(None)
        while True:
            request = conn.request()
            if request is None:
                return
            conn.count += 1
            with self.lock:
                self.requests.append(request)
            if self.reply(conn, request):
                return

    def stop(self):
        """Refuses connections from now on; what is open stays."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None

    def close(self):
        self.stop()
        for conn in list(self.conns):
            try:
                conn.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Names:
    """A DNS server over UDP: `names` maps a name to (ttl, [addresses]), `srv` to (ttl, [(priority, weight, port, target)]);
    a name that is not there does not exist, and `silent` answers nothing."""

    def __init__(self, **names):
        self.names, self.srv, self.silent, self.asked = names, {}, False, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((HOST, 0))
        self.address = "%s:%d" % self.sock.getsockname()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                query, peer = self.sock.recvfrom(2048)
            except OSError:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            question, kind = query[12:at + 5], struct.unpack(">H", query[at + 1:at + 3])[0]
            name = ".".join(labels).lower()
            self.asked.append((time.monotonic(), name, kind))
            if self.silent:
                continue
            known = name in self.names or name in self.srv
            found = self.records(name, kind)
            head = query[:2] + struct.pack(">HHHHH", 0x8180 | (0 if known else 3), 1, len(found), 0, 0)
            self.sock.sendto(head + question + b"".join(b"\xc0\x0c" + r for r in found), peer)

    def records(self, name, kind):
        """The records of one kind, from their type on."""
        def record(ttl, data):
            return struct.pack(">HHIH", kind, 1, ttl, len(data)) + data
        if kind == 1:
            ttl, found = self.names.get(name, (0, []))
            return [record(ttl, socket.inet_aton(a)) for a in found]
        if kind == 33:
            ttl, found = self.srv.get(name, (0, []))
            return [record(ttl, struct.pack(">HHH", *s[:3]) + b"".join(bytes([len(l)]) + l.encode() for l in s[3].split(".")) + b"\0")
                    for s in found]
        return []

    def close(self):
        self.sock.close()


# --- weir ------------------------------------------------------------------------------------------------------------

class Weir:
    """A running daemon: `process` is its keeper, `pid` that of the proxy, which is what serves."""

    def __init__(self, lab, config, wait_ready=True, path=None, wrap=(), run=(), binary=BINARY, close_fds=True):
        self.lab, self.config, self.stopped = lab, config, False
        self.dir = tempfile.mkdtemp(prefix="weir", dir=lab.dir)
        os.chmod(self.dir, 0o777)
        self.instance = config["instance"]
        self.socket = config["admin"].get("socket")
        self.file = path or os.path.join(self.dir, "weir.yaml")
        if not path:
            with open(self.file, "w", encoding="utf-8") as f:
                json.dump(config, f, indent=1)  # JSON is YAML
        self.env = dict(os.environ)
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            self.env[name] = (self.env.get(name, "") + ":log_path=" + os.path.join(self.dir, "san")).strip(":")
        with open(os.path.join(self.dir, "err"), "wb") as err, open(os.path.join(self.dir, "out"), "wb") as out:
            self.process = subprocess.Popen([*wrap, binary, "run", *run, "-c", self.file], stdout=out, stderr=err, env=self.env,
                                            stdin=subprocess.DEVNULL, close_fds=close_fds)
        lab.weirs.append(self)  # before it is waited for: one that is never ready is ended as well
        binds = [b for l in config["listeners"].values() for b in ([l["bind"]] if isinstance(l["bind"], str) else l["bind"])]
        self.address = binds[0]
        if wait_ready:
            wait(lambda: "is ready" in self.log() or self.process.poll() is not None, "weir is ready")
            if self.process.poll() is not None:
                raise Wrong("weir ended at once with %d: %s" % (self.process.returncode, self.log()))

    def children(self):
        """The keeper's, the youngest last."""
        try:
            with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid), encoding="ascii") as f:
                return [int(pid) for pid in f.read().split()]
        except OSError:
            return []

    @property
    def pid(self):
        return (self.children() or [self.process.pid])[-1]

    # what it tells
    def log(self):
        with open(os.path.join(self.dir, "err"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def access(self, count=None):
        """The lines of the access log in the order of the requests' beginnings; waits for `count` of them."""
        def lines():
            with open(os.path.join(self.dir, "out"), encoding="utf-8") as f:
                return sorted((json.loads(line) for line in f if line.endswith("\n")), key=lambda line: line["ts"])
        if count is None:
            return lines()
        wait(lambda: len(lines()) >= count, "%d lines in the access log" % count)
        return lines()

    def admin(self, target="/v1/status", method="GET", body=None):
        """An answer of the admin socket."""
        with dial(self.socket) as c:
            data = None if body is None else json.dumps(body).encode()
            c.send(text_of("%s %s" % (method, target), [("Connection", "close")], data))
            return c.response(method)

    def settle(self, connections=False):
        """Waits until what was answered is counted too (a client may have its answer a moment before)."""
        def quiet():
            s = self.status()
            return not s["in_flight"] and not any(u["active"] for u in s["upstreams"]) and not (connections and s["connections"])
        wait(quiet, "all requests are over")

    def status(self):
        return self.admin().json()

    def metrics(self):
        """{"name{labels}": value}; every line is checked."""
        text = self.admin("/metrics").body.decode()
        values, kinds = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.split()[2:]
                ok(name not in kinds, "the family %s is there twice" % name)
                kinds[name] = kind
            elif line.startswith("# HELP "):
                ok(len(line.split(" ", 3)) == 4, "a HELP line has a sentence", line)
            else:
                m = re.fullmatch(r'([a-z_][a-z0-9_]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?|\+Inf|NaN)', line)
                ok(m, "a line of /metrics is a sample", line)
                family = m[1] if m[1] in kinds else re.sub("_(bucket|sum|count)$", "", m[1])
                ok(family in kinds, "a sample has its TYPE before it", line)
                ok(m[1] + (m[2] or "") not in values, "a sample is there once", line)
                values[m[1] + (m[2] or "")] = float(m[3])
        return values

    def metric(self, name, **labels):
        """The sum of the samples of a metric that have these labels."""
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name and
                   all('%s="%s"' % (n, labels[n]) in k for n in labels))

    def cli(self, *args, **kw):
        return self.lab.cli(*args, "--socket", self.socket, **kw)

    def configure(self, config=None):
        """Another configuration in the file (None: `config` as it is now, which a story may have changed)."""
        self.config = config or self.config
        with open(self.file + ".new", "w", encoding="utf-8") as f:
            json.dump(self.config, f, indent=1)
        os.rename(self.file + ".new", self.file)

    def reload(self, config=None, status=200):
        """The same, put in force: what the daemon says of it."""
        self.configure(config)
        r = self.admin("/v1/reload", "POST")
        eq(r.status, status, "POST /v1/reload says %s" % r.body[:1500].decode(errors="replace"))
        return r.json()

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def rss(self):
        with open("/proc/%d/status" % self.pid, encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) * 1024

    # talking to it
    def client(self, listener=None, **kw):
        to = self.address if listener is None else self.config["listeners"][listener]["bind"]
        conn = dial(to, **kw)
        self.lab.closing.append(conn)
        return conn

    def ask(self, request, fields=(), body=None, **kw):
        """One request on a connection of its own."""
        with self.client(**kw) as c:
            fields = list(fields.items()) if isinstance(fields, dict) else list(fields)
            if not any(n.lower() == "connection" for n, _ in fields):
                fields.append(("Connection", "close"))
            c.send(text_of(request, fields, body))
            return c.response(request.split()[0])

    # ending it
    def kick(self, number):
        self.process.send_signal(number)

    def join(self, seconds=None):
        """Its exit status."""
        try:
            return self.process.wait(seconds or PATIENCE)
        except subprocess.TimeoutExpired:
            raise Wrong("weir does not end; its log: %s" % self.log()[-2000:]) from None

    def stop(self, number=signal.SIGTERM, status=0):
        """Ends it and looks at how it went."""
        if self.stopped:
            return
        self.stopped = True
        bugs = None
        if self.process.poll() is None:
            if self.socket:
                try:
                    bugs = self.metric("weir_bugs_total")
                except (OSError, Cut, Wrong):
                    pass  # a story may have stopped the admin
            self.kick(number)
        try:
            ended = self.join()
        finally:
            self.kill()
        reports = ""
        for name in sorted(os.listdir(self.dir)):
            if name.startswith("san."):
                with open(os.path.join(self.dir, name), encoding="utf-8", errors="replace") as f:
                    reports += f.read()
        ok(not reports, "a sanitizer reports", reports[:6000])
        eq(ended, status, "exit status of weir (log: %s)" % self.log()[-1500:])
        ok(not bugs, "weir_bugs_total is 0; the log: %s" % self.log()[-1500:], bugs)

    def kill(self):
        """All of it at once."""
        if self.process.poll() is None:
            children = self.children()
            self.process.kill()
            self.process.wait()
            for pid in children:  # which would serve on without their keeper
                end_of(pid)


def folders(instance):
    """Where its lock may be, and its admin."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
    return [os.path.join(base, instance) for base in ("/run/weir", os.path.join(runtime, "weir"), "/tmp/weir-%d" % os.geteuid())]


def end_of(pid):
    """Kills a process that is not our child, and waits until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait(lambda: not lives(pid), "process %d ends" % pid)


def lives(pid):
    """Has it anything open still? Its first thread may be dead before the others are."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX" or len(os.listdir("/proc/%d/task" % pid)) > 1
    except OSError:
        return False


class Lab:
    """What one story has."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="weirlab-")
        os.chmod(self.dir, 0o777)
        self.weirs, self.peers, self.closing = [], [], []

    def upstream(self, reply=echo, **kw):
        peer = Upstream(reply, name="up%d" % len(self.peers), **kw)
        self.peers.append(peer)
        return peer

    def names(self, **names):
        peer = Names(**{n.replace("_", "."): v for n, v in names.items()})
        self.peers.append(peer)
        return peer

    def path(self, name):
        return os.path.join(self.dir, name)

    def config(self, *ups, listener=None, route=None, routes=None, upstream=None, servers=None, **top):
        """A configuration: one listener `web` to one upstream `app` of these servers; the rest by section."""
        if MOVER:
            top.setdefault("kernel", {}).setdefault("splice", MOVER)
            if MOVER == "sockmap":
                top["kernel"].setdefault("sockmap_after", 0)
        web = {"bind": address(), **(listener or {})}
        if routes is not None:
            web["routes"] = routes
        elif route is not None:
            web["routes"] = [{"name": "all", "to": "app", **route}]
        else:
            web["to"] = "app"
        config = {
            "instance": "lab-%d-%d-%d" % (os.getpid(), id(self) & 0xffff, len(self.weirs)),
            "workers": 2,
            "listeners": {"web": web},
            "shutdown": {"announce": 0, "drain": "1s", "tunnels": "1s"},
            "admin": {"socket": os.path.join(self.dir, "admin%d.sock" % len(self.weirs))},
        }
        if os.geteuid() == 0:
            config["user"] = "root"  # so that /proc shows its descriptors; one story lets it become nobody
        servers = servers if servers is not None else [up if isinstance(up, str) else up.address for up in ups]
        if servers:
            config["upstreams"] = {"app": {"servers": servers, **(upstream or {})}}
        for section, value in top.items():
            if section == "listeners":
                config["listeners"] = {"web": web, **value} if value.get("web") is None else value
            elif section == "upstreams":
                config.setdefault("upstreams", {}).update(value)
            elif section in ("shutdown", "admin"):
                config[section].update(value)
            else:
                config[section] = value
        return config

    def weir(self, *ups, wait_ready=True, path=None, wrap=(), run=(), binary=BINARY, **kw):
        """A running weir in front of these upstreams; see `config`. `wrap`: what starts it, as in `nice weir run`; `run`:
        options of that verb."""
        return Weir(self, self.config(*ups, **kw), wait_ready, path, wrap, run, binary)

    def cli(self, *args, check=None, stdin=None, before=None):
        """Runs `weir ARGS`: (status, stdout, stderr). `before` is called in its process before it is weir."""
        done = subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=PATIENCE * 3, input=stdin, check=False, preexec_fn=before)
        if check is not None:
            eq(done.returncode, check, "exit status of weir %s (%s%s)" % (" ".join(args), done.stdout[-500:], done.stderr[-500:]))
        return done.returncode, done.stdout, done.stderr

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def end(self, failed):
        """Everything stops; the first fault is raised, unless the story has failed already."""
        fault = None
        for conn in self.closing:
            conn.close()
        for w in self.weirs:
            try:
                if failed and not os.path.exists("/proc/%d" % w.pid):
                    w.stopped = False
                w.stop()
            except Exception as e:
                fault = fault or e
                w.kill()
        for peer in self.peers:
            peer.close()
        for w in self.weirs:
            for folder in folders(w.instance):
                shutil.rmtree(folder, ignore_errors=True)
        if failed:
            for w in self.weirs:
                print("    --- log of %s (exit %s)\n%s" % (w.instance, w.process.returncode, indent(w.log()[-3000:])))
        if fault and failed:
            print("    --- and at the end: %s" % fault)
        shutil.rmtree(self.dir, ignore_errors=True)
        if fault and not failed:
            raise fault


def indent(text):
    return "\n".join("    " + line for line in text.splitlines())


def run_story(function):
    lab, failed = Lab(), True
    started = time.monotonic()
    try:
        try:
            function(lab)
            failed = False
        finally:
            lab.end(failed)
    except Skip as e:
        print("skip  %s: %s" % (function.__name__, e))
        return None
    except Exception as e:
        print("FAIL  %s (%.1f s): %s" % (function.__name__, time.monotonic() - started, e))
        if not isinstance(e, Wrong):
            print(indent(traceback.format_exc()))
        else:
            frames = [f for f in traceback.extract_tb(e.__traceback__) if "integ" in os.path.normpath(f.filename)]
            if frames:
                print("      at line %d: %s" % (frames[-1].lineno, frames[-1].line))
        return False
    print("ok    %s (%.1f s)" % (function.__name__, time.monotonic() - started))
    return True


def main():
    """Runs the stories of the file, or those named on the command line, each to its end."""
    sys.stdout.reconfigure(line_buffering=True)
    chosen = [s for s in STORIES if not sys.argv[1:] or s.__name__ in sys.argv[1:]]
    if not os.access(BINARY, os.X_OK):
        print("%s is not built: set WEIR to the binary" % BINARY)
        sys.exit(77)
    if MOVER == "sockmap" and not may_use_bpf():
        print("skipped: this process may not use BPF")
        sys.exit(77)
    results = [run_story(s) for s in chosen]
    sys.exit(1 if False in results or not results else 77 if not any(results) else 0)
