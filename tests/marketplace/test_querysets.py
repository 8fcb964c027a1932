import pytest

from marketplace import querysets
from marketplace.models import Notification
from tests.datanets.cast import person


@pytest.mark.parametrize(
    "cursor", ["5~5", "x~y", "~", "2026-11-22T10:00:00~1", "9" * 40 + "~1", "2026-11-22T10:00:00+00:00~z"]
)
def test_a_cursor_of_another_list_shows_the_first_page(db, cursor):
    Notification.objects.create(user=person("alice"), kind="invited")

    assert len(querysets.page_by(Notification.objects.all(), "created_at", after=cursor).rows) == 1
    assert len(querysets.page_by(Notification.objects.all(), "created_at", before=cursor).rows) == 1
