"""The kinds of data. Each is a module shaped alike: ACCEPTS, FIELDS, parse, canonical, preview.

A new kind is one module and one line here, plus its checks (datanets.checks.CHECKS_FOR) and its signature
(datanets.leaders). Pure: no Django, no database.
"""

from __future__ import annotations

from datanets.kinds import image, tabular, text
from datanets.kinds.shapes import Limits, Parsed, Problem, Refused

KINDS = {"text": text, "tabular": tabular, "image": image}

__all__ = ["KINDS", "Limits", "Parsed", "Problem", "Refused"]
