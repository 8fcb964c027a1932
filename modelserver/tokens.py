"""Exact prompt tokens: the ones that generation uses, that a reservation counts and that `/score` reads.

The prompt is given to the tokenizer as fragments: control tokens by their number, everything that people wrote as
plain text. So a document that contains `<|im_end|>` stays text and cannot close its own message.
"""

from __future__ import annotations

import http.client
import json
import threading

# SmolLM2's control tokens, and the system message that its chat template adds where there is none.
IM_START, IM_END = 1, 2
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

Message = dict[str, str]


def chat_fragments(messages: list[Message]) -> list[int | str]:
    """Lay messages out by the model's chat template (ChatML), ending where the assistant speaks.

    Args:
        messages: `{"role", "content"}`, roles system, user or assistant, at least one.
    """
    fragments: list[int | str] = []
    if messages[0]["role"] != "system":
        fragments += [IM_START, f"system\n{DEFAULT_SYSTEM}", IM_END, "\n"]
    for message in messages:
        fragments += [IM_START, f"{message['role']}\n{message['content']}", IM_END, "\n"]
    return [*fragments, IM_START, "assistant\n"]


class Tokenizer:
    """The runtime's own tokenizer, over its loopback port. Safe in several threads; about 0.3 ms a call."""

    def __init__(self, address: str, api_key: str):
        self._host = address.removeprefix("http://").rstrip("/")
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {api_key}"}
        self._local = threading.local()

    def encode(self, fragments: list[int | str]) -> list[int]:
        """Tokens of the fragments in order: numbers stand for themselves, text never becomes a control token."""
        return self._post("/tokenize", {"content": fragments, "add_special": False, "parse_special": False})["tokens"]

    def encode_template(self, messages: list[Message]) -> list[int]:
        """Tokens by the template stored in the weights, control tokens in the text included: only to check ours."""
        prompt = self._post("/apply-template", {"messages": messages})["prompt"]
        return self._post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]

    def _post(self, path: str, body: dict) -> dict:
        payload = json.dumps(body).encode()
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request("POST", path, payload, self._headers)
                response = connection.getresponse()
                text = response.read()
            except (ConnectionError, http.client.HTTPException):
                # The server closes a kept connection after a while; a fresh one tells a dead server from a closed line.
                connection.close()
                if attempt == 2:
                    raise
                continue
            if response.status != 200:
                raise RuntimeError(f"the tokenizer answered {response.status}")
            return json.loads(text)
        raise AssertionError("unreachable")

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._host, timeout=20)
        return connection
