"""What an engine answers, and the vector it answered from, small enough to be stored with every call."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answer:
    """One served answer.

    Args:
        outputs: JSON object for the caller: `{"label", "probabilities"}`, `{"value"}`, ...
        context: JSON object that, with the artifact, recomputes the attribution of this answer to the last bit.
            At most 3 kB for up to 260 arbitrary features, 550 single-precision ones (embeddings) or 2,200 pixels.
    """

    outputs: dict[str, Any]
    context: dict[str, Any]


def pack_vector(vector: np.ndarray) -> str:
    """A finite float64 vector as text, exactly: `unpack_vector` gives back the same bits.

    The shortest of three encodings is taken: bytes / 255 (pixels), float32 where nothing is lost (embeddings), float64.
    """
    vector = np.asarray(vector, dtype=np.float64)
    # A number too large for an encoding overflows in it, is not the same afterwards, and so rules the encoding out.
    with np.errstate(over="ignore", under="ignore"):
        levels = np.rint(vector * 255.0)
        single = vector.astype("<f4")
    if ((levels >= 0) & (levels <= 255)).all() and _same_bits(levels.astype("u1") / 255.0, vector):
        return "u1:" + _base64(levels.astype("u1"))
    if _same_bits(single.astype(np.float64), vector):
        return "f4:" + _base64(single)
    return "f8:" + _base64(vector.astype("<f8"))


def unpack_vector(text: str) -> np.ndarray:
    """The vector that `pack_vector` packed, float64.

    Raises:
        ValueError: the text is not such a vector.
    """
    code, _, body = text.partition(":")
    if code not in ("u1", "f4", "f8"):
        raise ValueError(f"Unknown vector encoding {code[:8]!r}.")
    raw = base64.b64decode(body, validate=True)
    if code == "u1":
        return np.frombuffer(raw, dtype="u1") / 255.0
    return np.frombuffer(raw, dtype=f"<{code}").astype(np.float64)


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    # Bits and not values, because -0.0 == 0.0.
    return one.tobytes() == other.tobytes()


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
