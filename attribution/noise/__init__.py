"""Rows that are atypical and useless, found by what they add to the model: pure science, no money, no people.

`judge` says which blocks of new rows nothing speaks for. That is evidence for people to look at, not a sentence.
"""

from .judgement import (
    BLOCK_ROWS,
    BLOCK_ROWS_MIN,
    INCUMBENTS_MIN,
    METHOD,
    PARAMETERS_MAX,
    VALIDATION_MIN,
    Block,
    Judgement,
    Refused,
    Task,
    judge,
)

__all__ = [
    "BLOCK_ROWS",
    "BLOCK_ROWS_MIN",
    "INCUMBENTS_MIN",
    "METHOD",
    "PARAMETERS_MAX",
    "VALIDATION_MIN",
    "Block",
    "Judgement",
    "Refused",
    "Task",
    "judge",
]
