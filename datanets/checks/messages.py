"""The sentences of findings, and what to do about them. The Django layer translates both by the same text.

Every check has `<check>.none` (it passed) and `<check>.some` (it marked records), and a code for each thing it finds.
"""

from __future__ import annotations

_ = str  # marks the text for makemessages; this module imports no Django

TITLES: dict[str, str] = {
    "file_format": _("Format and schema"),
    "exact_copies": _("Exact copies"),
    "near_copies": _("Near copies"),
    "language": _("Language"),
    "personal_data": _("Personal data"),
    "secret_keys": _("Keys and passwords"),
    "label_sanity": _("Labels"),
    "image_quality": _("Image quality"),
    "length_outliers": _("Length"),
    "prompt_injection": _("Orders to a model"),
    "hidden_characters": _("Hidden characters"),
}

SENTENCES: dict[str, str] = {
    "check.broke": _("This check could not be run; the others were."),
    "file_format.none": _("All %(count)s records fit the schema."),
    "file_format.some": _("%(count)s of %(of)s rows or files could not be read."),
    "exact_copies.none": _("None of %(count)s records is an exact copy."),
    "exact_copies.some": _("%(count)s of %(of)s records are exact copies of earlier ones."),
    "exact_copies.copy_here": _("The same as an earlier record of this Datanet."),
    "exact_copies.copy_site": _("The same as an earlier record: known from another Datanet."),
    "near_copies.none": _("None of %(count)s records is close to an earlier one."),
    "near_copies.some": _("%(count)s of %(of)s records are near copies of earlier ones."),
    "near_copies.text_here": _("Shares about %(percent)s %% of its phrases with an earlier record of this Datanet."),
    "near_copies.text_site": _("Shares about %(percent)s %% of its phrases with a record known from another Datanet."),
    "near_copies.tabular_here": _("The same as an earlier row of this Datanet, but for rounding or a trace of noise."),
    "near_copies.tabular_site": _(
        "The same as a row known from another Datanet, but for rounding or a trace of noise."
    ),
    "near_copies.image_here": _(
        "The same picture as an earlier one of this Datanet, slightly changed (%(percent)s %% alike)."
    ),
    "near_copies.image_site": _(
        "The same picture as one known from another Datanet, slightly changed (%(percent)s %% alike)."
    ),
    "language.none": _("All %(count)s records are in the expected language."),
    "language.some": _("%(count)s of %(of)s records are in another language than the Datanet's."),
    "language.main": _("%(percent)s %% of the texts are in this language: %(language)s."),
    "language.too_short": _("The %(count)s records are too short to tell their language."),
    "language.other": _("Written in %(found)s (%(percent)s %% sure); the Datanet's language is %(expected)s."),
    "personal_data.none": _("No personal data was found in %(count)s records."),
    "personal_data.some": _("%(count)s of %(of)s records seem to hold personal data."),
    "personal_data.found": _("%(count)s places look like personal data: %(kinds)s."),
    "secret_keys.none": _("No key or password was found in %(count)s records."),
    "secret_keys.some": _("%(count)s of %(of)s records seem to hold a key or a password."),
    "secret_keys.found": _("%(count)s places look like a key or a password: %(kinds)s."),
    "label_sanity.none": _("Nothing speaks against the labels of %(count)s records."),
    "label_sanity.some": _("%(count)s of %(of)s records have a doubtful label."),
    "label_sanity.missing": _("The label (%(field)s) is missing."),
    "label_sanity.unknown": _("The label %(label)s is none of the Datanet's: %(labels)s."),
    "label_sanity.outvoted": _("Labelled %(label)s, but %(percent)s %% of the most similar records are %(other)s."),
    "label_sanity.far": _("The value is %(label)s; records like this one have about %(expected)s."),
    "image_quality.none": _("All %(count)s pictures are large, sharp and show something."),
    "image_quality.some": _("%(count)s of %(of)s pictures show little."),
    "image_quality.small": _("Only %(width)s x %(height)s pixels; the smaller side should have %(limit)s."),
    "image_quality.blank": _("The picture is blank."),
    "image_quality.blurred": _("The picture is blurred."),
    "length_outliers.none": _("The lengths of %(count)s texts are in the usual range."),
    "length_outliers.some": _("%(count)s of %(of)s texts stand out by their length, or repeat themselves."),
    "length_outliers.tiny": _("Only %(chars)s characters."),
    "length_outliers.short": _("%(chars)s characters; the texts of this submission usually have %(typical)s."),
    "length_outliers.long": _("%(chars)s characters; the texts of this submission usually have %(typical)s."),
    "length_outliers.repeats": _("The text repeats itself about %(times)s times."),
    "prompt_injection.none": _("None of %(count)s texts gives orders to a model."),
    "prompt_injection.some": _("%(count)s of %(of)s texts seem to give orders to a model."),
    "prompt_injection.found": _("%(count)s places seem to give orders to a model."),
    "hidden_characters.none": _("No hidden characters were found in %(count)s records."),
    "hidden_characters.some": _("%(count)s of %(of)s records contain hidden characters."),
    "hidden_characters.found": _("%(count)s hidden characters: %(kinds)s."),
}

ACTIONS: dict[str, str] = {
    "file_format": _("Correct the rows on this page, or drop them; the others go on without them."),
    "exact_copies": _("Copies earn nothing. Leave them out, unless you were first: then ask a curator."),
    "near_copies": _("Compare it with the earlier record. A near copy earns nothing while that one is in the Datanet."),
    "language": _("Send texts of another language to a Datanet of that language."),
    "personal_data": _("Remove or replace personal data that need not be public."),
    "secret_keys": _("Remove it, and revoke the key where it was made: it has been seen."),
    "label_sanity": _("Look at the label again, and correct it if it is wrong."),
    "image_quality": _("Send a larger or sharper picture, or drop this one."),
    "length_outliers": _("Check that the text is complete and was divided as intended."),
    "prompt_injection": _("Keep it only if the text is meant to be about this; a curator will read it."),
    "hidden_characters": _("Remove the hidden characters, unless the script needs them."),
}


def sentence(code: str, params: dict) -> str:
    """The English sentence of a finding. A parameter that is missing is a bug and raises KeyError."""
    return SENTENCES[code] % params
