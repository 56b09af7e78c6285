"""The built site is complete and stands on its own."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer.main
import yaml
from built_site import ROOT, PageContent, read_page

import recon
from recon import registry
from recon.cli import app
from recon.entries import ENTRY_CLASSES
from recon.hookspecs import ReconSpecs

Pages = dict[str, PageContent]
KINDS = [kind.plural for kind in ENTRY_CLASSES]


def test_every_hook_and_argument_has_its_place(pages: Pages) -> None:
    page = pages["reference/hooks.html"]
    hooks = {name: function for name, function in vars(ReconSpecs).items() if name.startswith("recon_")}
    assert len(hooks) >= 11
    for name, function in hooks.items():
        assert name in page.sections, f"{name} has no section"
        section = page.sections[name]
        arguments = [argument for argument in inspect.signature(function).parameters if argument != "self"]
        for argument in arguments:
            assert re.search(rf"\b{argument}: \w", section), (
                f"{name}: {argument} is missing from the signature"
            )
        assert "called" in section and "returns" in section


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_and_parameter_has_its_place(pages: Pages, kind: str) -> None:
    page = pages[f"reference/{kind}.html"]
    items = {
        found.entry.name: found for found in registry.items(kind) if found.plugin.distribution == "recon"
    }
    for name, found in items.items():
        assert name in page.sections, f"{name} has no section"
        section = page.sections[name]
        assert found.entry.factory.replace(":", ".") in section or found.entry.factory in section
        for parameter in () if found.missing() else found.parameters():
            assert re.search(rf"\b{parameter.name}\b", section), f"{kind} {name}: {parameter.name} is missing"
            assert " ".join(parameter.about.description.split()) in " ".join(section.split())


def test_every_command_and_option_has_its_place(pages: Pages) -> None:
    page = pages["reference/command-line.html"]
    commands = {"recon": typer.main.get_command(app)}
    waiting = list(commands.items())
    while waiting:
        name, group = waiting.pop()
        members = {f"{name} {child}": member for child, member in getattr(group, "commands", {}).items()}
        commands |= members
        waiting += members.items()
    assert {"recon solve", "recon show", "recon demo"} <= commands.keys()
    for name in commands:
        anchor = name.replace(" ", "-")
        assert anchor in page.sections, f"{name} has no section"
        section = " ".join(page.sections[anchor].split())
        for parameter in commands[name].params:
            written = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
            for word in (*filter(None, written), parameter.help or ""):
                if word != "--help" and "Show this message" not in word:
                    assert " ".join(word.replace("`", "").split()) in section, f"{name}: {word!r} is missing"


def test_every_public_name_has_its_place(pages: Pages) -> None:
    anchors = set().union(*(page.anchors for name, page in pages.items() if name.startswith("api/")))
    for name in recon.__all__:
        assert f"{recon._HOME_OF[name]}.{name}" in anchors, f"recon.{name} has no place in the Python API"


def test_every_variable_of_the_source_is_explained(pages: Pages) -> None:
    used = set()
    for folder in ("recon", "operators", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r"\bRECON_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    assert "RECON_PLUGINS" in used
    missing = {name for name in used if name not in pages["reference/environment.html"].text}
    assert not missing


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: Pages) -> None:
    for name, page in pages.items():
        outside = {address for address in page.loaded if urlsplit(address).netloc}
        assert not outside, f"{name} loads {outside}"
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", style.read_text("utf-8")), style.name


def test_every_link_inside_the_site_leads_somewhere(site: Path, pages: Pages) -> None:
    for name, page in pages.items():
        for link in page.linked | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or name == "404.html":
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{name} links to {link}"
            if parts.fragment and target.suffix == ".html" and not parts.fragment.startswith("__"):
                where = target.resolve().relative_to(site.resolve()).as_posix()
                assert unquote(parts.fragment) in pages[where].anchors | {""}, f"{name} links to {link}"


def test_the_search_index_is_there_without_a_server(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text("utf-8")
    assert index.startswith("var __index = ")
    assert "Collatz-Wielandt" in index  # a word of one page only


def test_every_formula_is_drawn_by_the_browser_itself(pages: Pages, site: Path) -> None:
    drawn = (site / "concepts" / "admm.html").read_text("utf-8")
    assert drawn.count("<math ") > 10
    for name, page in pages.items():
        assert not re.search(r"\\[\[(]|\\(frac|sum|operatorname)\b", page.text), f"{name} shows raw LaTeX"


def test_every_page_of_the_navigation_exists(pages: Pages) -> None:
    class Loader(yaml.SafeLoader):
        pass

    def addresses(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        members = nav.values() if isinstance(nav, dict) else nav
        return [address for member in members for address in addresses(member)]

    written = addresses(yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)["nav"])
    assert len(written) > 20
    for address in written:
        assert address.replace(".md", ".html") in pages


def test_every_script_of_the_gallery_has_a_page(pages: Pages) -> None:
    for path in (ROOT / "examples").glob("*.py"):
        page = pages[f"gallery/{path.stem}.html"]
        assert path.read_text("utf-8").strip().splitlines()[-1] in page.text
        assert f"{path.stem}.html" in {link.rpartition("/")[2] for link in pages["gallery/index.html"].linked}


def test_the_reader_of_pages_sees_what_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<script src="https://a.example/x.js"></script><p id="here">text</p><a href="b.html">b</a>'
    )
    read = read_page(page)
    assert (read.loaded, read.anchors, read.linked) == ({"https://a.example/x.js"}, {"here"}, {"b.html"})
    assert read.text == "textb"


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium, which opens the page from disk")
def test_the_search_answers_from_disk(site: Path) -> None:
    address = f"file://{site}/index.html?q=discrepancy"
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=20000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'md-search-result__meta">(\d+) matching documents', done.stdout)
    assert found and int(found[1]) >= 2, done.stderr[-2000:]
