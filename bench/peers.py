"""The virtual environment of the peers: made on first use, beside the benchmarks, never shipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(script: str, *arguments: str) -> str:
    """Run one of the peer scripts in the peers' environment; returns what it printed."""
    done = subprocess.run([str(_python()), str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{script} failed")
    return done.stdout.strip()


def _python() -> Path:
    folder = HERE / ".venv"
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    wanted = (HERE / "requirements.txt").read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")]
        subprocess.run(install, check=True)
        installed.write_text(wanted, encoding="utf-8")
    return python
