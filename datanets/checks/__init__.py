"""The checks. Each is a module shaped alike: NAME, VERSION, run(records, context) -> findings. Pure: no Django.

The first finding of a check stands for the whole submission; the others are about single records.
"""

from __future__ import annotations

from datanets.checks import (
    exact_copies,
    file_format,
    hidden_characters,
    image_quality,
    label_sanity,
    language,
    length_outliers,
    near_copies,
    personal_data,
    prompt_injection,
    secret_keys,
)
from datanets.checks.messages import ACTIONS, SENTENCES, TITLES, sentence
from datanets.checks.shapes import Checked, Context, Finding

_COPIES = [file_format, exact_copies, near_copies]
_WORDS = [personal_data, secret_keys, hidden_characters, prompt_injection]

# In the order in which they are shown; the quick ones first.
CHECKS_FOR = {
    "text": [*_COPIES, *_WORDS, length_outliers, label_sanity, language],
    "tabular": [*_COPIES, *_WORDS, label_sanity],
    "image": [*_COPIES, *_WORDS, image_quality, label_sanity],
}

__all__ = ["ACTIONS", "CHECKS_FOR", "SENTENCES", "TITLES", "Checked", "Context", "Finding", "sentence"]
