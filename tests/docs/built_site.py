"""What the tests read of a page of the built site."""

from __future__ import annotations

import html.parser
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class PageContent:
    """What the tests read of a built page."""

    text: str = ""
    sections: dict[str, str] = field(default_factory=dict)  # by the id of their heading of the second level
    anchors: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    linked: set[str] = field(default_factory=set)


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = PageContent()
        self.silent = 0
        self.section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in ("script", "style"):
            self.silent += 1
        if "id" in values:
            self.page.anchors.add(values["id"])
            if tag == "h2":
                self.section = values["id"]
        if tag == "a" and "href" in values:
            self.page.linked.add(values["href"])
        elif tag == "link" and values.get("rel") in ("canonical", "next", "prev", "edit"):
            pass
        else:
            self.page.loaded |= {values[name] for name in ("src", "href", "srcset", "data") if name in values}

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.silent -= 1

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.page.text += data
            self.page.sections[self.section] = self.page.sections.get(self.section, "") + data


def read_page(path: Path) -> PageContent:
    """One page of a built site."""
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    return reader.page
