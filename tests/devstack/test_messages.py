import gettext
import io

import pytest

from devstack.messages import mo_bytes, read_po

CATALOGUE = r"""
# A header with plural forms, as Django writes it
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\n"

#: templates/base.html:1
msgid "Earnings"
msgstr "Gains"

msgctxt "verb"
msgid "Review"
msgstr "Relire"

#, python-format
msgid "%(count)s record"
msgid_plural "%(count)s records"
msgstr[0] "%(count)s enregistrement"
msgstr[1] "%(count)s enregistrements"

msgid ""
"A long "
"\"quoted\" line\n"
msgstr ""
"Une longue "
"ligne « citée »\n"

#, fuzzy
msgid "Hold"
msgstr "Tenir"

msgid "Untranslated"
msgstr ""

#~ msgid "Old"
#~ msgstr "Ancien"
"""


@pytest.fixture(scope="module")
def french() -> gettext.GNUTranslations:
    return gettext.GNUTranslations(io.BytesIO(mo_bytes(read_po(CATALOGUE))))


def test_a_compiled_catalogue_is_read_by_gettext(french):
    assert french.gettext("Earnings") == "Gains"
    assert french.pgettext("verb", "Review") == "Relire"
    assert french.gettext('A long "quoted" line\n') == "Une longue ligne « citée »\n"


def test_french_counts_zero_as_singular(french):
    forms = [french.ngettext("%(count)s record", "%(count)s records", n) for n in (0, 1, 2)]
    assert forms == ["%(count)s enregistrement", "%(count)s enregistrement", "%(count)s enregistrements"]


def test_doubtful_missing_and_old_entries_are_left_out(french):
    assert french.gettext("Hold") == "Hold"
    assert french.gettext("Untranslated") == "Untranslated"
    assert french.gettext("Old") == "Old"


def test_a_broken_catalogue_names_its_line():
    with pytest.raises(ValueError, match="line 2"):
        read_po('msgid "a"\nmsgstr a\n')
