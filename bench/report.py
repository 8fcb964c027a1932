"""Where benchmarks keep their figures: one section per part in docs/benchmarks.md, replaced when the part runs again."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

What `bench/` printed last, part by part; `bench/<name>.py` says how to repeat it. Medians; the spread is the least and the
largest. A target's first figure must hold, the second is the goal.
"""


def write(title: str, rows: Sequence[tuple[str, str, str]], *, versions: Sequence[str]) -> None:
    """Replace or append the section `title`: rows of (what, figure, target), and on which machine and versions."""
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else HEAD
    lines = [
        f"## {title}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}; {', '.join(map(_version, versions))}.",
        "",
    ]
    lines += ["| what | figure | target |", "|---|---|---|"]
    lines += [f"| {' | '.join(part.replace('|', '/') for part in row)} |" for row in rows]
    section = "\n".join(lines) + "\n"
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, flags=re.M | re.S)
    text = text.replace(found[0], section + "\n") if found else f"{text.rstrip()}\n\n{section}"
    FILE.write_text(text.rstrip() + "\n", encoding="utf-8")


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory_gib:.0f} GiB, Python {platform.python_version()}"


def _version(name: str) -> str:
    return f"{name} {metadata.version(name)}"
