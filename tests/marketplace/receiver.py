"""Somebody's own server that webhooks are sent to: it keeps what it is told, and answers as the test says."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """`seen`: (headers in lower case, body) of every request. `answer`: called for each, returns its status."""

    daemon_threads = True

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.answer = lambda: 200
        self.said = b"Thank you."
        self.drips_s = 0.0  # for how long it says a header, a sign at a time

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}/hook?of=tests"

    def start(self) -> Receiver:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _body in self.seen]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        if self.server.drips_s:
            self._drip(time.monotonic() + self.server.drips_s)
        status = self.server.answer()
        self.send_response(status)
        if status == 307:
            self.send_header("location", self.server.url)
        self.end_headers()
        self.wfile.write(self.server.said)

    def _drip(self, ends_at: float) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nx: ")
        with contextlib.suppress(OSError):
            while time.monotonic() < ends_at:
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.02)
            self.wfile.write(b"\r\n\r\n")

    def log_message(self, *_args):
        """Silence."""
