"""Every word of the interface exists in French, and no French page shows an English one."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest
from django.utils.translation.template import templatize

from devstack.messages import read_po

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "locale" / "fr" / "LC_MESSAGES" / "django.po"
APPS = ("accounts", "attribution", "datanets", "ledger", "marketplace")
MARKS = {
    *("_", "gettext", "gettext_lazy", "gettext_noop", "pgettext", "pgettext_lazy"),
    *("ngettext", "ngettext_lazy", "npgettext"),
}
# Where a text from a catalogue of codes is translated by its English wording; those catalogues mark each text with _().
BY_CODE = {"datanets/sentences.py", "marketplace/views/build_models.py"}
NBSP = "\N{NO-BREAK SPACE}"
PLACEHOLDER = re.compile(r"%\((\w+)\)s|\{(\w+)\}|(%%)|(</?\w+>)")


@cache
def french() -> dict[str, tuple[str, ...]]:
    """msgid -> its French forms; a plural message under both of its English forms."""
    found: dict[str, tuple[str, ...]] = {}
    for key, value in read_po(CATALOGUE.read_text(encoding="utf-8")).items():
        for msgid in key.rpartition("\4")[2].split("\0"):
            if msgid:
                found[msgid] = tuple(value.split("\0"))
    return found


# --- The catalogue


def test_no_message_is_left_untranslated_or_fuzzy():
    text = CATALOGUE.read_text(encoding="utf-8")

    assert "fuzzy" not in text
    assert "#~" not in text
    assert text.count("\nmsgid ") == len(read_po(text))  # read_po leaves out what is not finished


def test_plural_messages_have_both_french_forms():
    text = CATALOGUE.read_text(encoding="utf-8")

    assert "plural=(n > 1)" in text  # in French zero takes the singular
    for key, value in read_po(text).items():
        assert value.count("\0") == (1 if "\0" in key else 0), key


def test_placeholders_and_tags_are_the_same_in_both_languages():
    wrong = []
    for key, value in read_po(CATALOGUE.read_text(encoding="utf-8")).items():
        if not key:
            continue
        english = [_places(form) for form in key.rpartition("\4")[2].split("\0")]
        wrong += [key for form in value.split("\0") if _places(form) not in english]
    assert wrong == []


def _places(text: str) -> list[str]:
    return sorted("".join(match) for match in PLACEHOLDER.findall(text))


def test_french_marks_stand_after_a_no_break_space():
    bare = re.compile(r"[ \w)»][!?;»]|[ \w)»]:(?=\s|$)|« | %(?!\()")
    wrong = [form for forms in french().values() for form in forms if bare.search(form.replace("https://", ""))]

    assert wrong == []


# --- What the code says


def test_every_text_of_a_template_is_in_the_catalogue():
    missing = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in sorted((ROOT / "templates").rglob("*.html"))
        for text in texts_of_template(file.read_text(encoding="utf-8"))
        if text not in french()
    ]
    assert missing == []


def test_every_marked_text_of_the_code_is_in_the_catalogue():
    missing = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in sources()
        for text in texts_of_code(ast.parse(file.read_text(encoding="utf-8")))
        if text is not None and text not in french()
    ]
    assert missing == []


def test_only_catalogues_of_codes_are_translated_by_a_variable():
    found = {
        str(file.relative_to(ROOT))
        for file in sources()
        if None in texts_of_code(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found <= BY_CODE


def test_no_text_is_translated_while_a_module_loads():
    """It would stay in the language of that moment: outside of functions only the lazy forms will do."""
    eager = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sources()
        for line in _translated_at_once(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert eager == []


def _translated_at_once(tree: ast.Module) -> Iterator[int]:
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    at_once = {
        alias.asname or alias.name
        for node in imported
        if node.module == "django.utils.translation"
        for alias in node.names
        if alias.name in ("gettext", "ngettext", "pgettext", "npgettext")
    }
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in at_once:
            yield node.lineno
        waiting += ast.iter_child_nodes(node)


def test_the_catalogues_of_codes_are_translated_whole():
    from datanets import checks, licences
    from datanets.kinds import messages

    for texts in (messages.SENTENCES, checks.SENTENCES, checks.TITLES, checks.ACTIONS, licences.REASONS):
        assert set(texts.values()) <= set(french())


def sources() -> Iterator[Path]:
    for app in APPS:
        yield from sorted((ROOT / app).rglob("*.py"))


def texts_of_code(tree: ast.AST) -> Iterator[str | None]:
    """The msgid of each marked text; None where it is no literal."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in MARKS:
            first = node.args[1 if "pgettext" in name else 0]
            yield first.value if isinstance(first, ast.Constant) else None


def texts_of_template(source: str) -> Iterator[str]:
    """The msgids of a template: what `templatize` writes for xgettext, read back without xgettext."""
    literal = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    for call, first, second in re.findall(
        rf"\b(n?p?gettext|_)\(\s*u?{literal}(?:\s*,\s*u?{literal})?", templatize(source)
    ):
        yield ast.literal_eval(second if call in ("pgettext", "npgettext") else first)


def test_the_extractor_finds_each_form_of_text():
    source = (
        '{% translate "One" %}{% blocktranslate count n=x trimmed %}\n {{ n }} two\n{% plural %}{{ n }} twos'
        '{% endblocktranslate %}{% firstof a _("Three") %}{% translate "Four" context "card" %}'
    )
    assert list(texts_of_template(source)) == ["One", "%(n)s two", "Three", "Four"]
    code = 'a = _("One" " and more"); b = ngettext("two", "twos", n); c = pgettext("card", "Three"); d = _(e)'
    assert list(texts_of_code(ast.parse(code))) == ["One and more", "two", "Three", None]


# --- What the pages show


class Page(HTMLParser):
    """The texts of a page that are in its language, and where its links lead."""

    SILENT = {"script", "style", "code", "pre", "template", "kbd", "svg"}
    VOID = {"meta", "link", "img", "input", "br", "hr", "wbr", "source", "col", "area", "base"}
    SPOKEN = {"aria-label", "title", "placeholder", "alt", "label", "content"}

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.links: list[str] = []
        self.foreign_titles: set[str] = set()  # of a document in another language; the page's own title repeats it
        self._open: list[tuple[str, bool]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        foreign = given.get("lang", "fr") != "fr" or tag in self.SILENT or bool(self._open and self._open[-1][1])
        if not foreign:
            shown = [value for name, value in attrs if name in self.SPOKEN or name.startswith("data-")]
            if tag == "input" and given.get("type") in ("submit", "button"):
                shown.append(given.get("value"))
            self.texts += [" ".join(value.split()) for value in shown if value]
        if tag not in self.VOID:
            self._open.append((tag, foreign))

    def handle_endtag(self, tag):
        while self._open and any(name == tag for name, _ in self._open):
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        tag, foreign = self._open[-1] if self._open else ("", False)
        text = " ".join(data.split())
        if text and not foreign:
            self.texts.append(text)
        elif tag == "h1":
            self.foreign_titles.add(text)


def test_a_page_is_read_with_its_attributes_but_without_code_and_foreign_words():
    page = Page(
        '<p title="Un">Deux <b>trois</b><code>four</code></p><p lang="en">five</p><br><i>six</i><a href="/x">7</a>'
    )

    assert page.texts == ["Un", "Deux", "trois", "six", "7"]
    assert page.links == ["/x"]


@cache
def english_patterns() -> tuple[frozenset[str], list[re.Pattern]]:
    """The English messages whose French differs: those without and those with values in them."""
    ours = {" ".join(form.replace("%%", "%").split()) for forms in french().values() for form in forms}
    plain, filled = set(), []
    for msgid in french():
        text = " ".join(msgid.replace("%%", "%").split())
        if text in ours:
            continue
        if not PLACEHOLDER.search(msgid.replace("%%", "")):
            plain.add(text)
        elif len(re.sub(r"[^A-Za-z]", "", PLACEHOLDER.sub("", msgid))) >= 6:
            parts = re.split(r"%\\\(\w+\\\)s|\\{\w+\\}", re.escape(text))
            filled.append(re.compile(".+?".join(parts)))
    return frozenset(plain), filled


READS_ENGLISH = re.compile(
    r"\b(the|and|with|your|you|is|are|was|were|this|that|from|for|not|of|yet|has)\b", re.IGNORECASE
)


def english_in(page: Page) -> list[str]:
    """The texts of a page that are messages in English, or read like English and are no message at all."""
    from datanets.licences import LICENCES
    from tests.datanets.cast import RIGHTS

    plain, filled = english_patterns()
    given = {RIGHTS} | {licence.name for licence in LICENCES.values()}  # names, and what a Datanet's owner wrote
    return [
        text
        for text in page.texts
        if text not in given
        and text.partition(" · ")[0] not in page.foreign_titles
        and (text in plain or READS_ENGLISH.search(text) or any(one.fullmatch(text) for one in filled))
    ]


@pytest.fixture
def market(books, settings):
    """Something on every page: a model with settled calls, submissions in review and rejected, a withdrawal, a deposit."""
    from django.core.cache import cache as shared

    from datanets import reviews
    from datanets.models import Record
    from marketplace import payouts, publishing, wallets, webhooks
    from marketplace.models import DemoProgress
    from tests.datanets.cast import make_datanet, measured, person, send, table
    from tests.marketplace.pages.world import OPEN, admin, sold
    from tests.shop import trained

    shared.clear()
    settings.REQUIRE_MFA = False
    settings.REVIEW_UNDO_S = 0
    settings.GATEWAY_URL = settings.MODELS_URL = "http://127.0.0.1:9"  # nothing listens there
    version, _calls = sold(books)
    trained(
        books,
        version.training_run.versions.get(),
        name="Passes",
        access_mode="pass",
        pass_price_nano=1000 * OPEN,
        pass_days=30,
    )
    pool = version.training_run.versions.get().datanet
    publishing.change_datanet(
        pool, by=pool.owner, approvals_needed=2, guidelines="Des cellules.", answers={"uses": "Essais."}
    )
    found = pool.records.filter(status="approved", contributor=person("alice")).order_by("id")[0]
    publishing.report_record(found, by=person("dan"), reason="rights", text="Ce texte vient de mon livre.")
    endpoint, _secret = webhooks.register(person("dan"), url="https://8.8.8.8/hook")
    webhooks.send_test(endpoint, by=person("dan"))
    DemoProgress.objects.create(step="more records", position=0)
    other = make_datanet("Reines", purpose="Essais", rights_statement="Je peux partager ces données.")
    refused = list(Record.objects.filter(submission=send(other, table(measured(4, start=40)), by="alice"))[:2])
    reviews.decide(refused, curator=person("carol"), decision="reject", reason="off_topic")
    send(other, table([*measured(3, start=60), ("beaucoup", "1", "benign")]), by="bob")
    for number in range(2):
        wallets.set_destination(person("dan"), kind="iban", details="FR7630006000011234567890189")
        wallets.request_withdrawal(person("dan"), amount_nano=OPEN)
        books.fold()
        if number == 0:
            payouts.create_run(by=admin("fred"))
            books.fold()
    wallets.record_deposit(user=person("dan"), amount_nano=OPEN, external_reference="A-1", by=admin("fred"))
    books.fold()


def test_no_french_page_shows_english(market, client):
    """Every page without a parameter, and those its links lead to: at most three of each kind, as each person sees them."""
    wrong, seen = set(), set()
    for name in PEOPLE:
        sign_in_afresh(client, name)
        for kind, address, page in pages_of(client):
            seen.add(kind)
            wrong |= {f"{kind}, {address}, {name or 'a visitor'}: {text}" for text in english_in(page)}
        for address, page in refused_pages(client, name):
            wrong |= {f"{address}, refused to {name}: {text}" for text in english_in(page)}

    assert sorted(wrong) == []
    assert len(seen) > 60


PEOPLE = ("", "alice", "carol", "dan", "devi", "erin", "fred")


def sign_in_afresh(client, name: str) -> None:
    """As one of the market's people, or as a visitor; in French."""
    from tests.datanets.cast import person

    client.logout()
    client.cookies["django_language"] = "fr"
    if name:
        client.force_login(person(name))
        session = client.session  # signed in just now: the pages about passwords and keys ask for that
        session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
        session["account_authentication_methods_user"] = str(person(name).pk)
        session.save()


def refused_pages(client, name: str) -> Iterator[tuple[str, Page]]:
    """What no link leads to: a purchase with too little in the wallet, a question that no gateway answers."""
    if name != "dan":
        return
    row = {"act": "send", "radius": "12", "texture": "17"}
    for address, given, status in (
        ("/fr/models/devi/passes/pass/", {}, 402),
        ("/fr/models/devi/check/try/", row, 422),
    ):
        answer = client.post(address, given, headers={"accept-language": "fr"})
        assert answer.status_code == status
        yield address, Page(answer.content.decode())


def test_every_refusal_of_the_gateway_has_a_sentence_on_the_pages():
    from marketplace import playground

    # What only a program can send: addresses, methods, fields and headers that no page has.
    programs = {"not_found", "no_receipt", "method_not_allowed", "unsupported_parameter", "malformed_request"}
    programs |= {"headers_too_large", "request_timeout", "gateway_busy"}
    codes = {
        keyword.value.value
        for file in sorted((ROOT / "marketplace" / "gateway").glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ApiError"
        for keyword in node.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    assert codes - programs == set(playground.REFUSALS)


def test_every_step_of_the_demo_has_a_name_in_the_readers_language():
    from demo import loader
    from marketplace import navigation

    assert set(navigation.DEMO_STEPS) == set(loader.REST)


def pages_of(client, *, of_a_kind: int = 3) -> Iterator[tuple[str, str, Page]]:
    from django.urls import Resolver404, resolve
    from django.utils.translation import override

    waiting = list(addresses())
    known, visits = set(waiting), {}
    while waiting:
        address = waiting.pop(0)
        try:
            with override("fr"):  # addresses under /fr/ exist in French only
                kind = resolve(address.partition("?")[0]).view_name
        except Resolver404:
            continue
        visits[kind] = visits.get(kind, 0) + 1
        if visits[kind] > of_a_kind:
            continue
        answer = client.get(address, headers={"accept-language": "fr"})
        if answer.status_code in (301, 302) and answer["Location"].startswith("/"):
            reached = [answer["Location"]]
        elif answer.status_code in (200, 403, 404) and answer.get("Content-Type", "").startswith("text/html"):
            page = Page(answer.content.decode())
            yield kind, address, page
            reached = [urldefrag(urljoin(address, link))[0] for link in page.links]
        else:
            continue
        for link in reached:
            if link not in known and link.startswith(("/fr/", "/accounts/", "/r/")):
                known.add(link)
                waiting.append(link)


def addresses() -> Iterator[str]:
    """Every page that needs no parameter, in French."""
    from django.urls import get_resolver
    from django.urls.resolvers import LocalePrefixPattern

    def below(patterns, prefix: str) -> Iterator[str]:
        for one in patterns:
            route = "fr/" if isinstance(one.pattern, LocalePrefixPattern) else str(one.pattern)
            route = route.removeprefix("^").removesuffix("$").removesuffix("\\Z")
            if "<" in route or "(" in route:
                continue
            if hasattr(one, "url_patterns"):
                yield from below(one.url_patterns, prefix + route)
            elif (prefix + route).startswith(("fr/", "accounts/", "r/")):
                yield "/" + prefix + route

    yield from below(get_resolver().url_patterns, "")
