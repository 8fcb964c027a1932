"""Which licences a Datanet may carry, and which of them a model may mix. A table, not legal advice. Pure.

Sources: the licence texts themselves; identifiers from the SPDX licence list. The decisions are deliberately strict: what
is not clearly allowed is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_ = str  # marks the text for makemessages; this module imports no Django


@dataclass(frozen=True)
class Licence:
    """One licence. training: data under it may train or feed a model. commercial: that model's calls may be sold.
    share_alike: the name of the family whose terms the result must carry, or "". attribution: authors must be named."""

    spdx: str
    name: str
    training: bool = True
    commercial: bool = True
    share_alike: str = ""
    attribution: bool = True


_ALL = (
    Licence("CC0-1.0", "Creative Commons Zero 1.0", attribution=False),
    Licence("PDDL-1.0", "Public Domain Dedication 1.0", attribution=False),
    Licence("Unlicense", "The Unlicense", attribution=False),
    Licence("0BSD", "BSD Zero Clause", attribution=False),
    Licence("CC-BY-3.0", "Creative Commons Attribution 3.0"),
    Licence("CC-BY-4.0", "Creative Commons Attribution 4.0"),
    Licence("ODC-By-1.0", "Open Data Commons Attribution 1.0"),
    Licence("CDLA-Permissive-1.0", "Community Data License Permissive 1.0"),
    Licence("CDLA-Permissive-2.0", "Community Data License Permissive 2.0"),
    Licence("etalab-2.0", "Licence Ouverte / Open Licence 2.0"),
    Licence("OGL-UK-3.0", "Open Government Licence 3.0"),
    Licence("DL-DE-BY-2.0", "Data licence Germany, attribution 2.0"),
    Licence("MIT", "MIT"),
    Licence("MIT-0", "MIT No Attribution", attribution=False),
    Licence("ISC", "ISC"),
    Licence("BSD-2-Clause", "BSD 2-Clause"),
    Licence("BSD-3-Clause", "BSD 3-Clause"),
    Licence("Apache-2.0", "Apache 2.0"),
    Licence("CC-BY-SA-3.0", "Creative Commons Attribution-ShareAlike 3.0", share_alike="CC-BY-SA"),
    Licence("CC-BY-SA-4.0", "Creative Commons Attribution-ShareAlike 4.0", share_alike="CC-BY-SA"),
    Licence("ODbL-1.0", "Open Database License 1.0", share_alike="ODbL"),
    Licence("CDLA-Sharing-1.0", "Community Data License Sharing 1.0", share_alike="CDLA-Sharing"),
    Licence("GFDL-1.3-or-later", "GNU Free Documentation License 1.3", share_alike="GFDL"),
    Licence("GPL-3.0-or-later", "GNU GPL 3.0 or later", share_alike="GPL-3"),
    Licence("CC-BY-NC-4.0", "Creative Commons Attribution-NonCommercial 4.0", commercial=False),
    Licence(
        "CC-BY-NC-SA-4.0",
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        commercial=False,
        share_alike="CC-BY-NC-SA",
    ),
    Licence("CC-BY-ND-4.0", "Creative Commons Attribution-NoDerivatives 4.0", training=False),
    Licence(
        "CC-BY-NC-ND-4.0",
        "Creative Commons Attribution-NonCommercial-NoDerivatives 4.0",
        training=False,
        commercial=False,
    ),
    Licence("LicenseRef-OpenLedger-Training", "Training and answers on this site only"),
)

LICENCES: dict[str, Licence] = {licence.spdx: licence for licence in _ALL}

# Two share-alike families that may stand in one work: the first may be taken over under the second (one way).
_COMPATIBLE = frozenset({frozenset({"CC-BY-SA", "GPL-3"})})

REASONS: dict[str, str] = {
    "allowed": _("These licences allow it."),
    "none": _("A model needs data under at least one licence."),
    "unknown": _("One of the licences is not in the table, so nothing is known about what it allows."),
    "no_derivatives": _("One of the licences forbids derived works; training a model on the data makes one."),
    "non_commercial": _("One of the licences forbids commercial use, and the calls of this model are sold."),
    "share_alike_conflict": _("Two of the licences each demand that the result carries their own terms."),
    "share_alike_non_commercial": _("One licence demands a result free for all use, another forbids commercial use."),
    "share_alike_site_only": _("One licence demands a result free for all, another restricts the data to this site."),
}


def mixture_allowed(ids: Iterable[str], *, commercial: bool = True) -> tuple[bool, str]:
    """May one model be trained on, or connected to, data under all these licences?

    ids: SPDX identifiers; order and repetition do not matter. commercial: its calls may have a price.
    Returns (allowed, key of REASONS).
    """
    found = set(ids)
    if not found:
        return False, "none"
    if not found <= LICENCES.keys():
        return False, "unknown"
    licences = [LICENCES[each] for each in found]
    families = {licence.share_alike for licence in licences if licence.share_alike}
    if not all(licence.training for licence in licences):
        return False, "no_derivatives"
    if commercial and not all(licence.commercial for licence in licences):
        return False, "non_commercial"
    if any(not licence.commercial for licence in licences) and families - {"CC-BY-NC-SA"}:
        return False, "share_alike_non_commercial"
    if families and "LicenseRef-OpenLedger-Training" in found:
        return False, "share_alike_site_only"
    if len(families) > 1 and frozenset(families) not in _COMPATIBLE:
        return False, "share_alike_conflict"
    return True, "allowed"
