"""A model's own server, outside of the building: OpenAI-compatible, and as bad as the test asks for.

The behaviour is the name of the model: fine, slow, dead, error, busy, breaks, no-usage, greedy, headers, cites, repeats.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from http.client import HTTPConnection
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
        words = _words(body)
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
        words = _words(body)
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


def _words(body) -> list[str]:
    if body["model"] == "repeats":
        return [f"{word} " for word in body["messages"][-1]["content"].split()][: body["max_tokens"]]
    return [*WORDS, " [1]"] if body["model"] == "cites" else WORDS[: body["max_tokens"]]


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


class _Proxy(BaseHTTPRequestHandler):
    """Passes on to a real model server, or does what the last message of a chat says in place of it.

    Messages: `status 429 7` (with Retry-After), `once reset` and `once 502` (the first time), `hold 3` and `cut 3` (of the
    events of a real answer that was recorded), `no-usage`, `filter`, `reports` (an error, in a stream). `recorded` is
    answered by the recording, as is all that a `backup` is asked; anything else is passed on.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        if not self.path.endswith("/chat/completions"):
            self._pass_on(body, "")
            return
        said = body["messages"][-1]["content"].split()
        asked = (body["model"], " ".join(said))
        self.server.asked.append(asked)
        first_time = self.server.asked.count(asked) == 1
        match said:
            case ["status", status, *wait]:
                self._say(int(status), {"error": {"message": self.headers["authorization"]}}, *wait)
            case _ if body["model"].startswith("backup"):
                self._repeat(body)
            case ["reports"]:
                self._say_event({"error": {"message": "I cannot"}})
            case ["recorded"]:
                self._repeat(body)
            case ["once", "reset", *_] if first_time:
                self._die()
            case ["once", status, *_] if first_time:
                self._say(int(status), {}, "0")
            case ["hold", events]:
                self._replay(int(events))
                self.server.released.wait()
                self._die()
            case ["cut", events]:
                self._replay(int(events))
                self._die()
            case _:
                self._pass_on(body, said[0] if said else "")

    def _pass_on(self, body, change):
        path = self.path.removeprefix("/bundled")
        if path.endswith("/chat/completions"):
            body = {**body, "model": "smollm2-135m-instruct"}
        headers = {"authorization": self.headers["authorization"] or "", "content-type": "application/json"}
        real = HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        real.request("POST", path, json.dumps(body), headers)
        answer = real.getresponse()
        raw = answer.read()
        real.close()
        if change == "no-usage":
            raw = b"\n".join(line for line in raw.split(b"\n") if b'"choices":[]' not in line.replace(b" ", b""))
            raw = raw if body.get("stream") else json.dumps({**json.loads(raw), "usage": None}).encode()
        if change == "filter":
            raw = raw.replace(b'"length"', b'"content_filter"').replace(b'"stop"', b'"content_filter"')
        if body.get("stream") and answer.status == 200:
            self.server.recorded = self.server.recorded or [one + b"\n\n" for one in raw.split(b"\n\n") if one]
        elif path.endswith("/chat/completions") and answer.status == 200:
            self.server.recorded_whole = self.server.recorded_whole or json.loads(raw)
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _repeat(self, body):
        """The recorded answer at once: no matter how busy the machine is."""
        if body["stream"]:
            self._replay(len(self.server.recorded))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._say(200, self.server.recorded_whole)

    def _replay(self, events):
        if events:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
        for event in self.server.recorded[:events]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()

    def _say_event(self, event):
        payload = b"data: " + json.dumps(event).encode() + b"\n\n"
        self.send_response(200)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _say(self, status, body, retry_after_s=""):
        payload = json.dumps(body).encode()
        self.send_response(status)
        if retry_after_s:
            self.send_header("retry-after", retry_after_s)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _die(self):
        self.close_connection = True
        with contextlib.suppress(OSError):  # the gateway was quicker
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        return


def start_proxy(behind: int) -> _Server:
    """A proxy before the model server on the port `behind`. Those on hold wait until `released` is set."""
    server = _Server(("127.0.0.1", 0), _Proxy)
    server.behind = behind
    server.asked = []
    server.recorded = []
    server.recorded_whole = {}
    server.released = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
