"""Markdown to HTML that is safe to show: raw HTML stays text, then an allow-list of tags, no images, inert links.

Links keep their address but lead nowhere by themselves: they carry ``rel="noopener noreferrer nofollow"`` and only
``http``, ``https`` and ``mailto`` addresses; the page's policy loads nothing from elsewhere in any case.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt

TAGS = set("a blockquote br code em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split())
HIDDEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u061c\u00ad\U000e0000-\U000e007f]")
"""Zero-width characters, direction overrides and tag characters: they can make a text read other than it is."""


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


def to_html(text: str) -> str:
    """HTML of a Markdown text; hidden characters are written out as their code points."""
    return nh3.clean(
        _parser().render(HIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)),
        tags=TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        attribute_filter=_absolute,
    )


def _absolute(tag: str, name: str, value: str) -> str | None:
    """Drop addresses without a scheme: relative ones would lead into the app, ``//host`` ones out of it."""
    return value if name != "href" or re.match(r"(?i)https?://|mailto:", value) else None
