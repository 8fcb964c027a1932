"""What the figures on a page say. No database."""

import re
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import django
import pytest
from django.conf import settings

if not settings.configured:  # run on their own, without the project's settings
    settings.configure(
        USE_TZ=True,
        USE_I18N=True,
        LANGUAGE_CODE="en",
        LANGUAGES=[("en", "English"), ("fr", "French")],
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles"],
        STATIC_URL="/static/",
        ROOT_URLCONF=__name__,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [Path(__file__).parents[2] / "templates"],
                "OPTIONS": {"libraries": {"ui": "marketplace.templatetags.ui"}},
            }
        ],
    )
    django.setup()

from django.template import Context, Template  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.utils import timezone, translation  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from marketplace import pricing
from marketplace.templatetags import figures  # noqa: E402

urlpatterns: list = []
NANO = 1_000_000_000


def draw(source: str, **context) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


@pytest.fixture(autouse=True)
def in_english():
    with translation.override("en"):
        yield


def test_an_amount_shows_all_nine_decimals_unless_told_otherwise():
    assert draw("{{ a|open }}", a=1_204_500_000_001) == "1,204.500000001"


def test_a_list_rounds_half_to_even():
    assert figures.open_text(1_000_050_000, 4) == "1.0000"
    assert figures.open_text(1_000_150_000, 4) == "1.0002"


def test_an_amount_that_is_not_zero_is_never_shown_as_zero():
    assert figures.open_text(5, 4) == "<0.0001"
    assert figures.open_text(-5, 4) == ">\u22120.0001"
    assert figures.open_text(0, 4) == "0.0000"


def test_a_minus_is_a_minus_sign_and_a_change_has_a_plus():
    assert figures.open_text(-1_900_000_000, 2) == "\u22121.90"
    assert figures.open_text(16_200_000_000, 2, signed=True) == "+16.20"
    assert figures.open_text(0, 2, signed=True) == "0.00"


def test_the_largest_possible_balance_is_exact():
    assert figures.open_text(10**18) == "1,000,000,000.000000000"


def test_french_writes_a_comma_and_spaces_that_do_not_break():
    with translation.override("fr"):
        assert figures.open_text(1_204_500_000_000, 2) == "1\u00a0204,50"
        assert figures.share_text(3500) == "35\u202f%"
        assert figures.bytes_text(184_000_000) == "184\u00a0Mo"


@pytest.mark.parametrize("language", ["en", "fr"])
@given(amount_nano=st.integers(min_value=0, max_value=10**18))
def test_an_amount_copied_from_a_page_is_read_as_that_amount(language, amount_nano):
    with translation.override(language):
        assert pricing.open_to_nano(figures.plain(figures.open_text(amount_nano))) == amount_nano


def test_more_than_nine_decimals_do_not_exist():
    with pytest.raises(ValueError, match="9 decimals"):
        figures.open_text(1, 10)


@given(st.lists(st.integers(min_value=0, max_value=10**15), min_size=1, max_size=40), st.sampled_from([2, 4, 9]))
def test_parts_shown_beside_their_total_add_up(parts, places):
    shown = figures.round_to_add_up(parts, places)
    unit = 10 ** (9 - places)
    total_shown = round(Fraction(sum(parts), unit)) * unit
    assert sum(shown) == total_shown
    assert all(abs(was - now) <= unit and now % unit == 0 for was, now in zip(parts, shown, strict=True))


def test_basis_points_and_ratios_are_told_apart():
    assert figures.share_text(3500) == "35%"
    assert figures.share_text(1085) == "10.85%"
    assert figures.share_text(Fraction(31, 100)) == "31.0%"
    assert figures.share_text(0.00001) == "<0.1%"


def test_file_sizes_use_the_unit_a_reader_expects():
    assert figures.bytes_text(999) == "999\u00a0B"
    assert figures.bytes_text(6_000_000) == "6.0\u00a0MB"
    assert figures.bytes_text(999_600) == "1.0\u00a0MB"


def test_counts_are_shortened_to_three_figures():
    assert [figures.compact_text(n) for n in (912, 48_210, 6_410_000)] == ["912", "48.2\u00a0k", "6.41\u00a0M"]


def test_a_measured_value_has_four_digits_and_is_never_shown_as_zero():
    shown = {0: "0", 0.0000123456: "0.00001235", -4.99216e-07: "\u22124.992e\u221207", 12.345678: "12.35", 2.5: "2.5"}
    shown |= {999.99: "1,000", 48210.4: "48,210", 1e20: "1e+20"}
    assert {value: draw("{{ a|significant }}", a=value) for value in shown} == shown
    assert draw("{{ a|significant }}", a=None) == ""


def test_an_exact_amount_greys_its_trailing_zeros_and_says_them_all():
    html = draw('{% include "components/amount.html" with amount_nano=a only %}', a=24_000_000)
    assert '<data class="amt " value="24000000">0.024<span class="d">000000</span>' in html
    assert "title" not in html


def test_a_rounded_amount_carries_the_exact_one_in_its_title():
    html = draw('{% include "components/amount.html" with amount_nano=a places=4 only %}', a=24_000_001)
    assert 'value="24000001" title="0.024000001 OPEN">0.0240' in html


def test_whole_amounts_keep_no_mark_before_the_grey_zeros():
    html = draw('{% include "components/amount.html" with amount_nano=a only %}', a=12 * NANO)
    assert '12<span class="d">.000000000</span>' in html


def test_time_is_relative_in_words_and_exact_in_the_markup():
    moment = timezone.now() - timedelta(hours=3, minutes=1)
    html = draw("{{ m|ago }}", m=moment)
    assert ">3 h ago</time>" in html
    assert moment.isoformat(timespec="seconds") in html
    assert ">in 2 h</time>" in draw("{{ m|ago }}", m=timezone.now() + timedelta(hours=2, minutes=1))


def test_a_handle_cannot_smuggle_markup_into_its_avatar():
    assert "<script" not in draw("{% avatar h %}", h="<script>alert(1)</script>")


def test_removing_one_filter_keeps_the_others_and_starts_at_the_first_page():
    request = RequestFactory().get("/datanets/?kind=text&kind=image&lang=fr&after=abc")
    link = draw('{% without "kind" "text" %}', request=request)
    assert link == "?lang=fr&amp;kind=image" or link == "?lang=fr&kind=image"


def test_a_state_nobody_described_has_no_colour():
    assert draw('{% include "components/state.html" with state="available" label="Available" only %}').count("badge ok")
    assert 'class="badge "' in draw('{% include "components/state.html" with state="" label="?" only %}')


def test_no_template_carries_inline_style_script_or_handlers():
    forbidden = re.compile(r"\sstyle=|\son[a-z]+=\"|<style|javascript:|hx-on|<script(?![^>]*(src=|application/json))")
    folder = Path(__file__).parents[2] / "templates"
    found = [str(p.relative_to(folder)) for p in folder.rglob("*.html") if forbidden.search(p.read_text())]
    assert found == []


def test_every_icon_a_template_names_is_in_the_sprite():
    root = Path(__file__).parents[2]
    sprite = set(re.findall(r'id="([a-z0-9-]+)"', (root / "static/icons.svg").read_text()))
    named = set()
    for page in (root / "templates").rglob("*.html"):
        named |= set(re.findall(r'{% icon "([a-z0-9-]+)"', page.read_text()))
        named |= set(re.findall(r' icon="([a-z0-9-]+)"', page.read_text()))
    assert named - sprite == set()
