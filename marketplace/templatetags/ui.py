"""The template tags and filters of the interface. Built in: no page needs to load them."""

import hashlib
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import urlencode

from django import template
from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.templatetags.static import static
from django.urls import translate_url
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _
from pygments import highlight as pygments_highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from marketplace import charts
from marketplace.templatetags import figures

register = template.Library()

_HUES = 6
_TONES = {
    "ok": "available approved confirmed delivered succeeded ready settled posted verified decided paid active done closed "
    "published passed live open_to_all upheld won cleared",
    "warn": "pending waiting needs_author checking requested in_run planned open appealed left abstained expiring flagged",
    "bad": "held rejected failed refused returned refunded revoked expired suspended",
    "info": "in_review receiving running sent uploading new draft",
}
_TONE_OF = {state: tone for tone, states in _TONES.items() for state in states.split()}
#: The types a column of a table can have, as people call them.
COLUMN_TYPES = {
    "number": gettext_lazy("Number"),
    "integer": gettext_lazy("Whole number"),
    "category": gettext_lazy("Category"),
    "text": gettext_lazy("Text"),
    "boolean": gettext_lazy("Yes or no"),
}


# Numbers -----------------------------------------------------------------------------------------------------------


@register.filter(name="open")
def open_filter(amount_nano: int | None, places: int = figures.PLACES_MAX) -> str:
    """`{{ amount_nano|open }}`: OPEN without its unit, exact; `|open:4` rounds half to even, as lists do."""
    return "" if amount_nano is None else figures.open_text(int(amount_nano), int(places))


@register.filter
def signed_open(amount_nano: int | None, places: int = figures.PLACES_MAX) -> str:
    """`+16.20` or `−1.90`: a change."""
    return "" if amount_nano is None else figures.open_text(int(amount_nano), int(places), signed=True)


@register.filter
def add_up(parts_nano, places: int) -> list[int]:
    """`{% for part in parts|add_up:4 %}`: the parts, rounded so that they add up to the total at the same places."""
    return figures.round_to_add_up([int(part) for part in parts_nano], int(places))


@register.filter
def share(value, places: int | None = None) -> str:
    """A percentage: an int is basis points, anything else a ratio."""
    return "" if value is None else figures.share_text(value, None if places is None else int(places))


@register.filter
def number(value, places: int = 0) -> str:
    """`48,210`; `|number:2` shows two decimals."""
    if value in (None, ""):
        return ""
    try:
        exact = value if isinstance(value, int | float) else Decimal(value)
        return figures.number_text(exact, int(places))
    except (InvalidOperation, TypeError, ValueError, OverflowError):
        return str(value)


@register.filter
def significant(value: int | float | None) -> str:
    """A measured value in four significant digits: `12.35`, `0.00001234`."""
    return "" if value is None or value == "" else figures.significant_text(value)


@register.filter
def compact(value: int | None) -> str:
    """`6.41 M`: a count in three figures."""
    return "" if value is None else figures.compact_text(int(value))


@register.filter(name="bytes")
def bytes_filter(size_bytes: int | None) -> str:
    """`184 MB`."""
    return "" if size_bytes is None else figures.bytes_text(int(size_bytes))


@register.simple_tag
def open_digits(amount_nano: int, places: int = figures.PLACES_MAX, signed: bool = False) -> dict:
    """What components/amount.html draws: the figures, the trailing zeros of nine places apart, and the exact amount."""
    amount_nano, places = int(amount_nano), int(places or figures.PLACES_MAX)
    text = figures.open_text(amount_nano, places, signed=bool(signed))
    exact = figures.is_exact(amount_nano, places)
    head = text
    if places == figures.PLACES_MAX:
        head = text.rstrip("0").rstrip(".,")
    return {
        "head": head,
        "zeros": text[len(head) :],
        "exact": exact,
        "exact_text": figures.open_text(amount_nano, signed=bool(signed)),
    }


# Time --------------------------------------------------------------------------------------------------------------


@register.filter
def ago(moment: datetime | None) -> str:
    """`3 h ago`, in a <time> whose title is the full date."""
    if moment is None:
        return ""
    seconds = int((timezone.now() - moment).total_seconds())
    return _time(moment, _ahead(-seconds) if seconds < -59 else _behind(seconds))


@register.filter
def when(moment: datetime | None) -> str:
    """`22 Nov 2026, 07:03 UTC`, in a <time>."""
    return "" if moment is None else _time(moment, _moment_text(moment))


@register.filter
def day(moment) -> str:
    """`22 Nov 2026`, in a <time>; takes a date or a datetime."""
    if moment is None:
        return ""
    return format_html('<time datetime="{}">{}</time>', f"{moment:%Y-%m-%d}", date_format(moment, _("j M Y")))


def _time(moment: datetime, text: str) -> SafeString:
    title = _moment_text(moment)
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(timespec="seconds"), title, text)


def _moment_text(moment: datetime) -> str:
    return date_format(moment.astimezone(timezone.get_current_timezone()), _("j M Y, H:i e"))


def _behind(seconds: int) -> str:
    if seconds < 60:
        return _("just now")
    if seconds < 3600:
        return ngettext("%(n)s min ago", "%(n)s min ago", seconds // 60) % {"n": seconds // 60}
    if seconds < 2 * 86400:
        return ngettext("%(n)s h ago", "%(n)s h ago", seconds // 3600) % {"n": seconds // 3600}
    return ngettext("%(n)s day ago", "%(n)s days ago", seconds // 86400) % {"n": seconds // 86400}


def _ahead(seconds: int) -> str:
    if seconds < 3600:
        return ngettext("in %(n)s min", "in %(n)s min", seconds // 60) % {"n": seconds // 60}
    if seconds < 2 * 86400:
        return ngettext("in %(n)s h", "in %(n)s h", seconds // 3600) % {"n": seconds // 3600}
    return ngettext("in %(n)s day", "in %(n)s days", seconds // 86400) % {"n": seconds // 86400}


# Marks -------------------------------------------------------------------------------------------------------------


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """One icon of static/icons.svg; decorative, so a word or a label says the same. size: "" or "lg"."""
    return format_html(
        '<svg class="i {}" aria-hidden="true"><use href="{}#{}"/></svg>', size, static("icons.svg"), name
    )


@register.simple_tag
def coin() -> SafeString:
    return mark_safe(  # noqa: S308  (a constant)
        '<svg class="coin" viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="9.2"/>'
        '<path d="M10 5.2a4.8 4.8 0 1 0 4.8 4.8"/></svg>'
    )


@register.simple_tag
def mosaic(slug: str, size: str = "") -> SafeString:
    """The generated picture of a Datanet or model. size: "", "sm" or "xl"."""
    return mark_safe(charts.mosaic(str(slug), size=size))  # noqa: S308  (built from a hash)


@register.simple_tag
def avatar(handle: str, size: str = "") -> SafeString:
    """A person's initials on a colour of their own; the name stands beside it. size: "", "sm" or "lg"."""
    words = [word for word in re.split(r"[\W_]+", str(handle)) if word]
    initials = "".join(word[0] for word in words[:2]) if len(words) > 1 else "".join(words)[:2]
    return format_html(
        '<span class="av {} c{}" aria-hidden="true">{}</span>', size, _hue(str(handle)), initials.upper()
    )


def _hue(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0] % _HUES + 1


@register.filter
def tone(state) -> str:
    """The colour of a state's badge: ok, warn, bad, info, or none for a state this list does not know."""
    return _TONE_OF.get(str(state), "")


@register.filter
def column_type(name: str) -> str:
    """A column's type by its name for people; a type this list does not know stays as it is."""
    return str(COLUMN_TYPES.get(name, name))


@register.simple_tag
def score(value, label: str | None = None) -> SafeString:
    """A score from 0 to 100 as a ring and a number."""
    return mark_safe(charts.score_ring(int(value), label=label or _("Quality")))  # noqa: S308


@register.simple_tag
def split_bar(parts, label: str = "", size: str = "") -> SafeString:
    """Parts of a whole. parts: "55:v5,35:v2" or [(size, colour)]; colours v0..v6, ok, warn, bad. size: "" or "tall"."""
    if isinstance(parts, str):
        parts = [(float(part.partition(":")[0]), part.partition(":")[2]) for part in parts.split(",") if part]
    return mark_safe(charts.split_bar(parts, label=label, size=size))  # noqa: S308


@register.simple_tag
def meter(percent, colour: str = "v1") -> SafeString:
    """One part of a whole as a bar; the number stands beside it."""
    return mark_safe(charts.split_bar([(percent, colour)], label="", size="tall"))  # noqa: S308


@register.simple_tag
def spark(values, label: str = "") -> SafeString:
    return mark_safe(charts.spark(_numbers(values), label=label))  # noqa: S308


@register.simple_tag
def histogram(values, label: str = "", colour: str = "v1") -> SafeString:
    return mark_safe(charts.histogram(_numbers(values), label=label, colour=colour))  # noqa: S308


def _numbers(values) -> list[float]:
    return [float(v) for v in (values.split(",") if isinstance(values, str) else values)]


@register.filter
def highlight(code: str, language: str) -> SafeString:
    """Program text with its syntax marked by classes, for components/code.html."""
    lexer = get_lexer_by_name(language or "text")
    return mark_safe(pygments_highlight(code.strip("\n"), lexer, HtmlFormatter(nowrap=True)))  # noqa: S308


# Links -------------------------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def local_path(context, path: str) -> str:
    """A page of this site in the reader's language: /datanets/ becomes /fr/datanets/."""
    request = context.get("request")
    urlconf = getattr(request, "urlconf", None) or settings.ROOT_URLCONF
    prefixed, default_too = is_language_prefix_patterns_used(urlconf)
    language = get_language() or settings.LANGUAGE_CODE
    if not prefixed or (language == settings.LANGUAGE_CODE and not default_too):
        return path
    return f"/{language}{path}"


@register.simple_tag(takes_context=True)
def at_path(context, *paths: str) -> bool:
    """Whether the page shown is one of these, or below one of these, in whatever language."""
    request = context.get("request")
    if request is None:
        return False
    here = re.sub(r"^/[a-z]{2}(?=/)", "", request.path)
    return any(here.startswith(path) for path in paths)


@register.simple_tag(takes_context=True)
def switch_language_url(context, language: str) -> str:
    """The page shown, in `language`; empty if its address carries no language (then the form does the switch)."""
    request = context.get("request")
    if request is None:
        return ""
    here = request.get_full_path()
    there = translate_url(here, language)
    return there if there != here or language == get_language() else ""


@register.simple_tag(takes_context=True)
def without(context, name: str, value: str | None = None) -> str:
    """The query string without one filter (or one value of it), for the cross of a chip. The page starts again."""
    query = context["request"].GET.copy()
    kept = [] if value is None else [v for v in query.getlist(name) if v != str(value)]
    pairs = [(k, v) for k, vs in query.lists() if k not in (name, "page", "after", "before") for v in vs]
    pairs += [(name, v) for v in kept]
    return "?" + urlencode(pairs)


# Boxes: components that have an inside ------------------------------------------------------------------------------


@register.simple_block_tag
def table_region(content: str, label: str) -> SafeString:
    """A table that may scroll sideways on its own, reachable by keyboard, with a name."""
    return format_html('<div class="tw" tabindex="0" role="region" aria-label="{}">{}</div>', label, mark_safe(content))  # noqa: S308


@register.simple_block_tag
def callout(content: str, tone: str = "", icon_name: str = "") -> SafeString:
    """A remark beside the text. tone: "", info, ok, warn, bad, gold."""
    names = {"ok": "badge-check", "warn": "triangle-alert", "bad": "circle-alert", "gold": "sprout"}
    name = icon_name or names.get(tone, "info")
    return format_html(
        '<section class="callout {}">{}<div>{}</div></section>',
        tone,
        icon(name),
        mark_safe(content),  # noqa: S308  (already rendered and escaped)
    )


@register.simple_block_tag
def dialog(content: str, id: str, title: str) -> SafeString:  # noqa: A002  (the HTML attribute's name)
    """A modal dialog; `<button command="show-modal" commandfor="ID">` opens it. Inside: .bd and .ft, or a form."""
    return format_html(
        '<dialog class="dlg" id="{id}" aria-labelledby="{id}-title"><div class="hd"><h2 id="{id}-title">{title}</h2>'
        '<button class="btn ghost icon sm" type="button" command="close" commandfor="{id}" aria-label="{close}">{x}'
        "</button></div>{content}</dialog>",
        id=id,
        title=title,
        close=_("Close"),
        x=icon("x"),
        content=mark_safe(content),  # noqa: S308  (already rendered and escaped)
    )


@register.simple_tag
def legend(entries) -> SafeString:
    """The names of a chart's colours, in series order. entries: [(label, colour)]."""
    items = format_html_join(
        "", '<span><span class="dot sq {}"></span>{}</span>', ((colour, label) for label, colour in entries)
    )
    return format_html('<div class="legend">{}</div>', items)
