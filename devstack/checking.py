"""`dev.py check`: what a machine can judge about the sources. One line per step, with its seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from devstack.environment import ROOT, without_servers

APPS = ("accounts", "ledger", "datanets", "attribution", "marketplace", "modelserver")
# High severity only: the lower ones are ruff's S rules too, and there each exception gives its reason in the source.
BANDIT = ("-m", "bandit", "-q", "-c", "pyproject.toml", "-lll")
BIN = Path(sys.executable).parent


def steps() -> list[tuple[str, list[str], dict[str, str]]]:
    """Each step: name, command, additional environment."""
    python = [sys.executable]
    apps = [app for app in APPS if (ROOT / app).is_dir()]
    production = {"SITE_URL": "https://market.example", "GATEWAY_URL": "https://market.example", "DEMO_STATE": "0"}
    production |= {"ALLOWED_HOSTS": "market.example"}
    # what the kernel of this machine does not give the sandbox says nothing about the sources
    production |= {"SILENCED_SYSTEM_CHECKS": "datanets.W001"}
    return [
        ("ruff", [*python, "-m", "ruff", "check", "."], {}),
        ("format", [*python, "-m", "ruff", "format", "--check", "--quiet", "."], {}),
        ("types", [*python, "-m", "mypy", *apps, "devstack", "dev.py"], {}),
        ("imports", [str(BIN / "lint-imports"), "--no-cache"], {}),
        ("migrations", [*python, "-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run"], {}),
        ("deploy", [*python, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], production),
        ("bandit", [*python, *BANDIT, "-r", *apps, "devstack"], {}),
        ("templates", [*python, "-m", "djlint", "templates", "--lint", "--quiet"], {}),
        (
            "compose schema",
            [*python, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
            {},
        ),
        ("compose lint", [str(BIN / "compose-lint"), "docker-compose.yml"], {}),
        ("Dockerfile", [str(BIN / "hadolint"), "Dockerfile"], {}),
    ]


def run(arguments: list[str]) -> int:
    """Run all steps, or those whose names are given; returns 0 if every one passed."""
    chosen = [step for step in steps() if not arguments or step[0] in arguments]
    if not chosen:
        print("There is no such step. Steps: " + ", ".join(step[0] for step in steps()), file=sys.stderr)
        return 2
    failed = []
    with tempfile.TemporaryDirectory(prefix="openledger-check-") as folder:
        for name, command, additional in chosen:
            started = time.monotonic()
            environment = os.environ | without_servers(Path(folder)) | additional
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            verdict = "passed" if done.returncode == 0 else "FAILED"
            print(f"{name:<15} {verdict}  {time.monotonic() - started:5.1f} s", flush=True)
            if done.returncode:
                failed.append(name)
                print((done.stdout + done.stderr).strip()[-6000:], flush=True)
    print(
        f"check: {len(chosen) - len(failed)} of {len(chosen)} steps passed"
        + "".join(f", {name} failed" for name in failed)
    )
    return 1 if failed else 0
