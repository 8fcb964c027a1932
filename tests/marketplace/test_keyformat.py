import re

from hypothesis import given
from hypothesis import strategies as st

from marketplace import keyformat


def test_a_new_key_is_well_formed_and_never_twice_the_same():
    secrets = {keyformat.new_secret() for _ in range(200)}

    assert len(secrets) == 200
    assert all(keyformat.is_well_formed(secret) for secret in secrets)
    assert all(re.fullmatch(r"open_sk_[0-9A-Za-z]{36}", secret) for secret in secrets)
    tested = keyformat.new_secret(is_test=True)
    assert re.fullmatch(r"open_test_[0-9A-Za-z]{36}", tested)
    assert keyformat.is_well_formed(tested)
    assert not keyformat.is_well_formed(tested.replace("_test_", "_sk_"))
    assert keyformat.shown_prefix(tested) == tested[:14]


@given(st.integers(0, 43), st.sampled_from(keyformat.ALPHABET))
def test_one_wrong_character_is_noticed_without_a_look_up(place, character):
    secret = "open_sk_" + "A" * 30
    secret += keyformat._checksum(secret)

    changed = secret[:place] + character + secret[place + 1 :]

    assert keyformat.is_well_formed(changed) == (changed == secret)


@given(st.text(max_size=60))
def test_any_text_can_be_asked_about(text):
    assert keyformat.is_well_formed(text) in (True, False)
