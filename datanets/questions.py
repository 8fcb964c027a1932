"""What everybody should know of a data set before using it: questions that an owner answers on the card of a Datanet.

After Gebru et al. 2021, Datasheets for Datasets, arXiv:1803.09010; of its questions those that the site cannot answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .errors import Invalid

QUESTIONS = {
    "collection": gettext_lazy("Who collected the data, when and how?"),
    "people": gettext_lazy("Is it about people, and did they agree?"),
    "changes": gettext_lazy("What was cleaned, changed or left out?"),
    "gaps": gettext_lazy("What is missing or uncertain, and who is not represented?"),
    "uses": gettext_lazy("What is it good for?"),
    "misuses": gettext_lazy("What should it not be used for?"),
}
ANSWER_CHARS_MAX = 4000


def checked(answers: Mapping[str, str]) -> dict[str, str]:
    """The answers as they are stored, in the order of the questions, without empty ones. Raises Invalid."""
    if not answers.keys() <= QUESTIONS.keys():
        raise Invalid(_("One of these questions is not asked here."))
    told = {question: answers.get(question, "").strip() for question in QUESTIONS}
    if any(len(text) > ANSWER_CHARS_MAX for text in told.values()):
        raise Invalid(_("An answer has at most %(n)s characters.") % {"n": ANSWER_CHARS_MAX})
    return {question: text for question, text in told.items() if text}
