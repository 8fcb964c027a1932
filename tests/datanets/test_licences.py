"""Which licences may be mixed in one model."""

import itertools

import pytest

from datanets.licences import LICENCES, REASONS, mixture_allowed


@pytest.mark.parametrize(
    ("ids", "commercial", "expected"),
    [
        (["CC-BY-4.0"], True, (True, "allowed")),
        (["CC0-1.0", "MIT", "Apache-2.0"], True, (True, "allowed")),
        (["CC-BY-SA-4.0", "CC-BY-4.0"], True, (True, "allowed")),
        (["CC-BY-SA-4.0", "CC-BY-SA-3.0"], True, (True, "allowed")),
        (["CC-BY-SA-4.0", "GPL-3.0-or-later"], True, (True, "allowed")),
        (["CC-BY-NC-4.0"], False, (True, "allowed")),
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"], False, (True, "allowed")),
        ([], True, (False, "none")),
        (["CC-BY-4.0", "Made-Up-1.0"], True, (False, "unknown")),
        (["CC-BY-ND-4.0"], True, (False, "no_derivatives")),
        (["CC-BY-NC-ND-4.0"], False, (False, "no_derivatives")),
        (["CC-BY-NC-4.0", "CC-BY-4.0"], True, (False, "non_commercial")),
        (["CC-BY-NC-4.0", "CC-BY-SA-4.0"], False, (False, "share_alike_non_commercial")),
        (["CC-BY-NC-SA-4.0", "ODbL-1.0"], False, (False, "share_alike_non_commercial")),
        (["CC-BY-SA-4.0", "ODbL-1.0"], True, (False, "share_alike_conflict")),
        (["CDLA-Sharing-1.0", "GFDL-1.3-or-later"], True, (False, "share_alike_conflict")),
        (["LicenseRef-OpenLedger-Training", "CC-BY-SA-4.0"], True, (False, "share_alike_site_only")),
        (["LicenseRef-OpenLedger-Training", "CC-BY-4.0"], True, (True, "allowed")),
    ],
)
def test_a_mixture_is_allowed_or_refused_with_its_reason(ids, commercial, expected):
    assert mixture_allowed(ids, commercial=commercial) == expected
    assert expected[1] in REASONS


def test_adding_a_licence_never_makes_a_forbidden_mixture_allowed():
    for pair in itertools.combinations(LICENCES, 2):
        for one in pair:
            for commercial in (True, False):
                if not mixture_allowed([one], commercial=commercial)[0]:
                    assert not mixture_allowed(pair, commercial=commercial)[0]


def test_order_and_repetition_of_licences_do_not_matter():
    for first, second in itertools.combinations(LICENCES, 2):
        assert mixture_allowed([first, second]) == mixture_allowed([second, first, second])
