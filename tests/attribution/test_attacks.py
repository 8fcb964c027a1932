"""What attacks gain: exactly nothing by copies, and what was measured of the others is told wherever a model is."""

from __future__ import annotations

import numpy as np
import pytest
from django.utils import translation

from attribution import attacked
from attribution.engines import linear, neighbours, retrieval
from bench.attack_data import Tumours
from bench.attack_kinds import ATTACKS, drawn
from bench.attack_market import Market
from bench.attack_replay import replay
from bench.attacks import Field
from tests.marketplace.pages.world import small_shop


@pytest.fixture(scope="module")
def field() -> Field:
    """Twenty contributors with eighteen tumours each, and buyers who ask about sixty others."""
    return Field(Market(Tumours(0), "neighbours"), seed=0, l2=None)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.is_exact])
def test_copies_sybils_and_theft_gain_exactly_nothing(field, name):
    for number in range(2):
        choice = drawn(ATTACKS[name].space, np.random.default_rng(number))

        assert field.gains(name, choice, number=number) == (1.0, 1.0)


def test_rows_that_are_changed_beyond_the_copy_test_lead_and_their_gain_is_measured(field):
    choice = {"times": 3, "source": "own", "short": False, "strength": 0.3}

    equal, lognormal = field.gains("heavy", choice, number=0)

    assert equal != 1 and lognormal != 1


class FewTumours(Tumours):
    contributors, rows_each = 6, 10


def test_an_attack_through_the_services_pays_what_the_arithmetic_says_to_the_nano(books, settings):
    settings.REVIEW_UNDO_S = 0
    choice = {"times": 3, "source": "own", "short": False, "strength": 0.3}

    found = replay(books, Market(FewTumours(0), "linear"), "collusion", choice, questions=4)

    assert (found.before, found.after) == (found.computed_before, found.computed_after)
    assert found.after != found.before > 0


def test_each_attack_that_was_measured_has_a_name_in_both_languages():
    for method in (linear.METHOD, neighbours.METHOD):
        english = attacked.measured(method)
        with translation.override("fr"):
            french = attacked.measured(method)
        assert english.contributors == 20
        for told, dit in zip(english.attacks, french.attacks, strict=True):
            assert told.name != dit.name and told.name != told.code
            assert all(one.equal.low <= one.equal.mean <= one.equal.high for one in told.sets)
    assert attacked.measured(retrieval.METHOD) is None


def test_what_ships_says_that_copies_sybils_and_theft_gained_exactly_nothing():
    for method in (linear.METHOD, neighbours.METHOD):
        for attack in attacked.measured(method).attacks:
            if ATTACKS[attack.code].is_exact:
                assert {figure for one in attack.sets for gain in (one.equal, one.lognormal) for figure in gain} == {
                    1.0
                }


def test_a_models_page_and_its_api_tell_what_attacks_on_its_method_gain(books, client, settings):
    settings.REVIEW_UNDO_S = 0
    version = small_shop(books)
    measured = attacked.measured(linear.METHOD)

    page = client.get(f"/en/models/{version.model.path}/").content.decode()
    [told] = client.get(f"/api/v1/models/{version.model.path}/versions/").json()["results"]

    assert "What attacks gain" in page and str(measured.attacks[0].name) in page
    assert told["attacks"] == measured.as_json()
