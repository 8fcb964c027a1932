"""The child half of datanets.sandbox: give up every right, then parse one file.

Runs as `python -I`, with one argument: its temporary folder, which holds job.json. Imports nothing it does not need.
"""

from __future__ import annotations

import ctypes
import encodings
import importlib
import json
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from pathlib import Path

from datanets import kinds
from datanets.kinds.shapes import Limits, Parsed, Problem, Refused

OPEN_FILES_MAX = 64
FILE_BYTES_MAX = 512 * 1024 * 1024

_REFUSED_EVENTS = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.startfile",
    "os.kill",
    "os.setxattr",
    "os.removexattr",
    "os.putenv",
    "os.unsetenv",
    "pty.",
    "ctypes.",
    "signal.pthread_kill",
    "sys.addaudithook",
    "sys.setprofile",
    "sys.settrace",
    "sys._current_frames",
    "gc.get_objects",
    "gc.get_referrers",
    "gc.get_referents",
    "code.__new__",
    "function.__new__",
    "resource.setrlimit",
    "resource.prlimit",
    "syslog.",
    "webbrowser.",
    "urllib.",
    "http.client.",
    "ftplib.",
    "smtplib.",
    "ensurepip.",
    "sqlite3.",
    "fcntl.",
    "pickle.find_class",
)
_PICTURES = ("PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.WebPImagePlugin", "PIL.ImageOps")
_PDF = ("pypdf", "pypdf.filters", "pypdf._crypt_providers")
_READERS = {
    ".pdf": _PDF,
    ".docx": ("docx",),
    ".parquet": ("pyarrow.parquet",),
    ".zip": (*_PDF, "docx", *_PICTURES),
    ".png": _PICTURES,
    ".jpg": _PICTURES,
    ".jpeg": _PICTURES,
    ".webp": _PICTURES,
}
_NEEDLESS_MODULES = frozenset({"_posixsubprocess", "_socket", "_ctypes", "_multiprocessing", "ftplib", "smtplib"})
# Events whose first (and, for these, second) arguments are paths to be changed.
_WRITES = frozenset(
    {
        "os.remove", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "os.chown",
        "os.truncate", "os.utime", "os.chflags", "os.lchflags", "os.lockf", "os.mkfifo", "os.mknod", "shutil.move",
        "shutil.rmtree", "shutil.copyfile", "shutil.copytree", "shutil.chown", "shutil.copymode", "shutil.copystat",
        "shutil.make_archive", "shutil.unpack_archive", "tempfile.mkstemp", "tempfile.mkdtemp",
    }
)  # fmt: skip
_READS = frozenset({"os.listdir", "os.scandir", "os.chdir", "os.getxattr", "os.listxattr", "os.walk", "os.fwalk"})


def main() -> None:
    """Lock down, parse, and say so on standard output. Ends with {"type": "done"}."""
    folder = sys.argv[1]
    _end_with_parent(int(sys.argv[2]))
    job = json.loads(Path(folder, "job.json").read_text(encoding="utf-8"))
    say = _Speaker(sys.stdout.buffer)
    _load_readers(job.get("name", ""))
    active = lock_down(
        folder=folder, input_path=job["path"], cpu_s=job["cpu_s"], address_space_bytes=job["address_space_bytes"]
    )
    if job.get("probe"):
        say.event({"type": "protections", "protections": active})
        say.event({"type": "done"})
        return
    limits = Limits(**job["limits"])
    try:
        _parse(job, folder=folder, limits=limits, say=say)
    except Refused as refused:
        say.refused(refused)
    except MemoryError:
        say.refused(Refused("size", "size.memory"))
    except RecursionError:
        say.refused(Refused("content", "content.broken", {"detail": "RecursionError"}))
    say.event({"type": "done"})


def _end_with_parent(parent: int) -> None:
    """Die when the worker does: it cannot end us any more, and we would go on for as long as the limits let us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before
            os._exit(1)


def lock_down(*, folder: str, input_path: str, cpu_s: int, address_space_bytes: int) -> dict[str, bool]:
    """Give up, in this order: resources, network, system calls, files, and what Python can ask for.

    Returns which layers are active. Nothing is taken back: every one of them holds until the process ends.
    """
    active = {"resource_limits": _limit_resources(cpu_s=cpu_s, address_space_bytes=address_space_bytes)}
    libc = ctypes.CDLL(None, use_errno=True)
    active["network_namespace"] = _leave_network(libc)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: needed by the next two
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    active["landlock"] = _restrict_files(libc, folder=folder, input_path=input_path)
    active["seccomp"] = _restrict_calls(libc)
    active["audit_hook"] = refuse_escapes(folder=folder, input_path=input_path)
    return active


def refuse_escapes(*, folder: str, input_path: str) -> bool:
    """Install the audit hook: PermissionError for sockets, processes, native calls, and files that are not ours.

    Allowed are the temporary folder, the one input file (to be read), and reading Python's own library.
    """
    home = os.path.realpath(folder)
    given = os.path.realpath(input_path)
    package = os.path.dirname(os.path.realpath(__file__))
    library = tuple(
        os.path.realpath(sysconfig.get_path(each)) for each in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    realpath, fspath, separator = os.path.realpath, os.fsdecode, os.sep

    def inside(path: str, *roots: str) -> bool:
        return any(path == root or path.startswith(root + separator) for root in roots)

    def may_read(path: str) -> bool:
        code = inside(path, package) and path.endswith((".py", ".pyc"))
        return inside(path, home) or path in (given, package) or inside(path, *library) or code

    def watch(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, int) or path is None:
                return  # a descriptor that is open already
            real = realpath(fspath(path))
            writes = bool((flags or 0) & writing) or (isinstance(mode, str) and any(c in mode for c in "wax+"))
            if inside(real, home) or (not writes and may_read(real)):
                return
        elif event in _WRITES:
            paths = [each for each in arguments[:2] if isinstance(each, (str, bytes, os.PathLike))]
            if all(inside(realpath(fspath(each)), home) for each in paths):
                return
        elif event in _READS:
            path = arguments[0] if arguments else None
            if isinstance(path, (str, bytes)) and (may_read(realpath(fspath(path))) or _is_library_root(path)):
                return
        elif event == "import":
            if arguments[0] not in _NEEDLESS_MODULES:
                return
        elif not event.startswith(_REFUSED_EVENTS):
            return
        raise PermissionError(f"refused in the sandbox: {event}")

    def _is_library_root(path: str | bytes) -> bool:
        return any(realpath(fspath(path)) == realpath(each) for each in list(sys.path))

    sys.addaudithook(watch)
    return True


def _load_readers(name: str) -> None:
    """Import before the lock what reads this file: libraries look around when they start (and may load ctypes)."""
    encodings.search_function("cp437")
    for module in _READERS.get(os.path.splitext(name)[1].lower(), ()):
        importlib.import_module(module)


def _parse(job: dict, *, folder: str, limits: Limits, say: _Speaker) -> None:
    events = kinds.KINDS[job["kind"]].parse(job["path"], schema=job["schema"], limits=limits, name=job["name"])
    problems = pictures = 0
    for event in events:
        if isinstance(event, Problem):
            problems += 1
            if problems > limits.problems_max:
                say.problem(Problem(event.line, "schema", "problems.many", {"limit": limits.problems_max}))
                return
            say.problem(event)
            continue
        name = None
        if event.media is not None:
            pictures += 1
            name = f"media-{pictures}"
            Path(folder, name).write_bytes(event.media)
        say.record(event, media_name=name)


class _Speaker:
    """Events as JSON lines. The pipe is all the child has."""

    def __init__(self, out):
        self._out = out

    def event(self, event: dict) -> None:
        self._out.write(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._out.flush()

    def record(self, parsed: Parsed, *, media_name: str | None) -> None:
        told = {"line": parsed.line, "name": parsed.name, "body": parsed.body}
        self.event({"type": "record", **told, "media_name": media_name, "media_type": parsed.media_type})

    def problem(self, problem: Problem) -> None:
        told: dict = {"line": problem.line, "column": problem.column, "name": problem.name, "code": problem.code}
        told |= {"reason": problem.reason, "params": problem.params, "values": problem.values}
        self.event({"type": "problem", **told})

    def refused(self, refused: Refused) -> None:
        told = {"code": refused.code, "reason": refused.reason, "params": refused.params, "line": refused.line}
        self.event({"type": "refused", **told})


def _limit_resources(*, cpu_s: int, address_space_bytes: int) -> bool:
    for what, limit in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_FSIZE, FILE_BYTES_MAX),
        (resource.RLIMIT_NOFILE, OPEN_FILES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    return True


def _leave_network(libc: ctypes.CDLL) -> bool:
    """An empty network namespace: directly with the right to, else inside a user namespace of our own."""
    newnet, newuser = 0x40000000, 0x10000000
    return libc.unshare(newnet) == 0 or libc.unshare(newuser | newnet) == 0


# seccomp: numbers of the calls that nothing here needs, per machine. Everything else is allowed; the point is that a
# decoder that has been taken over can reach neither network nor a new program.
_CALLS = {
    "x86_64": (
        0xC000003E,
        56,
        435,
        (41, 42, 43, 44, 46, 49, 50, 53, 57, 58, 59, 62, 101, 155, 161, 165, 166, 169, 175, 176, 246, 248, 249, 250,
         272, 288, 298, 304, 307, 308, 310, 311, 313, 321, 322, 323, 424, 425, 426, 427, 434, 438),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        435,
        (198, 199, 200, 201, 202, 203, 206, 211, 221, 242, 281, 117, 129, 40, 39, 41, 51, 97, 104, 105, 106, 142, 217,
         218, 219, 241, 265, 268, 269, 270, 271, 273, 280, 282, 424, 425, 426, 427, 434, 438),
    ),
}  # fmt: skip


def _restrict_calls(libc: ctypes.CDLL) -> bool:
    if platform.machine() not in _CALLS or sys.byteorder != "little":
        return False
    arch, clone, clone3, refused = _CALLS[platform.machine()]
    load, equal, answer, mask = 0x20, 0x15, 0x06, 0x45
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000
    program = [(load, 0, 0, 4), (equal, 1, 0, arch), (answer, 0, 0, kill), (load, 0, 0, 0)]
    # the x32 calls of x86_64 have this bit; ENOSYS (38) makes libc fall back from clone3, whose flags cannot be seen
    program += [(0x35, 0, 1, 0x40000000), (answer, 0, 0, refuse | 1)]
    program += [(equal, 0, 1, clone3), (answer, 0, 0, refuse | 38)]
    for number in sorted(set(refused)):
        program += [(equal, 0, 1, number), (answer, 0, 0, refuse | 1)]
    # a thread (CLONE_THREAD) is fine, a process is not
    program += [(equal, 0, 3, clone), (load, 0, 0, 16), (mask, 1, 0, 0x00010000), (answer, 0, 0, refuse | 1)]
    program += [(answer, 0, 0, allow)]
    code = b"".join(struct.pack("<HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]  # noqa: RUF012

    described = Program(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    return libc.prctl(22, 2, ctypes.byref(described), 0, 0) == 0


def _restrict_files(libc: ctypes.CDLL, *, folder: str, input_path: str) -> bool:
    """Landlock: write below the folder; read there, the input, and where programs and libraries lie. Nothing else."""
    create, add, restrict = 444, 445, 446
    if libc.syscall(create, None, ctypes.c_size_t(0), 1) < 1:
        return False
    execute, write, read, listing = 1, 2, 4, 8
    handled = (1 << 13) - 1  # every right of the first version of the interface
    ruleset = libc.syscall(create, ctypes.byref(ctypes.c_uint64(handled)), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    paths = [(folder, handled & ~execute), (input_path, read)]
    for each in {
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        "/usr/lib",
        "/lib",
        "/lib64",
    }:
        paths.append((each, read | listing | execute))
    paths.append((os.path.dirname(os.path.realpath(__file__)), read | listing))
    paths.append(("/dev/null", read | write))
    paths.append(("/dev/urandom", read))
    for path, rights in paths:
        if os.path.exists(path):
            _allow_below(libc, add, ruleset, path=path, rights=rights if os.path.isdir(path) else rights & 7)
    done = libc.syscall(restrict, ruleset, 0) == 0
    os.close(ruleset)
    return done


def _allow_below(libc: ctypes.CDLL, call: int, ruleset: int, *, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what we cannot open we need no right to
    rule = ctypes.create_string_buffer(struct.pack("<Qi", rights, parent), 12)
    libc.syscall(call, ruleset, 1, rule, 0)
    os.close(parent)
