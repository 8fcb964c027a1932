import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace import pricing

DEFAULT_RULE = {"data": 3500, "curation": 500, "developer": 5500, "platform": 500, "owner": 0}


def test_a_call_costs_its_tokens_and_its_fixed_part():
    prices = pricing.Prices(price_call_nano=1_000, price_in_nano=2, price_out_nano=3)

    assert pricing.cost_nano(prices, prompt_tokens=10, answer_tokens=5) == 1_000 + 20 + 15


@given(st.integers(0, 10**18))
def test_the_parts_of_every_charge_add_up_to_it(charge_nano):
    assert sum(pricing.split_charge(charge_nano, DEFAULT_RULE).values()) == charge_nano


def test_a_remainder_of_one_nano_goes_to_the_data_first():
    assert pricing.split_charge(1, DEFAULT_RULE)["developer"] == 1  # the largest remainder
    even = {"data": 2500, "curation": 2500, "developer": 2500, "platform": 2500, "owner": 0}
    assert pricing.split_charge(1, even) == {"data": 1, "curation": 0, "developer": 0, "platform": 0, "owner": 0}


@given(st.integers(-(10**18), 10**18))
def test_amounts_are_written_exactly_and_read_back(amount_nano):
    text = pricing.nano_to_open(abs(amount_nano))

    assert pricing.open_to_nano(text) == abs(amount_nano)
    assert pricing.nano_to_open(amount_nano).lstrip("-") == text


@pytest.mark.parametrize("text", ["", "1.", ".5", "-1", "1e3", "1,5", "0.0000000001", "٣", "1 000", "NaN"])
def test_what_is_not_an_amount_is_refused(text):
    with pytest.raises(ValueError, match="amount of OPEN"):
        pricing.open_to_nano(text)


def test_a_price_list_and_a_rule_are_named_by_their_hash():
    prices = pricing.Prices(1, 2, 3)

    assert pricing.price_sha256(prices) != pricing.price_sha256(pricing.Prices(1, 3, 2))
    assert pricing.rule_sha256(DEFAULT_RULE) == pricing.rule_sha256(dict(reversed(DEFAULT_RULE.items())))
