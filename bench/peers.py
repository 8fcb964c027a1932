"""The virtual environments of the peers: made on first use, beside the benchmarks, never shipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(script: str, *arguments: str, name: str = "") -> str:
    """Run one of the peer scripts in the peers' environment (`name`: in one of its own); returns what it printed."""
    suffix = f"-{name}" if name else ""
    python = _made(HERE / f".venv{suffix}", HERE / f"requirements{suffix}.txt")
    done = subprocess.run([str(python), str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{script} failed")
    return done.stdout.strip()


def litellm() -> Path:
    """The Python of LiteLLM's environment: a hundred packages, so every one is checked against its hash."""
    pinned = HERE / "requirements-litellm.txt"
    return _made(HERE / ".venv-litellm", pinned, "--require-hashes", "--only-binary", ":all:")


def _made(folder: Path, requirements: Path, *options: str) -> Path:
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    wanted = requirements.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *options, "-r", str(requirements)], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return python
