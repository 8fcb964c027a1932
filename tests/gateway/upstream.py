"""A model's own server, outside of the building: OpenAI-compatible, and as bad as the test asks for.

The behaviour is the name of the model: fine, slow, dead, error, busy, breaks, no-usage, greedy, headers.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["The", " answer", " is", " forty", "-two", "."]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        behaviour = body["model"]
        if behaviour == "dead":
            self._die()
        elif behaviour == "error":
            self._json(500, {"error": {"message": "secret internals"}})
        elif behaviour == "busy":
            self._json(429, {"error": {"message": "slow down"}}, {"retry-after": "7"})
        elif behaviour == "headers":
            self._send_headers_for_ever()
        elif body.get("stream"):
            self._stream(body, behaviour)
        else:
            self._whole(body, behaviour)

    def _whole(self, body, behaviour):
        if behaviour == "slow":
            time.sleep(float(self.server.delay_s))
        words = WORDS[: body["max_tokens"]]
        message = {"role": "assistant", "content": "".join(words)}
        answer = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        if behaviour != "no-usage":
            answer["usage"] = usage(7, 10**6 if behaviour == "greedy" else len(words))
        if behaviour == "breaks":
            payload = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload[:20])
            self._die()
            return
        self._json(200, answer)

    def _stream(self, body, behaviour):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        words = WORDS[: body["max_tokens"]]
        try:
            for number, word in enumerate(words):
                if behaviour == "breaks" and number == 2:
                    self._die()
                    return
                self._event({"choices": [{"index": 0, "delta": {"content": word}}]})
                if behaviour == "slow":
                    time.sleep(float(self.server.delay_s) / len(words))
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            if behaviour != "no-usage":
                self._event({"choices": [], "usage": usage(7, len(words))})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send_headers_for_ever(self):
        self.send_response(200)
        self.flush_headers()
        try:
            while True:
                self.wfile.write(b"x-more: " + b"x" * 1000 + b"\r\n")
                self.server.header_bytes += 1000
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _die(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _event(self, event):
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _json(self, status, body, headers=()):
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        return


def usage(prompt: int, answer: int) -> dict:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        return  # a gateway that was killed


def start() -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.seen = []
    server.delay_s = 0.3
    server.header_bytes = 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
