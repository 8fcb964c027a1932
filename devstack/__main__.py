"""Inside the virtual environment: `python -m devstack up | down | manage | test | check`."""

from __future__ import annotations

import sys


def main() -> int:
    command, *arguments = sys.argv[1:] or ["up"]
    if command == "test":
        from devstack import testing

        return testing.run(arguments)
    print(f"devstack: there is no command {command}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
