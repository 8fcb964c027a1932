"""Inside the virtual environment: `python -m devstack up | down | manage | test | check`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from devstack import control
from devstack.environment import ROOT, state_folder

DESCRIPTION = "OpenLedger on this machine: database, queue, models, site and gateway with one command."


def main() -> int:
    arguments = sys.argv[1:] or ["up"]
    if arguments[0] == "test":
        from devstack import testing

        return testing.run(arguments[1:])
    if arguments[0] == "check":
        from devstack import checking

        return checking.run(arguments[1:])
    options = _parser().parse_args(arguments[:1] + _state_first(arguments[1:]))
    state = state_folder(options.state)
    if options.command == "manage":
        return _manage(options)
    if options.command == "down":
        return control.stop_running(state)
    from devstack import supervisor

    site = supervisor.Site(state, web_port=options.port, gateway_port=options.gateway_port, demo=not options.no_demo)
    return supervisor.run(site)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and stay in the foreground")
    up.add_argument("--port", type=int, help="of the site (8000)")
    up.add_argument("--gateway-port", type=int, help="of the API (8001)")
    up.add_argument("--no-demo", action="store_true", help="start empty")
    down = commands.add_parser("down", help="stop a running `up`")
    manage = commands.add_parser("manage", help="run a Django command against the running site")
    for command in (up, down, manage):
        command.add_argument("--state", metavar="DIR", help="folder of the site's data (or DEVSTACK_STATE)")
    manage.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS")
    commands.add_parser("test", help="run the tests; arguments go to pytest")
    commands.add_parser("check", help="lint, types and contracts; arguments choose steps")
    return parser


def _state_first(arguments: list[str]) -> list[str]:
    """Move `--state DIR` to the front: after `manage` the rest of the line is Django's."""
    for place, argument in enumerate(arguments):
        if argument == "--state" or argument.startswith("--state="):
            width = 2 if argument == "--state" else 1
            return arguments[place : place + width] + arguments[:place] + arguments[place + width :]
    return arguments


def _manage(options: argparse.Namespace) -> int:
    """Run Django's command line with the environment of the running site."""
    state = state_folder(options.state)
    if control.running_pid(state) is None:
        print(
            f"devstack: no site runs in {state}. Start one with `python3 dev.py up`, or name its --state.",
            file=sys.stderr,
        )
        return 1
    site = json.loads((state / "environment.json").read_text())
    command = [sys.executable, "manage.py", *options.arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | site).returncode


if __name__ == "__main__":
    sys.exit(main())
