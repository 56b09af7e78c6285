"""How a trained prior fares away from its training: other operators, noise and anatomy, beside classical priors."""

from __future__ import annotations

import json
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon import making, registry
from recon.files import written_whole
from recon.learned import LearnedPrior
from recon.linear import LinearOperator
from recon.metrics import PSNR, SSIM
from recon.model_files import load_model
from recon.priors import Prior
from recon.simulate import as_noise
from recon.solving import ConvergenceWarning, solve

MODEL = "model"


@dataclass(frozen=True)
class Condition:
    """One way to measure one image.

    Attributes:
        image: its name.
        operator: a spec, or the label of an object.
        noise: a spec, "" for none.
        trained: whether operator and noise are those of the training.
    """

    image: str
    operator: str
    noise: str
    trained: bool

    @property
    def label(self) -> str:
        """In one line."""
        return ", ".join(part for part in (self.image, self.operator, self.noise or "no noise") if part)


@dataclass(frozen=True)
class Point:
    """What one method gave under one condition: PSNR [dB] and SSIM of the magnitude, range of the true image."""

    condition: Condition
    method: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Shift:
    """A model's scores under all conditions.

    Attributes:
        points: one a condition and method.
        operator: spec of the operator of the training.
        noise: spec of its noise.
    """

    points: list[Point]
    operator: str
    noise: str

    def gains(self) -> dict[str, float]:
        """How much better the model is than the best other method [dB]: least and mean over the conditions."""
        gaps = []
        for condition in self.conditions():
            scores = self.scores(condition)
            others = [psnr for name, psnr in scores.items() if name != MODEL]
            if MODEL in scores and others:
                gaps.append(scores[MODEL] - max(others))
        return {"least": min(gaps), "mean": sum(gaps) / len(gaps)} if gaps else {}

    def conditions(self) -> list[Condition]:
        """The conditions, in the order in which they were measured."""
        return list(dict.fromkeys(point.condition for point in self.points))

    def methods(self) -> list[str]:
        """The methods, the model first."""
        return list(dict.fromkeys(point.method for point in self.points))

    def scores(self, condition: Condition) -> dict[str, float]:
        """PSNR [dB] of every method under a condition."""
        return {point.method: point.psnr for point in self.points if point.condition == condition}


def measure_shift(
    model: str | Path,
    images: Mapping[str, Tensor],
    operators: Sequence[str] = (),
    noises: Sequence[str] = (),
    priors: Sequence[str] = ("tv",),
    *,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> Shift:
    """Reconstruct every image under the model's own condition and all others.

    Args:
        model: folder of the model.
        images: true images by name, in the model's unit, one item each.
        operators: specs, to which the image's shape is added where they need one; the model's own comes first
            where its card knows it.
        noises: specs of the noise; the model's own comes first. "none" is none.
        priors: what to compare with, by name; their weights are chosen from the noise level.
        seed: of the noise.
        report: told what is being computed.

    Raises:
        ValueError: no image, or no operator: the card knows none and none is given.
    """
    if not images:
        raise ValueError("there is no image to measure on: give --image FILE")
    prior = load_model(Path(model), any_operator=True)
    own_operator, own_noise = _trained_on(prior.card)
    specs = list(dict.fromkeys([*([own_operator] if own_operator else []), *operators]))
    levels = list(dict.fromkeys([own_noise, *("" if noise == "none" else noise for noise in noises)]))
    if not specs:
        raise ValueError(f"the card of {model} knows no operator: give one, --op SPEC")
    points = []
    for name, image in images.items():
        for spec in specs:
            op = _operator(spec, tuple(image.shape), prior.card)
            for noise in levels:
                condition = Condition(name, spec, noise, spec == own_operator and noise == own_noise)
                report(condition.label)
                points += _scores(condition, op, image, prior, priors, seed)
    return Shift(points, own_operator, own_noise)


def summary_of(shift: Shift) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "trained": {"operator": shift.operator, "noise": shift.noise},
        "points": [asdict(point) for point in shift.points],
        "gain_over_the_best_other_method": shift.gains(),
    }


def write_shift(shift: Shift, folder: str | Path) -> Path:
    """Write shift.json, shift.md and shift.png into a folder; returns it."""
    folder = Path(folder)
    with written_whole(folder / "shift.json") as target:
        target.write_text(json.dumps(summary_of(shift), indent=1))
    methods = shift.methods()
    rows = [
        f"| {condition.label}{' (as trained)' if condition.trained else ''} | "
        + " | ".join(f"{shift.scores(condition).get(name, float('nan')):.2f}" for name in methods)
        + " |"
        for condition in shift.conditions()
    ]
    head = ["| condition | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    with written_whole(folder / "shift.md") as target:
        target.write_text("\n".join(["# PSNR [dB] away from the training", "", *head, *rows]) + "\n")
    with written_whole(folder / "shift.png") as target:
        _plot(shift, target)
    return folder


def _scores(
    condition: Condition,
    op: LinearOperator,
    image: Tensor,
    prior: LearnedPrior,
    priors: Sequence[str],
    seed: int,
) -> list[Point]:
    noise = as_noise(condition.noise) if condition.noise else None
    truth = image.to(torch.complex64) if op.domain == "complex" and not image.is_complex() else image
    y = op.measure(truth, noise=noise, seed=seed)
    size = image.abs() if image.is_complex() else image
    bounds = (0.0, float(size.max())) if truth.is_complex() else (float(size.min()), float(size.max()))
    peak = float(size.max() - size.min())
    images = {MODEL: _solved(op, prior, y, bounds)}
    images |= {name: _solved(op, making.prior(name), y, bounds) for name in priors}
    images["direct"] = op.pinv(y)
    points = []
    for name, found in images.items():
        shown = found.abs() if found.is_complex() else found
        psnr, ssim = (
            float(metric(data_range=peak)(shown, size, item_ndim=size.ndim)) for metric in (PSNR, SSIM)
        )
        points.append(Point(condition, name, psnr, ssim))
    return points


def _solved(op: LinearOperator, prior: Prior, y: Tensor, bounds: tuple[float, float]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the scores tell
        return solve(op, prior, y, image_range=bounds, progress=False).image


def _operator(spec: str, shape: tuple[int, ...], card: Mapping[str, Any]) -> LinearOperator:
    """Of the spec; what it leaves out is as in training, if that was with the same operator."""
    name, given = registry._read_spec("operator", spec)
    found = registry.find("operator", name)
    trained = (card.get("operator") or {}).get("description") or {}
    same = found.entry.name == str(trained.get("name", "")).split("/")[-1]
    takes = {parameter.name for parameter in found.parameters()}
    extra = {"shape": shape} if "shape" in takes else {}
    kept = _settings("operator", trained) if same else {}
    made: LinearOperator = registry.make("operator", (name, {**kept, **given, **extra}))
    return made


def _trained_on(card: Mapping[str, Any]) -> tuple[str, str]:
    """Operator and noise of the training as specs without the shape; "" where the card does not know."""
    operator = (card.get("operator") or {}).get("description") or {}
    noise = (card.get("data") or {}).get("noise model") or {}
    return _spec("operator", operator), _spec("noise", noise)


def _settings(kind: str, description: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were described, without the shape and those that are as everywhere."""
    usual = {p.name: p.default for p in registry.find(kind, str(description["name"])).parameters()}
    arguments = description.get("arguments") or {}
    return {key: value for key, value in arguments.items() if key != "shape" and value != usual.get(key)}


def _spec(kind: str, description: Mapping[str, Any]) -> str:
    """What was described, as ``"name:argument=value"``; "" where an argument is no plain value."""
    name = str(description.get("name", "")).split("/")[-1]
    arguments = _settings(kind, description) if name else {}
    if not name or not all(isinstance(value, str | int | float | bool) for value in arguments.values()):
        return ""
    settings = ",".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name}:{settings}" if settings else name


def _plot(shift: Shift, path: Path) -> None:
    """PSNR of each method under each condition, as dots on one line a condition."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from recon.report.figures import LINES

    conditions, methods = shift.conditions(), shift.methods()
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(conditions)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, method in enumerate(methods):
        values = [shift.scores(condition).get(method, float("nan")) for condition in conditions]
        marker = "D" if method == MODEL else "o"
        axes.plot(values, range(len(conditions)), marker, color=LINES["light"][place % 8], label=method)
    labels = [
        textwrap.fill(condition.label + (" (as trained)" if condition.trained else ""), 48)
        for condition in conditions
    ]
    axes.set_yticks(range(len(conditions)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.4)
    axes.set_xlabel("PSNR, dB")
    axes.legend(loc="best", fontsize=8)
    figure.savefig(path, dpi=120, format="png")
