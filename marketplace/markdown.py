"""Markdown that people wrote, as HTML that is safe to show: no raw HTML, no scripts, no pictures from elsewhere."""

from __future__ import annotations

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

_RENDERER = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
_TAGS = {
    *("p", "h2", "h3", "h4", "h5", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "a", "hr", "br"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def to_html(text: str) -> SafeString:
    """Render Markdown. Headings move down one level, because the page has its own first one.

    What is not in the list of tags is dropped, so a picture or a form in somebody's card never reaches a reader.
    """
    tokens = _RENDERER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 5)}"
    rendered = _RENDERER.renderer.render(tokens, _RENDERER.options, {})
    clean = nh3.clean(
        rendered,
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener",
    )
    # A block of code may scroll sideways: a keyboard must reach it.
    return mark_safe(clean.replace("<pre>", '<pre tabindex="0">'))  # noqa: S308  (cleaned above)


def title_of(text: str) -> tuple[str, str]:
    """Split a document into its first heading and the rest."""
    first, _sep, rest = text.lstrip().partition("\n")
    return (first[2:].strip(), rest) if first.startswith("# ") else ("", text)
