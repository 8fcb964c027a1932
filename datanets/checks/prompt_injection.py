"""Prompt injection: text that speaks to a model rather than to a reader. Flagged, never blocked: retrieval treats every
record as data, and a curator may know better."""

from __future__ import annotations

import re
import unicodedata

from datanets.checks.shapes import Checked, Context, Finding, spans, summary, texts_of

NAME, VERSION = "prompt_injection", "2"

_BEFORE = r"(?:previous|prior|above|earlier|preceding|existing|former|foregoing)"
_ORDERS = r"(?:instructions?|prompts?|directions?|directives?|rules?|guidelines?|commands?|context|messages?)"
_SHAPES = {
    "ignore_instructions": (
        rf"\b(?:ignore|disregard|forget|override|bypass|neglect|skip)\b[^.\n]{{0,30}}?"
        rf"\b(?:(?:all|any|the|your|my|these|those|of)\s+){{0,3}}{_BEFORE}?\s*(?:system\s+)?{_ORDERS}\b"
        rf"(?=[^\n]{{0,60}}\b(?:and|instead|now|then|above|before|given|you|just|only)\b|\s*[.!:;,]|\s*$)"
    ),
    "ignore_foreign": (
        r"\b(?:ignore[rz]?|oublie[rz]?|ne tiens? pas compte)\b[^.\n]{0,30}\b(?:instructions?|consignes?|directives?)\b"
        r"|\b(?:ignoriere|vergiss|missachte)\b[^.\n]{0,30}\b(?:anweisung(?:en)?|instruktion(?:en)?|befehle?|regeln)\b"
        r"|\b(?:ignora|olvida|descarta|dimentica)\b[^.\n]{0,30}\b(?:instrucciones|[oó]rdenes|istruzioni)\b"
        r"|\b(?:ignore|esque[cç]a|desconsidere)\b[^.\n]{0,30}\binstru[cç][oõ]es\b"
    ),
    "new_role": (
        r"\byou are (?:now|no longer)\b|\bfrom now on,? you(?: are| will| must| should)\b"
        r"|\b(?:act|behave|respond|pretend)(?: as if you (?:are|were)| to be| as)\b[^.\n]{0,40}"
        r"\b(?:unrestricted|jailbroken|dan|evil|without (?:any )?(?:restrictions?|filters?|limits?)|"
        r"no (?:rules|restrictions))\b"
        r"|\b(?:dan|developer|jailbreak|god) mode\b|\bdo anything now\b"
    ),
    "prompt_theft": (
        r"\b(?:reveal|show|print|repeat|output|display|leak|tell me|give me|send|share|disclose|write)\b[^.\n]{0,40}"
        r"\b(?:system|hidden|initial|secret|original|developer) (?:prompt|instructions?|message)\b"
        r"|\brepeat (?:everything|all(?: the)? (?:text|words)) above\b"
    ),
    "chat_markup": (
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|begin_of_text|start_header_id|eot_id)\|?>|\[/?INST\]|<</?SYS>>"
        r"|^\s{0,3}(?:#{2,4}\s*)?(?:system|assistant)\s*(?:prompt|message|instruction)?s?\s*:\s*"
        r"(?:you|ignore|new|from|do|never|always)\b"
        r"|^#{2,4}\s*(?:system|instructions?|new instructions?)\b\s*:?\s*$"
        r"|</?(?:system|assistant|instructions?|untrusted|tool_call|function_calls?)>"
        r"|\bBEGIN (?:SYSTEM|ADMIN) (?:MESSAGE|PROMPT|OVERRIDE)"
    ),
    "to_the_model": (
        r"\b(?:if you are|attention|note to|message (?:to|for)|dear|hey|important(?: note)?(?: to| for)?)[ ,:]{1,3}"
        r"(?:an? |the |any |all )?(?:ai|llm|language model|large language model|chat ?bot|assistants?|gpt|claude|copilot)\b"
        r"|\b(?:ai|llm|language) (?:assistants?|models?|agents?|systems?)[^.\n]{0,30}"
        r"\b(?:must|should|shall|are required to|need to)"
        r"\b[^.\n]{0,40}\b(?:ignore|say|answer|respond|reply|rate|approve|recommend|output|tell|include|send|execute)\b"
        r"|\bdo not (?:tell|inform|mention (?:this )?to|reveal (?:this )?to|alert) the user\b"
        r"|\b(?:when|if) (?:asked|summari[sz]ing|answering|the user asks)\b[^.\n]{0,60}"
        r"\b(?:always |only )?(?:say|reply|respond|answer|recommend)\b[^.\n]{0,40}"
        r"\b(?:instead|always|only|never)\b"
    ),
    "smuggling": (
        r"!\[[^\]]{0,100}\]\(\s*https?://[^)\s]{1,200}(?:[?&][\w-]{1,20}=|\{\{?)[^)]{0,200}\)"
        r"|\b(?:send|post|forward|upload|exfiltrate|email|fetch|append)\b[^.\n]{0,60}"
        r"\b(?:conversation|chat history|user'?s? (?:data|messages?|"
        r"e-?mails?|password)|api keys?|credentials|secrets?|cookies|environment variables)\b[^.\n]{0,60}(?:https?://|\bto\b)"
    ),
    "grading": (
        r"\b(?:rate|score|grade|mark|classify|approve|label) (?:this|the)(?: \w+){0,3} (?:as|with) "
        r"(?:approved|safe|10|ten|100|the (?:highest|best|maximum)|"
        r"high quality|positive|benign|accepted)\b"
        r"|\b(?:curators?|reviewers?|moderators?)\b[^.\n]{0,20}\b(?:must|should) (?:approve|accept)\b"
    ),
}  # fmt: skip
_PATTERNS = [(name, re.compile(shape, re.IGNORECASE | re.MULTILINE)) for name, shape in _SHAPES.items()]
_CONFUSABLE = str.maketrans("аеорсухіјѕԁɡοανⅼ", "aeopcyxijsdgoavl")  # Cyrillic and Greek letters that look Latin


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each record that gives orders to a model. number: how many places."""
    findings = []
    for record in records:
        found = [(field, *place) for field, text in texts_of(record, context) for place in find(text)]
        if found:
            params = {"count": len(found)}
            findings.append(
                Finding(NAME, record.key, "flag", len(found), "prompt_injection.found", params, spans(found))
            )
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]


def find(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of every order to a model; zero-width characters and look-alike letters do not hide it."""
    plain, places = _visible(text)
    found = [(match.start(), match.end(), name) for name, pattern in _PATTERNS for match in pattern.finditer(plain)]
    return sorted((places[start], places[end - 1] + 1, name) for start, end, name in found if end > start)


def _visible(text: str) -> tuple[str, list[int] | range]:
    """The text without invisible characters and with Latin letters, and where each character stood."""
    if text.isascii():
        return text, range(len(text))
    kept, places = [], []
    for at, c in enumerate(text):
        if unicodedata.category(c) == "Cf":
            continue
        for plain in unicodedata.normalize("NFKC", c):
            kept.append(plain.lower().translate(_CONFUSABLE) if not plain.isascii() else plain)
            places.append(at)
    joined = "".join(each[:1] or " " for each in kept)
    return joined, places
