"""One world per module; what a test does to it through `acting` is taken back."""

from __future__ import annotations

import pytest
from django.conf import settings

from tests.api import world as worlds


@pytest.fixture(scope="module")
def world(books_of_module):
    before = (settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S)
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    built = worlds.build(books_of_module)
    settings.REVIEW_UNDO_S = 600
    yield built
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = before
