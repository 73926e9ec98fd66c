#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""upstream.py NAME [PORT]: a server for the tests of the examples, on loopback; prints its port.

GET /PATH answers "NAME METHOD /PATH" and the x-* fields it got; /pieces?a|b|c answers with chunks a, b, c, one at a time.
"""
import http.server
import sys
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/pieces":
            return self.pieces(urllib.parse.unquote_plus(query).split("|"))
        lines = ["%s %s %s" % (sys.argv[1], self.command, self.path)]
        lines += ["%s: %s" % (name.lower(), value) for name, value in self.headers.items() if name.lower().startswith("x-")]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pieces(self, texts):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in texts + [""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text.encode()), text.encode()))
            self.wfile.flush()
            time.sleep(0.02)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
server.daemon_threads = True
print("listening on port", server.server_address[1], flush=True)
server.serve_forever()
