"""The page is one self-contained, well-formed, accessible file, written whole or not at all."""

import base64
import hashlib
import json
import re

import pytest
import torch
from pages import Page

from recon.report.figures import curves_png, grey_png
from recon.report.gallery import grey_figures, viewer_of
from recon.report.html import (
    Figure,
    Record,
    Report,
    Section,
    Table,
    difference_figure,
    grey_figure,
    render_report,
    write_report,
)


def picture() -> torch.Tensor:
    return torch.linspace(0, 1, 20 * 30).reshape(20, 30)


def plot() -> Figure:
    curves = {"objective": ([0, 1, 2], [3.0, 2.0, 1.5])}
    return Figure(
        png=curves_png(curves),
        dark_png=curves_png(curves, theme="dark"),
        alt="Objective over 2 iterations",
        caption="Objective",
    )


def full_report() -> Report:
    return Report(
        title="Lungs & <brains>",
        summary="First paragraph.\n\nSecond one.",
        warning="Not converged.",
        sections=[
            Section(
                title="Images",
                text="Text with <script>alert(1)</script>.",
                figures=[
                    grey_figure(picture(), "FBP", window=(0.0, 0.04), unit="1/mm"),
                    difference_figure(picture() + 0.1, picture(), "Difference", limit=0.5, unit="1/mm"),
                    plot(),
                ],
                tables=[
                    Table(
                        columns=("metric", "value"),
                        rows=[("psnr", "31.2 dB"), ("ssim", "0.91")],
                        caption="Scores",
                        notes=["psnr: peak 1, whole image"],
                    )
                ],
            ),
            Section(title="Empty section"),
        ],
        provenance=[
            Record(
                title="This run",
                values={
                    "operator": {"name": "recon/ct_parallel", "shape": [512, 512]},
                    "seed": 0,
                    "command": None,
                    "deterministic": True,
                    "angles": list(range(60)),
                    "nothing": {},
                    "prior": [{"name": "recon/tv"}, {"name": "recon/box"}],
                },
            )
        ],
    )


def test_the_page_is_well_formed_and_speaks_its_structure():
    page = Page(render_report(full_report()))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == 3  # two sections and the provenance
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for section in page.all("section"):
        assert section["aria-labelledby"] in ids
    for cell in page.all("th"):
        assert cell["scope"] in ("row", "col")


def test_the_page_needs_nothing_but_itself():
    text = render_report(full_report())
    page = Page(text)
    assert not page.all("script")
    for _, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "url(" not in text
    assert "@import" not in text


def test_pictures_are_inside_with_texts_that_stand_in_for_them():
    page = Page(render_report(full_report()))
    images = page.all("img")
    assert len(images) == 3
    for image in images:
        assert image["alt"].strip()
    content = base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,"))
    assert content == grey_png(picture(), (0.0, 0.04))
    assert (images[0]["width"], images[0]["height"]) == ("30", "20")
    assert images[0]["class"] == "pixelated"
    assert images[0]["alt"] == "FBP: grey image of 30 by 20 pixels, black at 0 1/mm, white at 0.04 1/mm"
    assert "full colour at 0.5 1/mm" in images[1]["alt"]


def test_dark_pages_get_the_dark_plot():
    page = Page(render_report(full_report()))
    (source,) = page.all("source")
    assert source["media"] == "(prefers-color-scheme: dark)"
    assert base64.b64decode(source["srcset"].split(",")[1]) == plot().dark_png


def page_with_viewer(**changes) -> str:
    images = {"<FBP>": picture(), "TV": 1 - picture(), "Truth": picture() ** 2}
    pictures = grey_figures(images, (0.0, 1.0), "1/mm")
    viewer = viewer_of({"all": (images, pictures, (0.0, 1.0))}, unit="1/mm", reference="Truth", right=1)
    section = Section(title="Images", figures=[*pictures.values()], viewer=viewer)
    return render_report(Report(title="Compared", sections=[section], **changes))


def test_a_viewer_is_hidden_until_its_script_runs_and_its_data_are_all_there():
    page = Page(page_with_viewer())
    (viewer,) = [attributes for attributes in page.all("div") if attributes.get("class") == "viewer"]
    assert "hidden" in viewer
    data = json.loads(page.scripts[0])
    (stack,) = data["stacks"]
    assert (stack["width"], stack["height"], stack["window"]) == (30, 20, [0.0, 1.0])
    assert [layer["name"] for layer in stack["layers"]] == ["<FBP>", "TV", "Truth"]
    assert [layer["isReference"] for layer in stack["layers"]] == [False, False, True]
    assert (data["left"], data["right"], data["unit"]) == (0, 1, "1/mm")
    images = {image["id"]: image for image in page.all("img")}
    for layer in stack["layers"]:
        assert images[layer["picture"]]["alt"].startswith(f"{layer['name']}: grey image")
    profiles = [image["alt"] for place, image in images.items() if place.startswith("profile")]
    assert [alt.split(",")[0] for alt in profiles] == ["Along row 10", "Along column 15"]


def test_a_page_with_a_viewer_loads_nothing_and_trusts_its_own_script_alone():
    text = page_with_viewer()
    page = Page(text)
    block, script = page.all("script")
    assert block == {"type": "application/json"}
    assert script == {}, "inside the page"
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), tag
        assert not [name for name in attributes if name.startswith("on")], "no handler in the text"
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "<FBP>" not in text.replace("\\u003cFBP\\u003e", "")
    for call in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon", "eval("):
        assert call not in page.scripts[1]


def test_controls_of_a_viewer_have_labels():
    page = Page(page_with_viewer())
    text = page_with_viewer()
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for canvas in page.all("canvas"):
        assert canvas["tabindex"] == "0"
        assert canvas["aria-describedby"] in ids
    assert next(control["aria-label"] for control in page.all("input") if control["type"] == "range").strip()
    labelled = re.findall(r"<label[^>]*>\s*(\w+)\s*<(?:input|select)", text)
    assert labelled == ["Left", "Image", "Right", "Black", "White", "Row", "Column"]
    for button in re.findall(r"<button[^>]*>[^<]*</button>", text):
        assert re.search(r'aria-label="\w', button) or re.search(r">\w+<", button)


def test_a_viewer_needs_its_pictures_on_the_page():
    images = {"a": picture()}
    figures = grey_figures(images, (0.0, 1.0), "")
    viewer = viewer_of({"all": (images, figures, (0.0, 1.0))})
    with pytest.raises(ValueError, match="the layer 'a' is not among the figures"):
        Section(title="Images", viewer=viewer)


def test_large_images_have_no_values_on_the_page():
    images = {"a": torch.zeros(2500, 2500)}
    viewer = viewer_of({"all": (images, grey_figures(images, (0.0, 1.0), ""), (0.0, 1.0))})
    assert viewer.stacks[0].layers[0].values is None


def test_the_best_value_is_marked_for_eyes_and_ears():
    table = Table(
        columns=("method", "psnr"), rows=[("A", "20"), ("B", "30")], caption="S", best=frozenset({(1, 1)})
    )
    text = render_report(Report(title="T", sections=[Section(title="S", tables=[table])]))
    assert '<td class="best">30<span class="unseen"> (best)</span></td>' in text
    assert "<td>20</td>" in text


def test_texts_are_escaped():
    text = render_report(full_report())
    assert "<brains>" not in text
    assert "Lungs &amp; &lt;brains&gt;" in text
    assert "<script" not in text


def test_everything_said_is_on_the_page():
    words = " ".join(Page(render_report(full_report())).text)
    for phrase in (
        "First paragraph.",
        "Second one.",
        "Not converged.",
        "Empty section",
        "psnr: peak 1, whole image",
    ):
        assert phrase in words
    for phrase in (
        "31.2 dB",
        "operator.name",
        "recon/ct_parallel",
        "512, 512",
        "60 in all",
        "\N{MINUS SIGN}0.5",
        "+0.5 1/mm",
    ):
        assert phrase in words
    assert re.search(r"deterministic\s+yes", words)
    assert re.search(r"command\s+none", words)
    assert re.search(r"prior\.1\.name\s+recon/box", words)


def test_a_report_may_be_nearly_empty():
    page = Page(render_report(Report(title="Nothing yet")))
    assert not page.all("table")
    assert not page.all("h2")


def test_the_page_is_written_into_a_new_folder(tmp_path):
    path = write_report(tmp_path / "out" / "report.html", full_report())
    assert path.read_text("utf-8") == render_report(full_report())
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_an_error_leaves_the_old_report(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write_report(path, Report(title="Bad", sections=["no section"]))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_figures_and_tables_check_themselves():
    with pytest.raises(ValueError, match="needs an alt text"):
        Figure(png=grey_png(picture()), alt=" ")
    with pytest.raises(ValueError, match="'a photo' is not a PNG"):
        Figure(png=b"GIF89a", alt="a photo")
    with pytest.raises(ValueError, match="'Scores' has 2 columns, a row has 1"):
        Table(columns=("a", "b"), rows=[("1",)], caption="Scores")


def test_large_pictures_are_smoothed_small_ones_keep_their_pixels():
    assert grey_figure(torch.rand(64, 64), "small").pixelated
    assert not grey_figure(torch.rand(512, 300), "large").pixelated
