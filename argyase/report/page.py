"""The page: template, style, script, plotly and the data as JSON, all in one text that needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any


def render(content: Mapping[str, Any]) -> str:
    """The HTML file of a report.

    Whatever stands in `content` stays text: the data are JSON without ``<``, the script puts them into the page as text
    only, and the policy of the page allows no script but the two whose hashes it names, and no connection at all.

    Parameters
    ----------
    content
        ``title``, ``made`` (when and by what), ``warnings``, ``runs`` and ``cells``, as `argyase.stages.report` makes
        them; all of it JSON.

    Raises
    ------
    ValueError
        If there is a number that JSON does not have (NaN, inf).
    """
    from plotly.offline import get_plotlyjs

    plotly, script = _lines(get_plotlyjs()), _lines(_read("page.js"))
    hashes = " ".join(f"'sha256-{_hash(text)}'" for text in (plotly, script))
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
    return Template(_read("page.html")).substitute(
        title=html.escape(str(content["title"])),
        policy=policy,
        style=_read("page.css"),
        plotly=plotly,
        script=script,
        data=embedded(content),
    )


def embedded(content: Mapping[str, Any]) -> str:
    r"""JSON that may stand inside of a ``<script>`` element.

    >>> embedded({"formula": "</script>"})
    '{"formula":"\\u003c/script>"}'
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _read(name: str) -> str:
    return (files("argyase.report") / name).read_text(encoding="utf-8")


def _lines(text: str) -> str:
    """With the line ends that a browser makes of all others, before it takes the hash."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
