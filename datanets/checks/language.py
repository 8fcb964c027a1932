"""Language: which one a text is written in, and how sure that is."""

from __future__ import annotations

from collections import Counter
from functools import cache

from datanets.checks.shapes import Checked, Context, Finding, summary, texts_of

NAME, VERSION = "language", "1"

_CHARS_MIN = 40  # below, any guess is chance
_CHARS_USED = 4_000
_SURE = 0.9


def run(records: list[Checked], context: Context) -> list[Finding]:
    """An info with the languages found, and a flag for each record in another language than the Datanet's.

    number: of the submission, the share of records in its main language; of a record, the confidence.
    """
    findings: list[Finding] = []
    languages: Counter[str] = Counter()
    for record in records:
        text = " ".join(text for _, text in texts_of(record, context))[:_CHARS_USED]
        if len(text) < _CHARS_MIN:
            continue
        language, confidence = identify(text)
        sure = confidence >= _SURE
        languages[language if sure else "und"] += 1
        if sure and context.language and language != context.language[:2]:
            params = {"found": language, "expected": context.language[:2], "percent": round(100 * confidence)}
            findings.append(Finding(NAME, record.key, "flag", confidence, "language.other", params))
    if not languages:
        return [Finding(NAME, None, "pass", None, "language.too_short", {"count": len(records)})]
    if findings:
        return [summary(NAME, flagged=len(findings), of=len(records)), *findings]
    main, count = languages.most_common(1)[0]
    share = count / languages.total()
    params = {"language": main, "percent": round(100 * share)}
    return [Finding(NAME, None, "pass", share, "language.main", params, {"languages": dict(languages.most_common(8))})]


def identify(text: str) -> tuple[str, float]:
    """(ISO 639-1 code, probability 0-1) of a text by py3langid's bundled model."""
    language, probability = _model().classify(text)
    return language, float(probability)


@cache
def _model():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second to load: only where it is used

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
