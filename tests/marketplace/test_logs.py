"""What the site writes into its log of a database error: which rule, and where; nothing of the row."""

import logging
import subprocess
import sys

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from accounts.models import User
from tests.processes import ROOT

logger = logging.getLogger("marketplace.tests")
WORDS = ("kanari", "of-two-lines")  # in values only: a traceback shows the lines of the program


@pytest.fixture
def written(caplog):
    """As the site writes it: with the formatter of its own handler."""
    [console] = [one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler]
    caplog.handler.setFormatter(console.formatter)
    return caplog


def test_a_line_about_a_refused_row_names_the_rule_and_quotes_nothing(db, written):
    with pytest.raises(IntegrityError), transaction.atomic():
        try:
            User.objects.create_user(username="\n".join(WORDS), email=f"{WORDS[0]}@example.org")
        except IntegrityError as error:
            logger.exception("refused")
            logger.error("refused: %s", error)
            raise
    with pytest.raises(DataError), transaction.atomic(), connection.cursor() as cursor:
        try:
            cursor.execute("SELECT json_array_elements(%s::json)", [f'{{"{WORDS[0]}": '])
        except DataError:
            logger.exception("refused")
            raise

    assert "user_handle_is_url_safe" in written.text and "Traceback" in written.text
    assert "The above exception was the direct cause" in written.text
    assert [word for word in WORDS if word in written.text] == []


def test_a_worker_writes_the_lines_of_the_site():
    """Celery would put its own handler in the place of the site's."""
    program = (
        "import django, logging; django.setup(); from marketplace.celery import app;"
        "app.log.setup_logging_subsystem(loglevel='WARNING');"
        "print([type(one.formatter).__name__ for one in logging.getLogger().handlers])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "['Line']\n", done.stderr
