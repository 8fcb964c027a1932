"""UUIDv7: made once, in Python, with the business row that causes a posting, and stored there.

Pure. The first 48 bits are milliseconds, so neighbours in time are neighbours in the index; the rest is random.
Source: RFC 9562, section 5.7.
"""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> UUID:
    """Return a fresh UUIDv7."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return UUID(int=value)
