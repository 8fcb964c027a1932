"""The one system library that a wheel expects and a minimal system lacks.

xllamacpp is linked to `libgomp.so.1`. Other wheels bundle a copy under a name of their own; a link of the expected
name in a folder of LD_LIBRARY_PATH lets it be found without a system package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from devstack.machine import Missing, package_folder

EXPECTED = "libgomp.so.1"


def environment() -> dict[str, str]:
    """What a process needs to load xllamacpp: nothing where the system has the library."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(EXPECTED)
        return {}
    folder = Path(sys.prefix) / "lib" / "native"
    link_into(folder)
    known = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{folder}:{known}" if known else str(folder)}


def link_into(folder: Path) -> None:
    """Link scikit-learn's bundled copy as `folder/libgomp.so.1`.

    Raises:
        Missing: there is no bundled copy either.
    """
    package = package_folder("sklearn")
    bundled = sorted(package.with_name("scikit_learn.libs").glob("libgomp*.so*")) if package else []
    if not bundled:
        raise Missing("The library libgomp.so.1 is missing. On Debian or Ubuntu: apt-get install libgomp1")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{EXPECTED}.{os.getpid()}"
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(bundled[0])
    unfinished.replace(folder / EXPECTED)


if __name__ == "__main__":
    link_into(Path(sys.argv[1]))
