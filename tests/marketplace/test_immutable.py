"""Price lists, split rules, terms of models and the audit log stay as they were written: by privilege, and by trigger for everybody else."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest
from django.conf import settings
from django.db import connection

from marketplace import privileges, training
from tests.datanets.cast import make_datanet
from tests.shop import make_model, person

CHANGES = {
    "marketplace_pricelist": "price_call_nano = price_call_nano + 1",
    "marketplace_splitrule": "name = name || '!'",
    "marketplace_modelterms": "access_mode = 'invite'",
    "marketplace_auditevent": "target = 'nothing'",
}


@pytest.fixture(scope="module")
def kept(books_of_module):
    """A row in each: a model with its price and rule, and the memory of who set a fee."""
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    make_model()
    training.set_fee(make_datanet(), by=person("erin"), training_fee_nano=1)
    return books_of_module


@pytest.mark.parametrize(
    ("role", "refused"),
    [("DATABASE_APP_URL", "42501"), ("DATABASE_OWNER_URL", "MP001"), ("DATABASE_SUPERUSER_URL", "MP001")],
)
@pytest.mark.parametrize("table", CHANGES)
def test_what_was_agreed_or_remembered_is_never_changed(kept, table, role, refused):
    acts = [f"UPDATE {table} SET {CHANGES[table]}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"]
    with closing(kept.connect(role)) as session, session.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        assert cursor.fetchone()[0] > 0
        for act in acts:
            with pytest.raises(psycopg2.Error) as said:
                cursor.execute(act)
            assert said.value.pgcode == refused, act
            session.rollback()
