"""The sandbox: every hostile file has its outcome, and nothing gets out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Collection
from pathlib import Path

import pytest
from django.core import checks
from PIL import Image

from datanets import kinds, sandbox
from datanets.apps import sandbox_messages
from datanets.kinds import Limits, Refused
from tests.datanets import batches, hostile, hostile_more

NOTES = {"columns": [{"name": "note", "type": "text"}, {"name": "a", "type": "text"}, {"name": "b", "type": "integer"}]}
SCHEMAS = {"tabular": hostile.TABLE, "tabular_text": NOTES, "text": {}, "image": {}}


def parse(path, *, kind: str, name: str, **options) -> list[dict]:
    return list(sandbox.parse_file(path, kind=kind.split("_")[0], schema=SCHEMAS[kind], name=name, **options))


def outcome(path, *, kind: str, name: str) -> set[str]:
    """What became of a file: see hostile.py."""
    try:
        events = parse(path, kind=kind, name=name)
    except Refused as refused:
        assert refused.message
        assert "PermissionError" not in refused.message, "the sandbox refused its own parser something"
        return {refused.code}
    except (sandbox.SandboxTimeout, sandbox.SandboxMemory):
        return {"sandbox"}
    assert all(event["message"] for event in events if event["type"] == "problem")
    return {"ok" if event["type"] == "record" else event["code"] for event in events}


def test_there_are_enough_hostile_files():
    cases = [*hostile.CASES, *hostile_more.CASES]
    assert len({(name, kind) for name, kind, *_ in cases}) == len(cases) >= 200
    assert len(hostile_more.MORE) >= 25


@pytest.mark.parametrize(("name", "kind", "build", "expected"), hostile.CASES, ids=[case[0] for case in hostile.CASES])
def test_a_hostile_file_has_its_outcome_in_ten_seconds(tmp_path, name, kind, build, expected):
    path = tmp_path / "upload"
    path.write_bytes(build())
    started = time.monotonic()
    found = outcome(path, kind=kind, name=name)
    # The child has TIMEOUT_S; that it ends at all is what counts, on a busy machine with seconds to start and to stop.
    assert time.monotonic() - started < sandbox.TIMEOUT_S + 20
    assert is_expected(found, expected)


def is_expected(found: Collection[str], expected: set[str]) -> bool:
    """Where one outcome of several is right, they are all of the refusing sort: at least one, and none other."""
    several_refusals = len(expected) > 1 and "ok" not in expected
    return bool(found) and set(found) <= expected if several_refusals else set(found) == expected


def test_hostile_files_of_every_class_have_their_outcome_in_one_locked_process():
    contents = [(name, kind, build()) for name, kind, build, _ in hostile_more.CASES]
    assert len({content for _, _, content in contents}) == len(contents)

    told = batches.parse_all(contents, schemas=SCHEMAS)

    assert len(told) == len(contents), f"{contents[len(told)][0]} killed the process"
    wrong = {
        name: (sorted(each.codes), expected)
        for (name, _, _, expected), each in zip(hostile_more.CASES, told, strict=True)
        if not is_expected(each.codes, expected)
    }
    assert wrong == {}
    assert max(each.seconds for each in told) < 10
    assert told[-1].peak_mib < 512


@pytest.mark.parametrize("name", ["gps.jpg", "polyglot.png", "script_in_text_chunk.png"])
def test_an_accepted_picture_is_drawn_anew_without_what_it_carried(tmp_path, name):
    _, kind, build, _ = next(case for case in hostile.CASES if case[0] == name)
    path = tmp_path / "upload"
    path.write_bytes(build())
    (record,) = parse(path, kind=kind, name=name)
    for carried in (b"script", b"PK\x03\x04", b"Exif", b"secret", b"GPS"):
        assert carried not in record["media"]
    picture = Image.open(io.BytesIO(record["media"]))
    assert not picture.getexif()
    assert picture.size == (record["body"]["width"], record["body"]["height"])


def test_hostile_names_are_only_shown_never_used(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(hostile.PROSE)
    for name in [
        "../../../etc/passwd.txt",
        "<img src=x onerror=alert(1)>.txt",
        "a\u202etxt.exe\u202c.txt",
        "x" * 500 + ".txt",
    ]:
        (record,) = parse(path, kind="text", name=name)
        assert "/" not in record["name"]
        assert "\u202e" not in record["name"]
        assert len(record["name"]) <= 120


def test_the_line_of_each_broken_row_is_told_and_the_others_go_on(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b'a,b\n1,2\nx,3\n4\n"5,6\n7,8\n9,99\n')
    events = parse(path, kind="tabular", name="t.csv")
    assert [event["line"] for event in events if event["type"] == "record"] == [2, 6]
    assert [(event["line"], event["column"], event["reason"]) for event in events if event["type"] == "problem"] == [
        (3, "a", "schema.number"),
        (4, "", "schema.ragged"),
        (5, "", "schema.quote"),
        (7, "b", "schema.range"),
    ]


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "upload"
    with path.open("wb") as file:
        file.truncate(1024**4)  # who reads it is not done in a minute
    started = time.monotonic()
    with pytest.raises(Refused) as refused:
        parse(path, kind="text", name="large.txt")
    assert refused.value.code == "size"
    assert time.monotonic() - started < 20


def test_ten_thousand_rows_stream_with_their_positions(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"a,b\n" + b"".join(b"%d.5,%d\n" % (n, n % 10) for n in range(10_000)))
    events = parse(path, kind="tabular", name="t.csv")
    assert [event["position"] for event in events] == list(range(1, 10_001))


def test_a_child_that_needs_too_much_memory_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "RESIDENT_BYTES_MAX", 40 * 1024**2)
    picture = io.BytesIO()
    Image.effect_noise((5_000, 5_000), 50).save(picture, "PNG", compress_level=1)
    path = tmp_path / "upload"
    path.write_bytes(picture.getvalue())
    with pytest.raises(sandbox.SandboxMemory):
        parse(path, kind="image", name="large.png")


def test_forty_million_pixels_fit_into_the_memory_allowed(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (8_000, 5_000), "teal").save(picture, "JPEG")
    path = tmp_path / "upload"
    path.write_bytes(picture.getvalue())
    (record,) = parse(path, kind="image", name="large.jpg")
    assert record["body"]["width"] == 8_000


def test_a_child_that_does_not_end_is_killed(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 400_000)
    with pytest.raises(sandbox.SandboxTimeout):
        parse(path, kind="tabular", name="t.csv", timeout_s=0.3)
    assert children_of(os.getpid()) == []


def test_a_child_ends_with_the_worker_that_would_have_ended_it(tmp_path):
    # Given a worker in the middle of a file, and a child that will do nothing by itself any more
    path = tmp_path / "upload"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 200_000)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)],
        cwd=sandbox.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout.readline() == "began\n"
    (child,) = children_of(worker.pid)
    os.kill(child, signal.SIGSTOP)

    # When the worker dies without a word
    worker.kill()
    worker.wait()

    # Then the child is gone as well
    end = time.monotonic() + 20
    while lives(child) and time.monotonic() < end:
        time.sleep(0.05)
    try:
        assert not lives(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


WORKER = """
import sys
from datanets import sandbox

columns = {"columns": [{"name": "a", "type": "number"}, {"name": "b", "type": "number"}]}
events = sandbox.parse_file(sys.argv[1], kind="tabular", schema=columns, name="t.csv")
next(events)
print("began", flush=True)
sys.stdin.read()  # until it is killed
"""


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            command = stat.with_name("cmdline").read_bytes()
            if int(parent) == pid and state != "Z" and b"sandbox_child" in command:
                found.append(int(stat.parent.name))
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_caller_may_stop_in_the_middle(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 200_000)
    events = sandbox.parse_file(path, kind="tabular", schema=hostile.TABLE, name="t.csv")
    assert next(events)["position"] == 1
    events.close()


def test_no_temporary_folder_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "upload"
    path.write_bytes(hostile.bomb())
    outcome(path, kind="text", name="bomb.zip")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_limits_are_the_callers(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    with pytest.raises(Refused, match="more than 1 rows"):
        parse(path, kind="tabular", name="t.csv", limits=Limits(rows_max=1))


def test_many_modest_members_that_are_too_much_together_are_refused(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(hostile.zipped({f"{n}.txt": hostile.PROSE * 5 for n in range(20)}))
    with pytest.raises(Refused, match="expand to more than"):
        parse(path, kind="text", name="wide.zip", limits=Limits(expanded_bytes_max=5_000))


def test_the_protections_of_this_machine_are_told():
    active = sandbox.active_protections()
    assert active.keys() == {"resource_limits", "network_namespace", "landlock", "seccomp", "audit_hook"}
    assert active["resource_limits"] is True
    assert active["audit_hook"] is True


def test_the_command_check_says_which_protections_are_active():
    active = dict.fromkeys(sandbox.active_protections(), True)
    messages = sandbox_messages(active | {"landlock": False})
    assert [message.id for message in messages].count("datanets.I001") == len(active) - 1
    [missing] = [message for message in messages if message.id == "datanets.W001"]
    assert (missing.level, "Landlock" in missing.msg) == (checks.WARNING, True)


def test_the_command_check_asks_a_child_and_no_other_command_does(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["manage.py", "check"])
    messages = checks.run_checks(tags=["sandbox"])
    assert len(messages) == len(sandbox.active_protections())
    monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
    assert checks.run_checks(tags=["sandbox"]) == []


# Escapes. Each tries something a parser never needs and prints "escaped" if it worked.
ESCAPES = {
    "socket": "import socket; socket.socket()",
    "lookup": "import socket; socket.getaddrinfo('localhost', 80)",
    "subprocess": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "system": "import os; assert os.system('true') == 0",
    "exec": "import os; os.execv('/bin/echo', ['echo', 'escaped'])",
    "fork": "import os; os.fork() or os._exit(0)",
    "spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "fork_exec": "import _posixsubprocess, os; os.waitpid(os.fork(), 0)",
    "read_passwords": "open('/etc/passwd').read()",
    "read_passwords_low": "import os; os.read(os.open('/etc/passwd', os.O_RDONLY), 1)",
    "read_settings": "open(root + '/pyproject.toml').read()",
    "read_environment": "open('/proc/1/environ').read()",
    "list_home": "import os; os.listdir('/root')",
    "write_outside": "open(outside, 'w').write('x')",
    "append_outside": "import os; os.write(os.open(outside, os.O_WRONLY | os.O_APPEND), b'x')",
    "write_input": "open(given, 'w').write('x')",
    "write_library": "import os; open(os.path.dirname(os.__file__) + '/evil.py', 'w').write('x')",
    "delete_outside": "import os; os.unlink(outside)",
    "rename_outside": "import os; os.rename(outside, outside + '2')",
    "link_outside": "import os; os.symlink('/etc/passwd', folder + '/link'); open(folder + '/link').read()",
    "change_mode": "import os; os.chmod(outside, 0o777)",
    "native": "import ctypes; ctypes.CDLL(None).getpid()",
    "signal_parent": "import os; os.kill(os.getppid(), 0)",
}

PROBE = """
import sys
root, folder, given, outside = {root!r}, {folder!r}, {given!r}, {outside!r}
sys.path.insert(0, root)
from datanets import sandbox_child
{lock}
try:
    {code}
except (PermissionError, OSError, ImportError) as error:
    print("refused", type(error).__name__)
else:
    print("escaped")
"""

HOOK_ONLY = "sandbox_child.refuse_escapes(folder=folder, input_path=given)"
KERNEL_ONLY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
sandbox_child._restrict_files(libc, folder=folder, input_path=given)
sandbox_child._restrict_calls(libc)
"""


def probe(tmp_path, *, lock: str, code: str) -> str:
    """What a locked child prints when it tries to escape, in a process of its own."""
    folder, given, outside = tmp_path / "folder", tmp_path / "given", tmp_path / "outside"
    folder.mkdir()
    given.write_text("input")
    outside.write_text("untouched")
    places = {"root": str(sandbox.ROOT), "folder": str(folder), "given": str(given), "outside": str(outside)}
    program = PROBE.format(**places, lock=lock, code=code)
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return (
        done.stdout.strip().splitlines()[-1] if done.stdout.strip() else f"died {done.returncode} {done.stderr[-500:]}"
    )


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_audit_hook_alone_refuses_every_escape(tmp_path, escape):
    assert probe(tmp_path, lock=HOOK_ONLY, code=ESCAPES[escape]).startswith("refused")


@pytest.mark.parametrize("escape", ["socket", "subprocess", "fork", "read_passwords", "write_outside", "exec"])
def test_without_the_audit_hook_the_same_probe_escapes(tmp_path, escape):
    """The probes can fail: with nothing locked they get out, so the test above would notice a missing hook."""
    assert probe(tmp_path, lock="pass", code=ESCAPES[escape]) == "escaped"


@pytest.mark.parametrize(
    "escape", ["socket", "subprocess", "fork", "read_passwords", "write_outside", "exec", "delete_outside"]
)
def test_the_kernel_refuses_the_same_without_python(tmp_path, escape):
    active = sandbox.active_protections()
    if not (active["seccomp"] and active["landlock"]):
        pytest.skip("this kernel has no seccomp or Landlock for us")
    assert probe(tmp_path, lock=KERNEL_ONLY, code=ESCAPES[escape]).startswith("refused")


def test_the_audit_hook_lets_a_parser_do_its_work(tmp_path):
    code = "open(folder + '/media-1', 'w').write('x'); open(given).read(); import json.tool"
    assert probe(tmp_path, lock=HOOK_ONLY, code=code) == "escaped"


def test_the_child_sees_no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "canary-4711")
    path = tmp_path / "upload"
    path.write_bytes(hostile.PROSE)
    events = sandbox.parse_file(path, kind="text", schema={}, name="a.txt")
    next(events)
    assert "SECRET_KEY" not in sandbox._ENVIRONMENT
    events.close()


def test_every_sentence_of_a_problem_can_be_filled():
    from datanets.kinds.messages import SENTENCES

    for reason, sentence in SENTENCES.items():
        assert reason.count(".") == 1
        assert len(reason) <= 40
        assert json.dumps(sentence)


def test_a_zip_of_documents_gives_one_record_each(tmp_path):
    path = tmp_path / "upload"
    members = {
        "a.txt": hostile.PROSE,
        "b/c.md": b"# Title\n\nText of it.",
        "d.docx": hostile.word(),
        "e.pdf": hostile.pdf(),
    }
    members["rows.csv"] = b"text,label\none,x\ntwo,y\n"
    path.write_bytes(hostile.zipped(members, method=zipfile.ZIP_STORED))
    events = parse(path, kind="text", name="all.zip")
    assert [(event["name"], event["body"]["title"]) for event in events] == [
        ("a.txt", "A wren is a small brown bird. It sings loudly for its size."),
        ("c.md", "Title"),
        ("d.docx", "A wren sings."),
        ("e.pdf", "A wren sings."),
        ("rows.csv", "one"),
        ("rows.csv", "two"),
    ]
    assert [event["position"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert set(kinds.KINDS) == {"text", "tabular", "image"}
