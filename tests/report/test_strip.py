"""The strip of images side by side: one window, names, scores with their conventions, a length."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon.linear import Identity
from recon.metrics import MSE, PSNR, SSIM, evaluate
from recon.report import save_comparison
from recon.solving import solve


def ramp(height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.linspace(0, 1, height * width).reshape(height, width)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects every text on the pictures that are drawn from now on."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    found: list[str] = []
    save = Figure.savefig

    def saving(self, *args, **kwargs):
        save(self, *args, **kwargs)
        found.extend(text.get_text() for text in self.findobj(Text) if text.get_text())

    monkeypatch.setattr(Figure, "savefig", saving)
    return found


def test_the_strip_grows_with_its_images(tmp_path: Path):
    one = pixels(save_comparison(tmp_path / "one.png", {"a": ramp()}))
    three = pixels(save_comparison(tmp_path / "three.png", {"a": ramp(), "b": ramp(), "c": ramp()}))
    assert three.shape[1] > 2 * one.shape[1]
    assert three.shape[0] == one.shape[0]


def test_every_panel_is_drawn_in_the_same_window(tmp_path: Path):
    images = {"low": torch.full((32, 32), 0.25), "high": torch.full((32, 32), 0.75)}
    picture = pixels(save_comparison(tmp_path / "s.png", images, window=(0.0, 1.0)))
    middle = picture[picture.shape[0] // 2]
    for grey in (0.25, 0.75):
        assert (np.abs(middle - 255 * grey).max(1) <= 1).sum() > 200, "most of the width of a panel"


def test_scores_stand_under_their_panels_and_conventions_below(tmp_path: Path, monkeypatch):
    found = texts(monkeypatch)
    image = ramp() + 0.1 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    save_comparison(tmp_path / "s.png", {"noisy": image, "flat": 0 * ramp() + 0.5}, ramp(), unit="1/mm")
    metrics = (PSNR(data_range="max-min"), SSIM(data_range="max-min"))
    psnr, ssim = evaluate(image, ramp(), metrics)
    assert f"PSNR {float(psnr.value):.2f} dB   SSIM {float(ssim.value):.3f}" in found
    assert f"PSNR: {psnr.convention}\nSSIM: {ssim.convention}" in found
    assert [text for text in found if text in ("noisy", "flat", "reference")] == [
        "noisy",
        "flat",
        "reference",
    ]
    assert "1/mm" in found


def test_metrics_and_scores_may_be_given(tmp_path: Path, monkeypatch):
    found = texts(monkeypatch)
    save_comparison(tmp_path / "s.png", {"a": ramp() + 0.5}, ramp(), metrics=[MSE()])
    assert "MSE 0.25" in found
    scores = {"a": evaluate(ramp() + 0.1, ramp(), [PSNR(data_range=1.0)])}
    save_comparison(tmp_path / "s.png", {"a": ramp() + 0.5}, ramp(), scores=scores)
    assert "PSNR 20.00 dB" in found


def test_differences_are_a_second_row_on_one_scale(tmp_path: Path):
    images = {"near": ramp() + 0.1, "far": ramp() - 0.2}
    alone = pixels(save_comparison(tmp_path / "a.png", images, ramp()))
    both = pixels(save_comparison(tmp_path / "b.png", images, ramp(), differences=True))
    assert both.shape[0] > 1.7 * alone.shape[0]
    assert (np.ptp(alone, axis=2) > 30).sum() == 0
    row = both[int(0.65 * both.shape[0])]
    red, blue = row[:, 0] - row[:, 2] > 30, row[:, 2] - row[:, 0] > 30
    assert red.sum() > 200
    assert blue.sum() > 200
    assert row[blue].mean() < row[red].mean(), "twice the difference is the stronger colour"


def test_a_solution_is_shown_by_its_first_item(tmp_path: Path, monkeypatch):
    found = texts(monkeypatch)
    batch = torch.stack([ramp(), 1 - ramp()])
    solution = solve(Identity((32, 32)), None, batch)
    path = save_comparison(tmp_path / "s.png", {"direct": solution, "data": batch}, batch, window=(0, 1))
    assert "direct (item 0 of 2)" in found
    assert "data (item 0 of 2)" in found, "an array beside a solution is a batch as it is"
    psnr = [text for text in found if text.startswith("PSNR ")]
    assert psnr == ["PSNR inf dB   SSIM 1.000", "PSNR inf dB   SSIM 1.000"]
    assert path.suffix == ".png"


def test_volumes_and_complex_images_say_what_is_shown(tmp_path: Path, monkeypatch):
    found = texts(monkeypatch)
    volume = torch.polar(torch.stack([ramp()] * 5), torch.ones(5, 32, 32))
    save_comparison(tmp_path / "s.png", {"volume": volume}, volume.abs())
    assert "volume (slice 3 of 5, magnitude)" in found


@pytest.mark.parametrize(
    ("width", "pixel_size", "length"), [(32, 1.0, "10 mm"), (512, 0.64, "100 mm"), (300, 0.0013, "0.1 mm")]
)
def test_the_bar_has_a_round_length(tmp_path: Path, monkeypatch, width, pixel_size, length):
    from matplotlib.patches import Rectangle

    found, bars = texts(monkeypatch), []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.add_patch",
        lambda self, patch: bars.append(patch) if isinstance(patch, Rectangle) else 0,
    )
    save_comparison(tmp_path / "s.png", {"a": ramp(width, width)}, pixel_size=pixel_size)
    assert length in found
    (bar,) = [bar for bar in bars if bar.get_width() > 1.5]
    assert bar.get_width() * pixel_size == pytest.approx(float(length.split()[0]))


def test_bad_calls_are_refused_and_leave_nothing(tmp_path: Path):
    path = tmp_path / "new" / "s.png"
    for arguments, message in (
        (({},), "needs an image"),
        (({"a": ramp(), "b": ramp(32, 16)},), r"a \(32, 32\), b \(32, 16\)"),
        (
            ({"a": ramp()}, ramp(8, 8)),
            r"shape \(32, 32\) cannot be compared with a reference of shape \(8, 8\)",
        ),
        (({"a": torch.full((4, 4), torch.nan)},), "a: 16 of the image's 16 pixels are NaN"),
        (({"a": ramp()}, None, (1.0, 1.0)), "black < white"),
        (({"a": torch.zeros(5)},), r"a: a picture needs an image .* got shape \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            save_comparison(path, *arguments)
    with pytest.raises(ValueError, match="give reference="):
        save_comparison(path, {"a": ramp()}, differences=True)
    with pytest.raises(ValueError, match="pixel_size"):
        save_comparison(path, {"a": ramp()}, pixel_size=0.0)
    with pytest.raises(ValueError, match=r"s\.jpg does not end in \.png"):
        save_comparison(path.with_suffix(".jpg"), {"a": ramp()})
    assert not path.parent.exists()


def test_an_error_while_writing_leaves_the_old_picture(tmp_path: Path, monkeypatch):
    path = save_comparison(tmp_path / "s.png", {"a": ramp()})
    before = path.read_bytes()

    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_comparison(path, {"a": 1 - ramp()})
    assert [item.name for item in tmp_path.iterdir()] == ["s.png"]
    assert path.read_bytes() == before
