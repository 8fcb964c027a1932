from datanets import reviews
from datanets.models import Record
from marketplace import notifications
from marketplace.models import Notification
from tests.datanets.cast import make_datanet, measured, person, send, table


def test_a_contributor_hears_once_that_their_submission_is_decided(db):
    # Given Alice's submission, which Carol approves
    datanet = make_datanet()
    send(datanet, table(measured(5)), by="alice")
    reviews.decide(Record.objects.all(), curator=person("carol"), decision="approve")

    # When news is told, twice
    first, second = notifications.tell_news(), notifications.tell_news()

    # Then one line is in her inbox, and it leads to the submission
    line = Notification.objects.get(user=person("alice"))
    assert (first, second) == (1, 0)
    assert (line.kind, line.params["approved"]) == ("submission_decided", 5)
    assert line.url.startswith("/")


def test_a_contributor_hears_that_rows_wait_for_them(db):
    send(make_datanet(), table([*measured(5), ("x", "1", "benign")]), by="alice")

    notifications.tell_news()

    assert Notification.objects.get(user=person("alice")).kind == "submission_needs_you"


def test_a_draft_that_was_not_sent_is_no_news(db):
    notifications.tell_news()

    assert not Notification.objects.exists()
