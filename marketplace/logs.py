"""The lines of the log: what goes wrong and where, without what somebody wrote, because no erasure reaches a log."""

from __future__ import annotations

import logging
import re

# PostgreSQL's detail quotes the row ("Key (username)=(...) already exists."), its LINE the statement, its context an input.
_QUOTED = re.compile(r"^[ |]*(?:DETAIL|CONTEXT|LINE \d+):.*?(?=\n\n(?:During|The above)|\Z)", re.MULTILINE | re.DOTALL)


class Line(logging.Formatter):
    """A line of the log and its traceback; what a database error quotes is left out."""

    def format(self, record: logging.LogRecord) -> str:
        return _QUOTED.sub("(what it quotes is left out)", super().format(record))
