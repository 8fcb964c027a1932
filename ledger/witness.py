"""A witness: a small server that cosigns a log's head only if it extends the last head it cosigned.

    python -m ledger.witness --port 8701 --state DIR --name witness0.example --log-vkey VKEY
    python -m ledger.witness --state DIR --name witness0.example --print-vkey

It keeps its own key and, per log, the last head it cosigned, in DIR; the key is made on the first start. It should run
on another host, by somebody else: a log without an outside witness does not protect against its operator.

`cosign` is the log's side of the same conversation. Neither side imports Django.

Source: C2SP tlog-witness (`POST /add-checkpoint`) and tlog-cosignature (Ed25519, cosignature/v1).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from ledger import durable, merkle, notes, receipts, strict

BODY_BYTES_MAX = 64 * 1024
IDLE_TIMEOUT_S = 15
SIZE_TYPE = "text/x.tlog.size"


class WitnessError(Exception):
    """A witness did not cosign. The log goes on without it, and tries again."""


class WitnessUnreachable(WitnessError):
    """No answer, or one that is not of this protocol."""


class WitnessRefused(WitnessError):
    """The witness refused: 400 form, 403 signature, 404 another log, 422 proof."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the witness answered {status}: {reason}")
        self.status = status


class WitnessConflict(WitnessRefused):
    """The witness last cosigned another size: `size`. Ask again with a proof from there.

    If `size` is larger than the log, or the same as the checkpoint's, the log was rolled back or split: raise an alarm.
    """

    def __init__(self, size: int) -> None:
        super().__init__(HTTPStatus.CONFLICT, f"it cosigned a head of size {size}")
        self.size = size


def cosign(url: str, old_size: int, proof: Sequence[bytes], checkpoint_note: str, timeout_s: float = 2.0) -> list[str]:
    """Ask one witness for its cosignature.

    Args:
        url: The witness's address, http or https; `/add-checkpoint` is appended.
        old_size: Size of the last head this witness cosigned, 0 if none is known.
        proof: The consistency proof from old_size to the checkpoint; empty from 0.
        checkpoint_note: The checkpoint, signed by the log.
        timeout_s: For connecting, and for each read.

    Returns:
        The signature lines, newline included. They are not checked here: `notes.add_cosignatures` takes those that
        verify under a pinned key, and drops the rest.

    Raises:
        WitnessConflict, WitnessRefused, WitnessUnreachable. Asking again is harmless.
    """
    lines = [f"old {old_size}", *map(strict.encode_hash, proof), "", checkpoint_note]
    status, body = _post(url, "\n".join(lines).encode(), timeout_s)
    if status == HTTPStatus.OK:
        return [line + "\n" for line in body.split("\n") if line]
    if status == HTTPStatus.CONFLICT and strict.is_number(body.strip()):
        raise WitnessConflict(int(body))
    raise WitnessRefused(status, body.strip()[:200])


def _post(url: str, body: bytes, timeout_s: float) -> tuple[int, str]:
    """POST without following redirects, and without reading more than a cosignature could need."""
    parts = urllib.parse.urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise ValueError(f"not an http address: {url}")
    try:
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s)
        try:
            connection.request("POST", parts.path.rstrip("/") + "/add-checkpoint", body, {"Content-Type": "text/plain"})
            answer = connection.getresponse()
            return answer.status, answer.read(BODY_BYTES_MAX).decode()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise WitnessUnreachable(f"{url}: {error}") from error


# --- The witness -----------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An HTTP answer in the making."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """One witness's key and memory. The state directory is locked: two processes on it could cosign two histories."""

    def __init__(self, *, state: Path, name: str, log_vkeys: Sequence[str]) -> None:
        """Open or create the state.

        Args:
            state: Directory, mode 0700.
            name: The witness's name; must be the one its key was made for.
            log_vkeys: Keys of the logs it watches; several for one origin while a key is rotated.

        Raises:
            ValueError: the key is of another name, or a remembered head is not signed by a key in log_vkeys.
            BlockingIOError: another process uses this directory.
        """
        self.key = load_key(state, name)
        self._lock_file = (state / "lock").open("w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._mutex = threading.Lock()
        self._state = state
        self._vkeys: dict[str, list[str]] = {}
        for vkey in log_vkeys:
            self._vkeys.setdefault(notes.decode_vkey(vkey).name, []).append(vkey)
        self._heads = {origin: self._remembered(origin) for origin in self._vkeys}

    def close(self) -> None:
        """Give the directory back."""
        self._lock_file.close()

    def sizes(self) -> dict[str, int]:
        """Return the size of the last cosigned head of each log, 0 if there is none."""
        return {origin: head.size if head else 0 for origin, head in self._heads.items()}

    def add_checkpoint(self, body: bytes, *, now_s: int) -> Answer:
        """Answer one `add-checkpoint` request; a cosignature leaves only after the head is on the disk."""
        try:
            old_size, proof, note = _parse_request(body)
            checkpoint = notes.parse_checkpoint(note)
        except (strict.Malformed, UnicodeDecodeError) as error:
            return Answer(HTTPStatus.BAD_REQUEST, f"{error}\n")
        if checkpoint.origin not in self._vkeys:
            return Answer(HTTPStatus.NOT_FOUND, "this witness does not watch that log\n")
        if not self._is_signed(checkpoint):
            return Answer(HTTPStatus.FORBIDDEN, "no signature by a key of that log\n")
        if old_size > checkpoint.size:
            return Answer(HTTPStatus.BAD_REQUEST, "the old size is larger than the checkpoint\n")
        # One at a time: between check and write nobody else may move the head.
        with self._mutex:
            head = self._heads[checkpoint.origin]
            size, root = (head.size, head.root) if head else (0, merkle.EMPTY_ROOT)
            if old_size != size or (checkpoint.size == size and checkpoint.root != root):
                return Answer(HTTPStatus.CONFLICT, f"{size}\n", SIZE_TYPE)
            if not merkle.verify_consistency(size, checkpoint.size, root, checkpoint.root, proof):
                return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "the consistency proof does not verify\n")
            if head is None or checkpoint.size > size:
                durable.write(self._head_file(checkpoint.origin), note.encode(), mode=0o600)
                self._heads[checkpoint.origin] = checkpoint
        return Answer(HTTPStatus.OK, notes.cosign_checkpoint(checkpoint.text, self.key, now_s))

    def _is_signed(self, checkpoint: notes.Checkpoint) -> bool:
        return notes.is_signed_by_any(checkpoint, self._vkeys[checkpoint.origin])

    def _head_file(self, origin: str) -> Path:
        return self._state / f"head-{hashlib.sha256(origin.encode()).hexdigest()[:16]}.txt"

    def _remembered(self, origin: str) -> notes.Checkpoint | None:
        path = self._head_file(origin)
        if not path.exists():
            return None
        checkpoint = notes.parse_checkpoint(path.read_text(encoding="utf-8"))
        if checkpoint.origin != origin or not self._is_signed(checkpoint):
            raise ValueError(f"{path} is not a head of {origin} signed by a known key")
        return checkpoint


def load_key(state: Path, name: str) -> notes.SigningKey:
    """Read the witness's key from its directory; make both, readable by their owner only, if there is none."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / "witness.key"
    if not path.exists():
        made = notes.new_signing_key(name, notes.WITNESS_KEY).encode() + "\n"
        durable.write(path, made.encode(), mode=0o600)
    key = notes.decode_signing_key(path.read_text(encoding="utf-8").removesuffix("\n"))
    if key.verifier.name != name or key.verifier.algorithm != notes.WITNESS_KEY:
        raise ValueError(f"{path} is the key of {key.verifier.name}, not of {name}")
    return key


def _parse_request(body: bytes) -> tuple[int, list[bytes], str]:
    head, separator, note = body.decode().partition("\n\n")
    old, *proof = head.split("\n")
    size = old.removeprefix("old ")
    if not separator or not old.startswith("old ") or not strict.is_number(size):
        raise strict.Malformed("the request reads old size, proof lines, an empty line, checkpoint")
    if len(proof) > receipts.PROOF_HASHES_MAX:
        raise strict.Malformed("the proof has too many hashes")
    return int(size), [strict.decode_hash(line) for line in proof], note


def serve(witness: Witness, *, host: str, port: int) -> ThreadingHTTPServer:
    """Bind the witness's server (port 0 picks one); the caller runs `serve_forever`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "open-witness/1"
        sys_version = ""
        timeout = IDLE_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path != "/health":
                return self._send(Answer(HTTPStatus.NOT_FOUND, "POST /add-checkpoint, or GET /health\n"))
            vkey = witness.key.verifier.encode()
            state = {"status": "ok", "name": witness.key.verifier.name, "vkey": vkey, "logs": witness.sizes()}
            return self._send(Answer(HTTPStatus.OK, json.dumps(state) + "\n", "application/json"))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not strict.is_number(length) or int(length) > BODY_BYTES_MAX:
                # The body stays unread, so the connection cannot be used again.
                self.close_connection = True
                return self._send(
                    Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "send a Content-Length of 64 KiB at most\n")
                )
            body = self.rfile.read(int(length))
            if self.path != "/add-checkpoint":
                return self._send(Answer(HTTPStatus.NOT_FOUND, "POST /add-checkpoint, or GET /health\n"))
            return self._send(witness.add_checkpoint(body, now_s=int(time.time())))

        def _send(self, answer: Answer) -> None:
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Stay silent on success: a head every second would fill the disk with lines that say nothing."""
            if code != HTTPStatus.OK:
                super().log_request(code, size)

    return ThreadingHTTPServer((host, port), Handler)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` needs; the management command has the same options."""
    parser.add_argument("--state", type=Path, required=True, help="directory of the key and the last heads")
    parser.add_argument("--name", required=True, help="the witness's name, for example witness0.example")
    parser.add_argument("--print-vkey", action="store_true", help="print the public key and stop")
    parser.add_argument("--log-vkey", action="append", default=[], help="public keys of logs to watch; may be repeated")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="0 picks one")


def run(given: argparse.Namespace) -> None:
    """Print the key, or serve until interrupted. Raises ValueError if what serving needs was not given."""
    if given.print_vkey:
        print(load_key(given.state, given.name).verifier.encode())
        return
    log_vkeys = [vkey for listed in given.log_vkey for vkey in listed.split()]
    if given.port is None or not log_vkeys:
        raise ValueError("--port and --log-vkey are needed to serve; `manage.py keys init` prints the log's key")
    witness = Witness(state=given.state, name=given.name, log_vkeys=log_vkeys)
    server = serve(witness, host=given.host, port=given.port)
    print(f"witness {given.name} on {given.host}:{server.server_address[1]}", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a witness from the command line."""
    parser = argparse.ArgumentParser(prog="python -m ledger.witness", description=__doc__.split("\n")[0])
    add_arguments(parser)
    try:
        run(parser.parse_args(arguments))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
