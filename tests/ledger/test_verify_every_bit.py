"""The Python verifier about every single bit of the example receipts: 82,000 of them, in a file of its own.

The whole suite is spread by file, and this one takes half a minute.
"""

import functools

import pytest

import verify_receipt
from tests.ledger.test_verify_receipt import NAMES, VECTORS, flipped, is_verified, without_cosignatures


@pytest.fixture(scope="module", autouse=True)
def _signatures_are_checked_once():
    """Most flips leave most signatures as they were; the answer for equal arguments is remembered."""
    original = verify_receipt.is_signed
    verify_receipt.is_signed = functools.cache(original)
    yield
    verify_receipt.is_signed = original


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_bit_is_refused_when_all_witnesses_are_asked_for(name):
    data = (VECTORS / name).read_bytes()
    assert is_verified(data, 3)
    assert [bit for bit in range(len(data) * 8) if is_verified(flipped(data, bit), 3)] == []


@pytest.mark.parametrize("name", NAMES)
def test_with_two_of_three_every_changed_bit_outside_the_cosignatures_is_refused(name):
    data = (VECTORS / name).read_bytes()
    assert is_verified(data, 2)
    bits = [place * 8 + bit for place in without_cosignatures(data) for bit in range(8)]
    assert [bit for bit in bits if is_verified(flipped(data, bit), 2)] == []
