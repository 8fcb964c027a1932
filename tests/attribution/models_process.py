"""A models process outside of the building: tokens are words, embeddings count letters, and answers hardly need documents."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GAIN_PER_DOCUMENT = 0.5  # nats; below 2 for all of them together, an answer counts as the model's own
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps(_ANSWERS[self.path](body)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


def _embeddings(body: dict) -> dict:
    texts = [text.lower() for text in body["input"]]
    return {"data": [{"embedding": [1.0 + text.count(letter) for letter in LETTERS]} for text in texts]}


def _scores(body: dict) -> dict:
    documents = [prompt[0]["content"].count("<document number=") for prompt in body["prompts"]]
    return {"scores": [{"logprob": -40.0 + GAIN_PER_DOCUMENT * count} for count in documents]}


_ANSWERS = {
    "/tokenize": lambda body: {"count": len(body["text"].split())},
    "/v1/embeddings": _embeddings,
    "/score": _scores,
}


@contextmanager
def running_models_process() -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
