"""A witness as a real process on loopback, asked by the client the log uses."""

import http.client
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ledger import merkle, notes, strict, witness

ROOT = Path(__file__).resolve().parents[2]
LOG = notes.new_signing_key("open.test/log", notes.LOG_KEY, b"l" * 32)
NAME = "w0.test"


class Log:
    """A log in memory that can be asked for heads and proofs."""

    def __init__(self, leaves):
        self.nodes = {}
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        self.nodes = {
            (level, index): digest for level, index, digest in merkle.positions(merkle.new_nodes(0, hashes, None))
        }

    def hash_at(self, level, index):
        return self.nodes[level, index]

    def head(self, size, key=LOG):
        text = notes.checkpoint_text(key.verifier.name, size, merkle.root(size, self.hash_at))
        return notes.sign_checkpoint(text, key)

    def proof(self, old_size, new_size):
        return merkle.consistency_proof(old_size, new_size, self.hash_at)


HONEST = Log([b"entry %d" % number for number in range(40)])
FORKED = Log([b"entry %d" % number for number in range(10)] + [b"rewritten %d" % number for number in range(30)])


class Running:
    """A witness process; `url` once it listens."""

    def __init__(self, state, *, log_vkey=None, name=NAME, port=0, command=("-m", "ledger.witness"), environment=None):
        options = ["--state", str(state), "--name", name, "--port", str(port)]
        if log_vkey != "":
            options += ["--log-vkey", log_vkey or LOG.verifier.encode()]
        self.process = subprocess.Popen(
            [sys.executable, *command, *options],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1]) if line else None
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self, signal_number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        self.process.wait(10)
        self.process.stdout.close()
        self.process.stderr.close()

    def cosign(self, log, old_size, new_size, **changes):
        proof, note = log.proof(old_size, new_size), log.head(new_size)
        return witness.cosign(self.url, old_size, changes.get("proof", proof), changes.get("note", note), 5)

    def post(self, body, path="/add-checkpoint", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer


@pytest.fixture
def running(tmp_path):
    process = Running(tmp_path / "w0")
    yield process
    process.stop()


def public_key(state):
    command = [sys.executable, "-m", "ledger.witness", "--state", str(state), "--name", NAME, "--print-vkey"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_a_growing_log_is_cosigned_and_the_cosignature_verifies(running, tmp_path):
    vkey = public_key(tmp_path / "w0")
    for old_size, new_size in [(0, 3), (3, 3), (3, 8), (8, 39)]:
        note = HONEST.head(new_size)
        lines = running.cosign(HONEST, old_size, new_size)
        cosigned = notes.parse_checkpoint(notes.add_cosignatures(note, lines, [vkey]))
        assert list(notes.cosigners(cosigned, [vkey])) == [NAME]


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    state = tmp_path / "w0"
    vkey = public_key(state)
    assert public_key(state) == vkey
    assert notes.decode_vkey(vkey).algorithm == notes.WITNESS_KEY
    assert stat.S_IMODE((state / "witness.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    with pytest.raises(ValueError):
        witness.load_key(state, "another.test")


def test_a_rewritten_history_is_never_cosigned(running):
    running.cosign(HONEST, 0, 20)

    with pytest.raises(witness.WitnessRefused) as refused:
        running.cosign(FORKED, 20, 30)
    assert refused.value.status == 422

    with pytest.raises(witness.WitnessConflict) as conflict:
        running.cosign(FORKED, 20, 20)
    assert conflict.value.size == 20

    running.cosign(HONEST, 20, 30)


def test_a_smaller_head_is_refused_with_the_size_the_witness_saw(running):
    running.cosign(HONEST, 0, 20)
    for old_size in (0, 5, 19):
        with pytest.raises(witness.WitnessConflict) as conflict:
            running.cosign(HONEST, old_size, 19)
        assert (conflict.value.size, conflict.value.status) == (20, 409)
    with pytest.raises(witness.WitnessConflict):
        running.cosign(HONEST, 0, 30)
    answer = running.post(f"old 0\n\n{HONEST.head(30)}".encode())
    assert answer.headers["Content-Type"] == "text/x.tlog.size"


def test_a_witness_killed_at_any_moment_still_refuses_a_rollback(tmp_path):
    first = Running(tmp_path / "w0")
    first.cosign(HONEST, 0, 20)
    first.stop(signal.SIGKILL)

    second = Running(tmp_path / "w0")
    try:
        with pytest.raises(witness.WitnessConflict) as conflict:
            second.cosign(HONEST, 0, 10)
        assert conflict.value.size == 20
        with pytest.raises(witness.WitnessRefused):
            second.cosign(FORKED, 20, 30)
        second.cosign(HONEST, 20, 40)
    finally:
        second.stop()


def test_two_processes_cannot_share_one_memory(running, tmp_path):
    second = Running(tmp_path / "w0")
    second.process.wait(10)
    assert second.process.returncode != 0
    second.stop()


def test_a_memory_that_no_known_key_signed_stops_the_witness(tmp_path):
    first = Running(tmp_path / "w0")
    first.cosign(HONEST, 0, 20)
    first.stop()
    stranger = notes.new_signing_key("open.test/log", notes.LOG_KEY).verifier.encode()
    second = Running(tmp_path / "w0", log_vkey=stranger)
    second.process.wait(10)
    assert second.process.returncode != 0
    second.stop()


def test_unknown_logs_and_keys_are_refused(running):
    stranger = notes.new_signing_key("open.test/log", notes.LOG_KEY)
    elsewhere = notes.new_signing_key("other.test/log", notes.LOG_KEY)
    for key, status in [(stranger, 403), (elsewhere, 404)]:
        with pytest.raises(witness.WitnessRefused) as refused:
            running.cosign(HONEST, 0, 4, note=HONEST.head(4, key))
        assert refused.value.status == status


def test_malformed_requests_are_refused_and_the_witness_lives_on(running):
    note = HONEST.head(4)
    for body in [
        b"",
        b"\xff\xfe",
        f"old 00\n\n{note}".encode(),
        f"old -1\n\n{note}".encode(),
        f"old 5\n\n{note}".encode(),
        f"new 0\n\n{note}".encode(),
        f"old 0\nYQ==\n\n{note}".encode(),
        f"old 0\n{note}".encode(),
        f"old 0\n\n{note}extra\n".encode(),
        ("old 0\n" + "A" * 43 + "=\n" * 70 + "\n" + note).encode(),
    ]:
        assert running.post(body).status == 400, body
    assert running.post(f"old 0\n{'A' * 43}=\n\n{note}".encode()).status == 422
    assert running.post(b"x", headers={"Content-Length": "99999999"}).status == 413
    assert running.post(b"x", headers={"Content-Length": "-1"}).status == 413
    assert running.post(b"x", path="/elsewhere").status == 404
    running.cosign(HONEST, 0, 4)


def test_racing_requests_move_the_head_one_way_only(running):
    running.cosign(HONEST, 0, 5)
    barrier, outcomes = threading.Barrier(8), []

    def ask(size):
        barrier.wait()
        try:
            running.cosign(HONEST, 5, size)
            outcomes.append(size)
        except witness.WitnessConflict:
            pass

    threads = [threading.Thread(target=ask, args=(size,)) for size in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    with pytest.raises(witness.WitnessConflict) as conflict:
        running.cosign(HONEST, 0, 40)
    assert conflict.value.size == outcomes[0]


def test_health_tells_name_key_and_sizes(running, tmp_path):
    running.cosign(HONEST, 0, 20)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection.request("GET", "/health")
    health = strict.parse_json(connection.getresponse().read())
    connection.close()
    assert health == {"status": "ok", "name": NAME, "vkey": public_key(tmp_path / "w0"), "logs": {"open.test/log": 20}}


def test_a_witness_that_is_gone_is_reported_as_such(tmp_path):
    process = Running(tmp_path / "w0")
    process.stop()
    with pytest.raises(witness.WitnessUnreachable):
        process.cosign(HONEST, 0, 5)
    with pytest.raises(ValueError):
        witness.cosign("ftp://w0.test", 0, [], HONEST.head(5))


def test_the_witness_needs_no_django():
    command = [sys.executable, "-c", "import sys, ledger.witness; sys.exit('django' in sys.modules)"]
    assert subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode == 0
