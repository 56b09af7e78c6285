"""The demonstration: four reconstructions from the real scans and photographs that ship with the plugins.

Operators, priors and samples are made by name, as any user of the registry would; nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon import registry
from recon.files import written_whole
from recon.loading import Loaded
from recon.metrics import PSNR, RMSEHU, SSIM, Metric, Score
from recon.parameters import plain
from recon.report import (
    Figure,
    Record,
    Report,
    Section,
    Table,
    common_differences,
    grey_figure,
    grey_figures,
    save_comparison,
    viewer_of,
    write_report,
)
from recon.report.figures import Window
from recon.solution import Solution
from recon.solving import solve

SEED = 0
RECORD = "results.json"
FORMAT = "recon demo 1"

WATER = 0.02  # 1/mm
VIEWS, PHOTONS = 60, 1e5
ACCELERATION, FULL_LINES, DENSITY_WIDTH = 4, 20, 1 / 6
MISSING, NOISE = 0.5, 0.05
FACTOR = 4
_SINOGRAM_ROWS = 8
_SHORT = 0.1  # s
TRUTH = "Truth"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one method made of a problem.

    Attributes:
        method: its name.
        image: in the unit of its `Case`.
        seconds: wall time of the reconstruction, the search for the weight included.
        scores: with their conventions.
        note: how it ended.
    """

    method: str
    image: Tensor
    seconds: float
    scores: dict[str, Score]
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One problem: what was measured, the truth, and what each method made of it.

    Attributes:
        name: of its files.
        title: for people.
        text: what was done, and whose data these are.
        truth: the image that the measurement was made of, in `unit`.
        unit: of the values shown and scored; "" for photographs between 0 and 1.
        window: black and white in the pictures.
        measured: picture of what was measured, with its title.
        results: the direct reconstruction first, then total variation.
    """

    name: str
    title: str
    text: str
    truth: Tensor
    unit: str
    window: Window
    measured: Figure
    results: tuple[Result, ...]


def run(
    folder: str | Path, tell: Callable[[str], None] | None = None, progress: bool | None = None
) -> list[Case]:
    """Solve the four problems and write pictures, results.json and report.html into a folder.

    Args:
        folder: where to; it is made.
        tell: hears a line about what is being done.
        progress: show progress bars; None: on a terminal.
    """
    folder = Path(folder)
    began = time.perf_counter()
    cases = []
    for number, make in enumerate(CASES, 1):
        if tell is not None:
            tell(f"{number} of {len(CASES)}: {make.__doc__}")
        case = make(progress)
        save_comparison(
            folder / f"{case.name}.png",
            {result.method: result.image for result in case.results},
            case.truth,
            case.window,
            case.unit,
            scores={result.method: list(result.scores.values()) for result in case.results},
            differences=True,
        )
        cases.append(case)
    seconds = time.perf_counter() - began
    with written_whole(folder / RECORD) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **as_dict(cases, seconds)}, indent=2), "utf-8")
    write_report(folder / "report.html", _report(cases, seconds))
    return cases


def as_dict(cases: Sequence[Case], seconds: float) -> dict[str, Any]:
    """Every number of a run, with its convention, as JSON-ready values."""
    return {
        "seconds": seconds,
        "results": [
            {
                "problem": case.name,
                "method": result.method,
                "seconds": result.seconds,
                "note": result.note,
                **{name: plain(float(score.value)) for name, score in result.scores.items()},
                "conventions": {name: score.convention for name, score in result.scores.items()},
            }
            for case in cases
            for result in case.results
        ],
    }


def rows(cases: Sequence[Case]) -> Iterator[tuple[str, ...]]:
    """The table of results, a row a method: problem, method, PSNR, SSIM, RMSE, seconds."""
    for case in cases:
        for result in case.results:
            rmse = result.scores.get("rmse_hu")
            yield (
                case.title,
                result.method,
                f"{float(result.scores['psnr'].value):.2f} dB",
                f"{float(result.scores['ssim'].value):.3f}",
                f"{float(rmse.value):.1f} {rmse.unit}" if rmse else "",
                f"{result.seconds:.2f}" if result.seconds >= _SHORT else f"{result.seconds:.3f}",
            )


COLUMNS = ("problem", "method", "PSNR", "SSIM", "RMSE", "seconds")


def conventions(cases: Sequence[Case]) -> list[str]:
    """What has to be known to compare the numbers: a line for each metric and convention."""
    titles: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        for score in case.results[0].scores.values():
            name = {"rmse_hu": "RMSE"}.get(score.name, score.name.upper())
            titles.setdefault((name, score.convention), []).append(case.title)
    return [f"{name} of {' and '.join(among)}: {convention}" for (name, convention), among in titles.items()]


def computed_tomography(progress: bool | None) -> Case:
    """CT: a chest slice from 60 noisy views."""
    sample = _sample("ct_chest")
    assert sample.pixel_size is not None and sample.valid is not None, "a CT slice in DICOM has both"
    attenuation = sample.attenuation(water=WATER)
    operator = registry.make(
        "operator",
        "ct_parallel",
        shape=tuple(attenuation.shape),
        pixel_size=sample.pixel_size[0],
        angles=VIEWS,
    )
    noise = registry.make("noise", "poisson", photons=PHOTONS)
    sinogram = operator.measure(attenuation, noise=noise, seed=SEED)
    began = time.perf_counter()
    filtered = operator.pinv(sinogram, filter="hann", cutoff=0.5)
    seconds = time.perf_counter() - began
    solution = solve(operator, "tv", sinogram, seed=SEED, progress=progress)
    window: dict[str, Any] = {"data_range": 2000.0, "clip": (-1000.0, 1000.0)}
    inside: dict[str, Any] = {"water": WATER, "region": sample.valid}
    metrics = (PSNR(**window, **inside), SSIM(**window, **inside), RMSEHU(**inside))
    return Case(
        name="ct",
        title=f"CT from {VIEWS} views",
        text=f"{_credit(sample)}\n\n"
        f"The slice, {_size(attenuation)} pixels of {sample.pixel_size[0]:g} mm, is turned into attenuation "
        f"with water at {WATER:g} 1/mm and projected in parallel beams at {VIEWS} angles over 180 degrees "
        f"onto {sinogram.shape[-1]} detector elements; {noise.description}. FBP is filtered back-projection with "
        "a Hann window that ends at half the Nyquist frequency, which suits this noise far better than the "
        "bare ramp. Scores and pictures are in HU; the scores count the scanner's round field of view only.",
        truth=_hounsfield(attenuation),
        unit="HU",
        window=(-1000.0, 500.0),
        measured=grey_figure(
            sinogram.repeat_interleave(_SINOGRAM_ROWS, 0),
            f"Measured: sinogram, {_SINOGRAM_ROWS} rows of pixels a view",
        ),
        results=(
            _result("FBP, Hann", filtered, attenuation, metrics, seconds, "one step", _hounsfield),
            _solved("TV", solution, attenuation, metrics, _hounsfield),
        ),
    )


def magnetic_resonance(progress: bool | None) -> Case:
    """MRI: a brain from a quarter of its k-space."""
    sample = _sample("kspace_brain")
    kspace = sample.data.to(torch.complex64)
    mask = random_lines(kspace.shape, kspace.shape[0] // ACCELERATION, FULL_LINES, seed=SEED)
    everything = registry.make("operator", "mri_cartesian", mask=torch.ones(kspace.shape))
    operator = registry.make("operator", "mri_cartesian", mask=mask)
    truth = everything.pinv(kspace)
    measured = kspace * mask
    began = time.perf_counter()
    zero_filled = operator.pinv(measured)
    seconds = time.perf_counter() - began
    solution = solve(operator, ("tv", {"boundary": "periodic"}), measured, seed=SEED, progress=progress)
    metrics = (PSNR(data_range="max"), SSIM(data_range="max"))
    lines = int(mask[:, 0].sum())
    return Case(
        name="mri",
        title=f"MRI, {ACCELERATION} times undersampled",
        text=f"{_credit(sample)}\n\n"
        f"The k-space was measured in full on a scanner ({_size(kspace)} samples, one channel). {lines} of "
        f"its {kspace.shape[0]} lines are kept: the {FULL_LINES} in the middle, and others at random, denser "
        "towards the middle. No noise is added: there is the scanner's own, in the data and in the image of "
        "the full k-space that serves as the truth. Total variation removes some of it, which no score "
        "against a noisy truth rewards. Pictures and scores are of the magnitude.",
        truth=truth,
        unit="",
        window=(0.0, float(truth.abs().quantile(0.995))),
        measured=grey_figure(mask, "Measured: the white lines of k-space", window=(0.0, 1.0)),
        results=(
            _result("zero-filled", zero_filled, truth, metrics, seconds, "one step"),
            _solved("TV", solution, truth, metrics),
        ),
    )


def inpainting(progress: bool | None) -> Case:
    """Inpainting: a photograph of which half the pixels are missing."""
    sample = _sample("chelsea")
    truth = sample.data.mean(0)
    generator = torch.Generator().manual_seed(SEED)
    mask = (torch.rand(truth.shape, generator=generator) >= MISSING).to(torch.float32)
    operator = registry.make("operator", "mask", mask=mask)
    noise = registry.make("noise", "gaussian", std=NOISE)
    measured = operator.measure(truth, noise=noise, seed=SEED)
    began = time.perf_counter()
    filled = operator.pinv(measured)
    seconds = time.perf_counter() - began
    solution = solve(operator, "tv", measured, seed=SEED, progress=progress)
    return _photograph(
        sample,
        name="inpainting",
        title="inpainting, half missing",
        text=f"Of the photograph, the mean of its three colours, {1 - float(mask.mean()):.1%} of the "
        f"{_size(truth)} pixels are missing at random, and the others carry {noise.description} (white is "
        "1). Interpolation fills the holes smoothly from their neighbours and takes measured pixels as they "
        "are, noise and all.",
        truth=truth,
        measured=grey_figure(measured, "Measured: missing pixels are black", window=(0.0, 1.0)),
        direct=("interpolation", filled, seconds),
        solution=solution,
    )


def super_resolution(progress: bool | None) -> Case:
    """Super-resolution: a photograph from one pixel in sixteen."""
    sample = _sample("camera")
    truth = sample.data
    operator = registry.make("operator", "downsample", shape=tuple(truth.shape), factor=FACTOR)
    measured = operator.measure(truth)
    began = time.perf_counter()
    enlarged = operator.pinv(measured)
    seconds = time.perf_counter() - began
    solution = solve(operator, "tv", measured, seed=SEED, progress=progress)
    return _photograph(
        sample,
        name="super_resolution",
        title=f"super-resolution x{FACTOR}",
        text=f"The photograph of {_size(truth)} pixels is reduced {FACTOR} times in height and width with a "
        f"Lanczos kernel, to {_size(measured)} pixels; no noise is added. The direct way back is "
        "interpolation with the same kernel.",
        truth=truth,
        measured=grey_figure(measured, "Measured: the small photograph", window=(0.0, 1.0)),
        direct=("Lanczos", enlarged, seconds),
        solution=solution,
    )


CASES = (computed_tomography, magnetic_resonance, inpainting, super_resolution)


def random_lines(shape: Sequence[int], lines: int, full: int, *, seed: int) -> Tensor:
    """A mask of k-space `(height, width)`: rows `full` in the middle, the rest of `lines` at random.

    The other rows are drawn without replacement from a Gaussian density around the middle.
    """
    height, width = shape
    generator = torch.Generator().manual_seed(seed)
    density = torch.exp(-0.5 * ((torch.arange(height) - height // 2) / (DENSITY_WIDTH * height)) ** 2)
    start = height // 2 - full // 2
    density[start : start + full] = 0
    rows = torch.zeros(height)
    rows[start : start + full] = 1
    rows[torch.multinomial(density, lines - full, generator=generator)] = 1
    return rows[:, None].expand(height, width).contiguous()


def _photograph(
    sample: Loaded,
    *,
    name: str,
    title: str,
    text: str,
    truth: Tensor,
    measured: Figure,
    direct: tuple[str, Tensor, float],
    solution: Solution,
) -> Case:
    """A case on a photograph between 0 and 1."""
    metrics = (PSNR(data_range=1.0), SSIM(data_range=1.0))
    method, image, seconds = direct
    return Case(
        name=name,
        title=title,
        text=f"{_credit(sample)}\n\n{text}",
        truth=truth,
        unit="",
        window=(0.0, 1.0),
        measured=measured,
        results=(
            _result(method, image, truth, metrics, seconds, "one step"),
            _solved("TV", solution, truth, metrics),
        ),
    )


def _as_is(image: Tensor) -> Tensor:
    return image


def _solved(
    method: str,
    solution: Solution,
    truth: Tensor,
    metrics: Sequence[Metric],
    shown: Callable[[Tensor], Tensor] = _as_is,
) -> Result:
    end = "converged" if solution.converged else "not converged"
    weight = f"weight {solution.weight:.3g} from the noise level"
    note = f"{solution.iterations} iterations, {end} ({solution.reason}); {weight}"
    return _result(method, solution.image, truth, metrics, solution.seconds, note, shown)


def _result(
    method: str,
    image: Tensor,
    truth: Tensor,
    metrics: Sequence[Metric],
    seconds: float,
    note: str,
    shown: Callable[[Tensor], Tensor] = _as_is,
) -> Result:
    """A result scored in the unit of the measurement, and shown in that of its case."""
    scores = {metric.name: metric.score(image, truth) for metric in metrics}
    return Result(method=method, image=shown(image), seconds=seconds, scores=scores, note=note)


def _sample(name: str) -> Loaded:
    loaded: Loaded = registry.make("dataset", name)
    return loaded


def _credit(sample: Loaded) -> str:
    about = sample.attributes
    return f"{about['title']}. Credit: {about['credit']}. Licence: {about['licence']}."


def _hounsfield(attenuation: Tensor) -> Tensor:
    return 1000 * (attenuation - WATER) / WATER


def _size(image: Tensor) -> str:
    return f"{image.shape[-2]} x {image.shape[-1]}"


def _label(result: Result) -> str:
    return f"{result.method}: {float(result.scores['psnr'].value):.2f} dB"


def _report(cases: Sequence[Case], seconds: float) -> Report:
    table = Table(
        columns=COLUMNS,
        rows=[
            (*row[:2], *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in row[2:])) for row in rows(cases)
        ],
        caption="Each problem solved directly and with total variation (TV), whose weight is chosen from the "
        "noise level; seconds of the reconstruction alone",
        notes=conventions(cases),
    )
    from recon.provenance import environment

    return Report(
        title="recon: real data, four problems, one solve",
        summary='The four "TV" images below come from the same call, recon.solve(operator, "tv", data). '
        f"Measuring, solving, scoring and drawing took {seconds:.0f} s on this machine.",
        sections=[Section(title="Results", tables=[table]), *map(_section, cases)],
        provenance=[Record(title="This run", values={"seed": SEED, **environment()})],
    )


def _section(case: Case) -> Section:
    """Reconstructions and truth in one window and under one divider; the differences, all on one scale."""
    images = {result.method: result.image for result in case.results}
    layers = {**images, TRUTH: case.truth}
    labels = {result.method: _label(result) for result in case.results}
    pictures = grey_figures(layers, case.window, case.unit, labels)
    differences = common_differences(images, case.truth, case.unit, truth="truth")
    ends = "; ".join(f"{result.method}: {result.note}" for result in case.results)
    return Section(
        title=case.title[0].upper() + case.title[1:],
        text=f"{case.text}\n\n{ends}.",
        figures=[*pictures.values(), *differences, case.measured],
        figures_per_row=3,
        viewer=viewer_of(
            {case.title: (layers, pictures, case.window)},
            unit=case.unit,
            reference=TRUTH,
            left=0,
            right=len(images) - 1,
            title=f"Compare {', '.join(layers)}",
        ),
    )
