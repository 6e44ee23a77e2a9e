"""Makes a site of the pages of docs/: `make docs` builds it into dist/site. Nothing of it comes from other hosts.

The pages are written to be read in the repository, so two things are changed on their way: what the index links to
below a heading becomes the navigation, and a link to Markdown outside of docs/ leads to the file itself.
"""

from __future__ import annotations

import re
from typing import Any

from pygments.lexers.special import TextLexer

project = "Cortical"
author = "The Cortical authors"
extensions = ["myst_parser"]
myst_heading_anchors = 6
exclude_patterns = ["site"]
html_theme = "furo"
html_title = "Cortical"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r"\]\(((?!\.\.)[\w/-]+)\.md\)")
_LINK_OUT = re.compile(r"\]\(((?:\.\./)+(?![\w-]+/)[\w-]+\.md)\)")


def setup(app: Any) -> None:
    """Have each page changed when it is read."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", _change)


def _change(app: Any, name: str, source: list[str]) -> None:
    if name == "index":
        source[0] += _navigation(source[0])
    depth = name.count("/") + 1
    source[0] = _LINK_OUT.sub(
        lambda link: f"](<path:{link[1]}>)" if link[1].count("../") == depth else link[0], source[0]
    )


def _navigation(index: str) -> str:
    """A table of contents for each section of the index, of the pages that no section before it has."""
    tables, seen = "", set()
    for heading, text in _SECTION.findall(index):
        pages = [page for page in dict.fromkeys(_PAGE.findall(text)) if page not in seen]
        seen.update(pages)
        if pages:
            tables += "\n```{toctree}\n:hidden:\n:caption: " + heading + "\n\n" + "\n".join(pages) + "\n```\n"
    return tables
