"""The page in a real browser: what a reader sees, does and hears, with nothing asked of the network.

Chromium and its driver come from the system (Debian: chromium, chromium-driver). Without them these tests
skip; RECON_REQUIRE_CHROMIUM=1 makes their absence a failure.
"""

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from recon_priors.tv import TotalVariation

from recon.linear import Identity
from recon.report import comparison_report
from recon.solution import Solution
from recon.solving import solve
from recon.stopping import MaxIterations

HEIGHT, WIDTH = 30, 40
GREY = 1.6 / 255  # rounded to a grey level, in the picture and in the screenshot


def blocks(seed: int) -> torch.Tensor:
    """Random squares of five pixels, in [0.1, 0.9]."""
    values = 0.1 + 0.8 * torch.rand(HEIGHT // 5, WIDTH // 5, generator=torch.Generator().manual_seed(seed))
    return values.repeat_interleave(5, 0).repeat_interleave(5, 1)


FIRST, SECOND, TRUTH = blocks(1), blocks(2), blocks(3)


def solved(image: torch.Tensor, weight: float) -> Solution:
    return solve(
        Identity(tuple(image.shape)),
        TotalVariation(weight=weight),
        image,
        reference=TRUTH,
        stop=MaxIterations(30),
    )


# The browser


def _missing(what: str) -> NoReturn:
    if os.environ.get("RECON_REQUIRE_CHROMIUM") == "1":
        pytest.fail(f"RECON_REQUIRE_CHROMIUM=1, but {what} is not installed")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    browser, driver = (
        shutil.which("chromium") or shutil.which("chromium-browser"),
        shutil.which("chromedriver"),
    )
    if browser is None or driver is None:
        _missing("chromium" if browser is None else "chromium-driver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        _missing("selenium")

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    arguments = ["--headless=new", "--disable-dev-shm-usage", "--force-device-scale-factor=1"]
    arguments += ["--disable-background-networking", "--no-first-run", "--window-size=1280,1000"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to start as root otherwise
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(executable_path=driver))  # nothing to look for
    yield window
    window.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """A desktop window of a light page; afterwards: no complaint on the console, no address but the file's."""
    emulate(chromium, width=1280, scheme="light")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    yield chromium
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert any(address.startswith("file:") for address in asked), "the log sees requests"
    assert [address[:60] for address in asked if not address.startswith(("file:", "data:"))] == []


def emulate(browser: Any, *, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


class Opened:
    """A page in the browser, and its first viewer."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.browser = browser
        browser.get(path.as_uri())
        self.wait(
            lambda: browser.execute_script("return document.querySelector('.viewer output').textContent")
        )

    def wait(self, condition: Callable[[], Any]) -> Any:
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: condition())

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def part(self, name: str) -> Any:
        return self.find(f"[data-part='{name}']")

    def choose(self, part: str, text: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.part(part)).select_by_visible_text(text)

    def type(self, part: str, text: str) -> None:
        box = self.part(part)
        box.clear()
        box.send_keys(text, "\ue004")  # and Tab, which leaves the box

    def seen(self) -> np.ndarray:
        """Grey values on the screen where the images are, in [0, 1]."""
        self.hover(-3, -3)
        picture = Image.open(io.BytesIO(self.find(".frame").screenshot_as_png)).convert("RGB")
        return np.asarray(picture).astype(float) / 255

    def actions(self) -> Any:
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.browser, duration=0)

    def hover(self, x: float, y: float) -> None:
        """Move the pointer to a place in CSS pixels from the top left corner of the images."""
        self.at(self.actions(), x, y).perform()

    def at(self, actions: Any, x: float, y: float) -> Any:
        canvas = self.find(".frame canvas")
        width, height = canvas.size["width"], canvas.size["height"]
        return actions.move_to_element_with_offset(canvas, round(x - width / 2), round(y - height / 2))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        actions = self.at(self.actions(), *start).click_and_hold()
        self.at(actions, *end).release().perform()

    def profile(self, name: str) -> list[np.ndarray]:
        """The lines of a profile as heights on the screen, upwards."""
        lines = self.part(name).find_elements("css selector", "polyline")
        points = [line.get_attribute("points").split() for line in lines]
        return [-np.array([float(point.split(",")[1]) for point in line]) for line in points]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods with histories and the truth, in a window of [0, 1]."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    results = {"First": solved(FIRST, 1e-9), "Second": solved(SECOND, 1e-9)}
    return comparison_report(results, path, TRUTH, window=(0.0, 1.0), unit="1/mm")


@pytest.fixture
def page(browser: Any, report: Path) -> Opened:
    return Opened(browser, report)


def expected(image: torch.Tensor, shape: tuple[int, ...], zoom: float = 1, centre=(HEIGHT / 2, WIDTH / 2)):
    """An image on a screen of that shape with hard pixels, and where it is far enough from a pixel's edge."""
    scale = shape[1] / WIDTH * zoom
    rows = (np.arange(shape[0]) + 0.5 - shape[0] / 2) / scale + centre[0]
    columns = (np.arange(shape[1]) + 0.5 - shape[1] / 2) / scale + centre[1]
    values = image.numpy()[np.clip(rows.astype(int), 0, HEIGHT - 1)][
        :, np.clip(columns.astype(int), 0, WIDTH - 1)
    ]
    sure = [np.abs(place - np.round(place)) > 1.01 / scale for place in (rows, columns)]
    clear = np.ones(shape[:2], dtype=bool) & sure[0][:, None] & sure[1]
    clear[:45] = False  # the names are written there
    clear[-5:] = clear[:, :5] = clear[:, -5:] = False  # rounded corners
    return values, clear


def assert_shows(
    seen: np.ndarray, left: torch.Tensor, right: torch.Tensor, split: float, **view: Any
) -> None:
    """The screen shows `left` to the left of the divider and `right` to its right; the cross is left out."""
    at = split * seen.shape[1]
    place = np.arange(seen.shape[1]) + 0.5
    coloured = np.ptp(seen, axis=2) > 0.02
    near_cross = np.lib.stride_tricks.sliding_window_view(np.pad(coloured, 8), (17, 17)).any((2, 3))
    for image, side in ((left, place < at - 4), (right, place > at + 4)):
        values, clear = expected(image, seen.shape, **view)
        clear = clear & side & ~near_cross
        if side.any():
            assert clear.sum() > 0.3 * side.sum() * seen.shape[0], "there is something to compare"
            assert np.abs(seen[..., 0] - values)[clear].max() < GREY


# The divider


def test_each_image_is_on_its_side_of_the_divider(page: Opened):
    seen = page.seen()
    assert seen.shape[0] == pytest.approx(seen.shape[1] * HEIGHT / WIDTH, abs=1)
    assert_shows(seen, FIRST, SECOND, 0.5)


def test_the_divider_obeys_keys(page: Opened):
    slider = page.part("divider")
    slider.send_keys("\ue010")  # End
    assert_shows(page.seen(), FIRST, FIRST, 1.0)
    assert slider.get_attribute("aria-valuetext") == "100 % First, the rest Second"
    slider.send_keys("\ue011")  # Home
    assert_shows(page.seen(), SECOND, SECOND, 0.0)
    slider.send_keys(*["\ue014"] * 5)  # right, a thousandth each
    assert int(slider.get_attribute("value")) == 5
    page.browser.execute_script(
        "arguments[0].value = 250; arguments[0].dispatchEvent(new Event('input'))", slider
    )
    assert_shows(page.seen(), FIRST, SECOND, 0.25)


def test_the_divider_is_dragged(page: Opened):
    width = page.find(".frame").size["width"]
    page.drag((width / 2, 200), (width * 0.8, 210))
    assert_shows(page.seen(), FIRST, SECOND, 0.8)
    assert int(page.part("divider").get_attribute("value")) == pytest.approx(800, abs=3)


def test_both_sides_are_chosen_from_a_list(page: Opened):
    page.choose("left", "Reference")
    page.choose("right", "First")
    assert_shows(page.seen(), TRUTH, FIRST, 0.5)
    assert page.find(".tag.left").text == "Reference"
    assert page.find(".tag.right").text == "First"


def test_both_sides_are_drawn_in_the_window_that_is_typed(page: Opened):
    page.type("low", "0.25")
    page.type("high", "0.75")
    assert_shows(page.seen(), (2 * FIRST - 0.5).clamp(0, 1), (2 * SECOND - 0.5).clamp(0, 1), 0.5)
    page.type("low", "0.8")  # above white: refused
    assert_shows(page.seen(), (2 * FIRST - 0.5).clamp(0, 1), (2 * SECOND - 0.5).clamp(0, 1), 0.5)
    page.part("window").click()
    assert_shows(page.seen(), FIRST, SECOND, 0.5)


# Zoom


def test_zoom_keeps_the_sides_in_step_and_pixels_sharp(page: Opened):
    page.part("in").click()
    page.part("in").click()
    assert page.part("zoom").text == "\N{MULTIPLICATION SIGN}2.3"
    assert_shows(page.seen(), FIRST, SECOND, 0.5, zoom=2.25)
    page.part("out").click()
    assert_shows(page.seen(), FIRST, SECOND, 0.5, zoom=1.5)
    page.part("fit").click()
    assert_shows(page.seen(), FIRST, SECOND, 0.5)


def test_a_double_click_enlarges_what_is_under_it(page: Opened):
    width, height = page.find(".frame").size["width"], page.find(".frame").size["height"]
    page.at(page.actions(), width / 4, height / 4).double_click().perform()
    assert page.part("zoom").text == "\N{MULTIPLICATION SIGN}2.0"
    # what was at a quarter stays at a quarter
    assert_shows(page.seen(), FIRST, SECOND, 0.5, zoom=2, centre=(HEIGHT * 3 / 8, WIDTH * 3 / 8))


def test_the_wheel_zooms_and_dragging_pans(page: Opened):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    page.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", page.find(".frame"))
    page.actions().scroll_from_origin(ScrollOrigin.from_element(page.find("canvas")), 0, -500).perform()
    page.wait(lambda: page.part("zoom").text == "\N{MULTIPLICATION SIGN}2.7")  # exp(500 * 0.002)
    zoom = float(np.exp(1))
    width = page.find(".frame").size["width"]
    page.drag((width * 0.3, 200), (width * 0.3 + 40, 150))
    scale = width / WIDTH * zoom
    centre = (HEIGHT / 2 + 50 / scale, WIDTH / 2 - 40 / scale)
    assert_shows(page.seen(), FIRST, SECOND, 0.5, zoom=zoom, centre=centre)
    page.drag((width * 0.3, 100), (width * 0.3, 400))
    page.drag((width * 0.3, 100), (width * 0.3, 400))
    page.drag((width * 0.3, 100), (width * 0.3, 400))  # it ends at the border of the image
    assert_shows(page.seen(), FIRST, SECOND, 0.5, zoom=zoom, centre=(HEIGHT / zoom / 2, centre[1]))


# Values and profiles


def read_out(page: Opened) -> dict[str, list[float]]:
    rows = page.part("read-out").find_elements("css selector", "tr")
    texts = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
    return {
        name: [float(text.replace("\N{MINUS SIGN}", "-")) for text in cells if text] for name, *cells in texts
    }


def test_the_pixel_under_the_pointer_is_read_out(page: Opened):
    scale = page.find(".frame").size["width"] / WIDTH
    page.hover((33 + 0.5) * scale, (12 + 0.5) * scale)
    assert page.part("where").text == "Under the pointer: row 12, column 33"
    values = read_out(page)
    for name, image in (("First", FIRST), ("Second", SECOND), ("Reference", TRUTH)):
        assert values[name][0] == pytest.approx(float(image[12, 33]), abs=1e-4)  # four digits
    assert values["First"][1] == pytest.approx(float(FIRST[12, 33] - TRUTH[12, 33]), abs=1e-4)
    page.hover(-3, -3)
    assert page.part("where").text == f"At the cross: row {HEIGHT // 2}, column {WIDTH // 2}"


def test_values_are_read_out_no_finer_than_the_page_holds_them(browser: Any, tmp_path: Path):
    image = torch.full((600, 600), 26.0)
    image[0, 0], image[0, 1] = -1000.0, 3000.0  # 14 bits: steps of 0.24
    page = Opened(browser, comparison_report({"HU": image, "flat": 0 * image + 0.125}, tmp_path / "r.html"))
    texts = [cell.text for cell in page.part("read-out").find_elements("css selector", "td")]
    assert re.fullmatch(r"2[56]\.\d", texts[0])
    assert float(texts[0]) == pytest.approx(26.0, abs=0.12 + 0.05)  # half a step, and a rounded tenth
    assert texts[1] == "0.1250", "a constant is exact"


def assert_profile(lines: list[np.ndarray], images: list[np.ndarray]) -> None:
    """Each line has the heights of the values of its image, all on one straight scale."""
    heights, values = np.concatenate(lines), np.concatenate(images)
    slope, start = np.polyfit(values, heights, 1)
    assert slope > 0
    assert np.abs(slope * values + start - heights).max() < 0.15  # rounded to a tenth of a pixel


def test_profiles_follow_the_cross(page: Opened):
    page.type("row", "3")
    page.type("column", "22")
    assert page.part("along-row").text == "Along row 3"
    images = [TRUTH.numpy(), FIRST.numpy(), SECOND.numpy()]  # what is compared lies on top
    assert_profile(page.profile("row-profile"), [image[3] for image in images])
    assert_profile(page.profile("column-profile"), [image[:, 22] for image in images])
    scale = page.find(".frame").size["width"] / WIDTH
    page.at(page.actions(), (7 + 0.5) * scale, (28 + 0.5) * scale).click().perform()
    assert_profile(page.profile("row-profile"), [image[28] for image in images])
    page.find("canvas").send_keys("\ue013", "\ue014", "\ue014")  # up, right, right
    assert page.part("along-row").text == "Along row 27"
    assert page.part("along-column").text == "Along column 9"
    assert page.part("status").get_attribute("textContent").startswith("Row 27, column 9: First 0.")


def test_profiles_show_what_is_seen_of_the_image(page: Opened):
    page.find("canvas").send_keys("+", "+")
    seen = slice(11, 30)  # 40 columns at 2.25 times around 20.5, which stays: from 11.4 to 29.2
    page.type("row", "14")
    assert_profile(page.profile("row-profile"), [image[14, seen].numpy() for image in (TRUTH, FIRST, SECOND)])
    page.find("canvas").send_keys("0")
    assert page.part("zoom").text == "\N{MULTIPLICATION SIGN}1.0"


def test_items_of_a_batch_are_chosen_from_a_list(browser: Any, tmp_path: Path):
    path = comparison_report(
        {"Batch": torch.stack([FIRST, SECOND])}, tmp_path / "r.html", TRUTH, window=(0.0, 1.0)
    )
    page = Opened(browser, path)
    assert_shows(page.seen(), FIRST, TRUTH, 0.5)
    page.choose("stack", "item 1")
    page.wait(lambda: np.abs(page.seen()[100, 20, 0] - float(SECOND[6, 1])) < GREY)
    assert_shows(page.seen(), SECOND, TRUTH, 0.5)


def test_one_image_has_no_divider_but_all_the_rest(browser: Any, tmp_path: Path):
    page = Opened(browser, comparison_report({"Alone": FIRST}, tmp_path / "r.html", window=(0.0, 1.0)))
    assert_shows(page.seen(), FIRST, FIRST, 1.0)
    assert not page.part("divider").is_displayed()
    assert not page.part("left").is_displayed()
    page.part("in").click()
    assert_shows(page.seen(), FIRST, FIRST, 1.0, zoom=1.5)


# Readers and their devices


def _luminance(colour: str) -> float:
    levels = np.array([float(level) for level in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_text_is_legible_on_light_and_on_dark_ground(browser: Any, report: Path, scheme: str, dark: bool):
    emulate(browser, width=1280, scheme=scheme)
    page = Opened(browser, report)

    def style(element: Any, name: str) -> str:
        return browser.execute_script("return getComputedStyle(arguments[0])[arguments[1]]", element, name)

    ground = _luminance(style(page.find("body"), "backgroundColor"))
    assert (ground < 0.05) if dark else (ground > 0.9)
    for selector in (
        "h1",
        ".summary",
        "td.best",
        "thead th",
        ".notes",
        ".scale",
        ".keys",
        "label",
        "button",
        "select",
    ):
        ink = _luminance(style(page.find(selector), "color"))
        contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
        assert contrast >= 4.5, f"{selector} in {scheme}: WCAG 2 AA asks for 4.5, got {contrast:.2f}"
    plots = page.browser.find_elements("css selector", ".plot img")
    shown = {
        browser.execute_script("return arguments[0].currentSrc === arguments[0].src", plot)
        for plot in plots[-2:]
    }
    assert shown == {not dark}, "plots have a version for each"


@pytest.mark.parametrize("width", [320, 390, 800])
def test_a_narrow_page_does_not_scroll_sideways(browser: Any, report: Path, width: int):
    emulate(browser, width=width, scheme="light")
    page = Opened(browser, report)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    frame = page.find(".frame").rect
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= width
    assert_shows(page.seen(), FIRST, SECOND, 0.5)


def test_every_control_has_a_name(page: Opened):
    for control in page.browser.find_elements("css selector", "input, select, button, canvas, svg"):
        if control.is_displayed():
            assert control.accessible_name.strip(), control.get_attribute("outerHTML")


def test_without_scripts_the_pictures_and_profiles_remain(browser: Any, report: Path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(report.as_uri())
        assert not browser.find_element("css selector", ".viewer").is_displayed()
        assert browser.find_element("css selector", ".fallback").is_displayed()
        pictures = browser.find_elements("css selector", ".picture img")
        assert len(pictures) == 5
        assert all(picture.is_displayed() and picture.size["width"] > 100 for picture in pictures)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    page = Opened(browser, report)
    assert not page.find(".fallback").is_displayed(), "the profiles that follow the cross take their place"


def test_a_browser_that_cannot_unpack_values_still_compares(browser: Any, report: Path):
    script = browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete window.DecompressionStream"}
    )
    try:
        page = Opened(browser, report)
        assert "The values cannot be read here" in page.part("trouble").text
        assert page.find(".fallback").is_displayed()
        assert not page.part("read-out").is_displayed()
        assert_shows(page.seen(), FIRST, SECOND, 0.5)
        page.part("in").click()
        assert_shows(page.seen(), FIRST, SECOND, 0.5, zoom=1.5)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_page_forbids_itself_the_network(chromium: Any, report: Path):
    """Its own policy stops what a later change of the page might ask for."""
    page = Opened(chromium, report)
    refused = page.browser.execute_async_script(
        """
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        new Image().src = "https://example.org/picture.png";
        """
    )
    assert refused == "img-src"


def test_every_embedded_picture_is_drawn(page: Opened):
    sizes = page.browser.execute_script(
        "return [...document.querySelectorAll('img')].map(image => [image.naturalWidth, +image.getAttribute('width')])"
    )
    assert len(sizes) > 10
    assert all(natural == said > 0 for natural, said in sizes)
    png = page.browser.execute_script("return document.querySelector('.picture img').src").split(",")[1]
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))).shape == (HEIGHT, WIDTH)
