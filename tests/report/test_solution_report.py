"""The report on a solution says what was solved, how well, how it went and what produced it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import Page
from recon_priors.tv import TotalVariation
from torch import Tensor

from recon.linear import Identity
from recon.metrics import MSE, PSNR, SSIM, evaluate
from recon.report.figures import ITEMS_SHOWN
from recon.report.methods import comparison_table, default_metrics, score_table
from recon.report.solution import comparison_report, solution_report
from recon.simulate import GaussianNoise
from recon.solution import Solution
from recon.solving import solve
from recon.stopping import MaxIterations


def blocks(*batch: int) -> Tensor:
    """Piecewise constant images in [0, 1]."""
    corners = torch.rand(*batch, 4, 4, generator=torch.Generator().manual_seed(0))
    return corners.repeat_interleave(6, dim=-2).repeat_interleave(8, dim=-1)


def denoised(*batch: int, **options: Any) -> Solution:
    noisy = GaussianNoise(std=0.1)(blocks(*batch), item_ndim=2)
    return solve(Identity((24, 32)), TotalVariation(), noisy, stop=MaxIterations(40), **options)


@pytest.fixture(scope="module")
def solution() -> Solution:
    """A real solve with the weight from the noise level."""
    return denoised()


def direct(image: Tensor, **changes: Any) -> Solution:
    """What a solver that has no iterations hands over."""
    solution = solve(Identity(tuple(image.shape[-2:])), None, image)
    return dataclasses.replace(solution, **{"image": image, "problem": None, **changes})


def page_of(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def words_of(path: Path) -> str:
    return re.sub(r"\s*\n\s*", " ", " ".join(page_of(path).text)).replace("  ", " ")


def test_one_image_with_its_reference(solution, tmp_path):
    path = solution_report(solution, tmp_path / "r.html", blocks(), title="Toy", summary="A job.")
    words = words_of(path)
    for phrase in (
        "Toy",
        "A job.",
        "without converging: MaxIterations(40).",
        "recon/identity",
        "solver.name",
    ):
        assert phrase in words
    for score in evaluate(solution.image, blocks(), default_metrics((24, 32))):
        assert score.convention in words
    psnr = float(PSNR(data_range="max-min")(solution.image, blocks()))
    assert f"{psnr:.2f}\N{NO-BREAK SPACE}dB" in words
    assert f"weight of the prior {solution.weight:.4g}" in words
    page = page_of(path)
    alts = [image["alt"] for image in page.all("img")]
    assert [alt.split(":")[0] for alt in alts[:3]] == [
        "Reconstruction",
        "Reference",
        "Reconstruction \N{MINUS SIGN} reference",
    ]
    assert [alt.split(",")[0] for alt in alts[3:5]] == ["Along row 12", "Along column 16"]
    plots = alts[5:]
    assert [alt.split(" up to")[0] for alt in plots] == [
        "Primal and dual residual",
        *("Objective", "Objective"),  # against the iteration and against seconds
        *("Residual", "Residual"),
        "Relative change of the image",
        "Weight of the prior",
        "Residual relative to the noise",
    ]
    first, last = solution.history["objective"][0], solution.history["objective"][-1]
    assert plots[1] == f"Objective up to iteration 40: from {first:.3g} to {last:.3g}"
    assert re.fullmatch(rf"Objective up to [\d.]+ seconds: from {first:.3g} to {last:.3g}", plots[2])
    assert len(page.all("source")) == len(plots) + 2  # each plot in a dark version, and the two profiles


def test_a_solution_writes_its_own_report(solution, tmp_path):
    assert "Scores" in words_of(solution.report(tmp_path / "r.html", reference=blocks()))


def test_without_a_reference_there_is_nothing_to_compare_with(tmp_path):
    path = solution_report(direct(blocks()), tmp_path / "r.html")
    pictures = [image for image in page_of(path).all("img") if image["id"].startswith("figure")]
    assert len(pictures) == 1
    assert "Scores" not in words_of(path)


def test_methods_are_compared_on_one_page(solution, tmp_path):
    other = denoised(weight=0.01, reference=blocks())
    compare = {"Weak": other, "Raw": 0.5 * blocks()}
    path = solution.report(tmp_path / "r.html", blocks(), compare=compare, name="Auto", unit="1/mm")
    page, words = page_of(path), words_of(path)
    data = json.loads(page.scripts[0])
    assert [layer["name"] for layer in data["stacks"][0]["layers"]] == ["Weak", "Raw", "Auto", "Reference"]
    assert (data["left"], data["right"]) == (0, 2)
    alts = [image["alt"] for image in page.all("img")]
    maps = [alt for alt in alts if "difference map" in alt]
    assert len(maps) == 3
    assert len({alt.split("full colour at ")[1] for alt in maps}) == 1, "one scale for all"
    for name, result in (("Weak", other), ("Auto", solution)):
        psnr, ssim, _, rmse = evaluate(result.image, blocks(), default_metrics((24, 32), "1/mm"))
        printed = f"{float(psnr.value):.2f}\N{NO-BREAK SPACE}dB"
        assert re.search(rf"{name} (\S+ )*?{printed}", words)
        for score in (psnr, ssim, rmse):
            assert score.convention in words
    assert "Raw: an image without a record of its making" in words
    assert "Without iterations, and so without a curve: Raw." in words
    assert "Search for the weight: Auto" in words
    assert "Not converged: Weak, Auto." in words
    summaries = re.findall(r"<summary>(.*?)</summary>", path.read_text("utf-8"))
    assert summaries == ["Weak", "Raw", "Auto"]
    objectives = [alt for alt in alts if alt.startswith("Objective up to")]
    assert len(objectives) == 2  # against the iteration and against seconds
    assert all("Weak from" in alt and "Auto from" in alt and "Raw" not in alt for alt in objectives)
    assert next(alt for alt in alts if alt.startswith("PSNR [dB] up to iteration")).count("from") == 1


def test_the_best_of_each_metric_is_marked():
    def scores(value: float) -> list[Any]:
        return evaluate(value * blocks(), blocks(), [PSNR(data_range=1.0), MSE()])

    table = comparison_table({"A": scores(0.5), "B": scores(0.9), "C": scores(0.9), "D": scores(0.1)})
    assert table.best == {(1, 1), (2, 1), (1, 2), (2, 2)}, "B and C, equal in print"
    assert [row[0] for row in table.rows] == ["A", "B", "C", "D"]
    assert comparison_table({"A": scores(0.5)}).best == frozenset(), "nothing to be better than"


def test_the_call_that_made_it_is_on_the_page(solution, tmp_path):
    words = words_of(solution_report(solution, tmp_path / "r.html"))
    (call,) = re.findall(r"call (recon\.solve\(.*?seed=0\))", words)
    assert call.startswith('recon.solve(("recon/identity", {')
    assert "TotalVariation(weight=auto" in call
    assert "stop=MaxIterations(40)" in call
    assert "y, solver=ADMM(" in call


def test_no_folder_that_nobody_typed_is_on_the_page(solution, tmp_path):
    problem = {"file": "/home/someone/scan.h5", "notes": {"sources": ["C:\\Users\\someone\\slice.dcm"]}}
    provenance = {**solution.provenance, "problem": problem}
    path = solution_report(dataclasses.replace(solution, provenance=provenance), tmp_path / "r.html")
    assert "problem.file scan.h5" in words_of(path)
    assert "problem.notes.sources slice.dcm" in words_of(path)
    assert "someone" not in path.read_text("utf-8")


def test_two_large_noisy_images_and_the_truth_make_a_page_below_three_megabytes(tmp_path):
    noise = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(0))
    truth = blocks().repeat_interleave(22, 0).repeat_interleave(16, 1)[:512]
    images = {"much noise": truth + 0.2 * noise[0], "little noise": truth + 0.02 * noise[1]}
    path = comparison_report(images, tmp_path / "r.html", truth)
    assert path.stat().st_size < 3e6


def test_of_a_batch_eight_items_are_shown_and_all_are_counted(tmp_path):
    result = denoised(11, weight=0.05)
    path = solution_report(result, tmp_path / "r.html", blocks(11))
    words = words_of(path)
    assert "The first 8 of 11 items are shown." in words
    assert "mean of all 11" in words
    assert "Reference, item 7" in words
    assert "item 8" not in words
    alts = [image["alt"] for image in page_of(path).all("img")]
    assert sum("grey image" in alt for alt in alts) == 2 * ITEMS_SHOWN
    assert sum("difference map" in alt for alt in alts) == ITEMS_SHOWN
    assert "item 7 from" in alts[-1]


def test_a_batch_with_two_axes_and_one_reference_for_all(tmp_path):
    words = words_of(solution_report(direct(blocks(2, 2)), tmp_path / "r.html", blocks()))
    assert "mean of all 4" in words
    assert "item 3" in words


def test_items_that_ended_differently_are_told_apart(tmp_path):
    result = direct(
        blocks(2), reason="A; B", reasons=["A", "B"], converged=False, weight=[1e-3, 2e-3], weight_search=[]
    )
    words = words_of(solution_report(result, tmp_path / "r.html"))
    assert "item 0: A; item 1: B" in words
    assert "item 0: 0.001; item 1: 0.002" in words


def test_not_converged_is_said_at_the_top(tmp_path):
    result = direct(blocks(), converged=False, reason="TimeLimit(60 s)", iterations=200, seconds=61.25)
    words = words_of(solution_report(result, tmp_path / "r.html"))
    assert words.index("Not converged") < words.index("Images")
    assert (
        "Stopped after 200 iterations in 61.2\N{NO-BREAK SPACE}s without converging: TimeLimit(60 s)."
        in words
    )


def test_a_direct_solution_has_no_curves(tmp_path):
    result = direct(blocks(), converged=True, reason="direct")
    words = words_of(solution_report(result, tmp_path / "r.html"))
    assert "computed in one step" in words
    assert "Converged after 1 iteration in" in words
    assert "direct." in words
    assert "Not converged" not in words


def test_complex_images_are_shown_and_scored_by_magnitude(tmp_path):
    reference = torch.polar(blocks(), 6 * blocks().flip(0))
    words = words_of(solution_report(direct(0.9 * reference), tmp_path / "r.html", reference))
    assert "Reconstruction (magnitude)" in words
    assert f"rmse \N{DOWNWARDS ARROW} {0.1 * float(blocks().square().mean().sqrt()):.4g}" in words


def test_volumes_are_shown_by_their_middle_slice(tmp_path):
    volume = blocks(5)
    words = words_of(solution_report(direct(0.9 * volume), tmp_path / "r.html", volume, item_ndim=3))
    assert "Reconstruction (slice 3 of 5)" in words


def test_the_problem_says_what_one_image_is(tmp_path):
    result = solve(Identity((5, 24, 32)), None, blocks(5))
    assert "Reconstruction (slice 3 of 5)" in words_of(solution_report(result, tmp_path / "r.html"))


def test_images_smaller_than_its_window_are_judged_without_ssim(tmp_path):
    small = blocks()[3:8, 5:10]
    words = words_of(solution_report(direct(0.9 * small), tmp_path / "r.html", small))
    assert "psnr" in words
    assert "ssim" not in words


def test_attenuation_gets_its_error_in_hu(tmp_path):
    mu = 0.02 * blocks()
    words = words_of(solution_report(direct(mu + 0.001), tmp_path / "r.html", mu, unit="1/mm"))
    assert "rmse_hu \N{DOWNWARDS ARROW} 50\N{NO-BREAK SPACE}HU" in words
    assert "water at 0.02 1/mm" in words


def test_chosen_metrics_are_the_ones_shown(tmp_path):
    path = solution_report(direct(blocks()), tmp_path / "r.html", blocks(), metrics=[SSIM(data_range=1.0)])
    words = words_of(path)
    assert "ssim" in words
    assert "psnr" not in words


def test_an_empty_batch_is_said(tmp_path):
    result = dataclasses.replace(direct(blocks(1)), image=torch.zeros(0, 24, 32), reasons=[])
    assert "The batch is empty" in words_of(solution_report(result, tmp_path / "r.html"))


def test_tables_of_scores_can_name_their_images():
    scores = evaluate(blocks(2) * 0.9, blocks(2), [MSE(), PSNR(data_range=1.0)])
    table = score_table(scores, 2, labels=["FBP", "TV"])
    assert [row[0] for row in table.rows] == ["FBP", "TV", "mean of all 2"]
    assert table.columns == ("image", "mse \N{DOWNWARDS ARROW}", "psnr \N{UPWARDS ARROW}")
    assert table.notes == [f"mse: {MSE().convention}", f"psnr: {PSNR(data_range=1.0).convention}"]


def test_names_and_shapes_that_do_not_fit_are_refused(solution, tmp_path):
    path = tmp_path / "new" / "r.html"
    with pytest.raises(ValueError, match="'TV' is the name of the solution itself"):
        solution.report(path, compare={"TV": solution}, name="TV")
    with pytest.raises(ValueError, match="'Reference' is what the page calls the reference"):
        solution.report(path, blocks(), compare={"Reference": solution})
    with pytest.raises(ValueError, match=r"Small \(8, 8\), Reconstruction \(24, 32\)"):
        solution.report(path, blocks(), compare={"Small": blocks()[:8, :8]})
    with pytest.raises(ValueError, match="needs an image or a solution"):
        comparison_report({}, path)
    assert not path.parent.exists()


def test_bad_calls_are_refused_and_leave_nothing(tmp_path):
    path = tmp_path / "new" / "r.html"
    result = direct(blocks())
    with pytest.raises(ValueError, match="give reference="):
        solution_report(result, path, metrics=[MSE()])
    with pytest.raises(ValueError, match="item_ndim"):
        solution_report(result, path, item_ndim=3)
    with pytest.raises(ValueError, match=r"shape \(24, 32\), the reference \(32, 24\)"):
        solution_report(result, path, blocks().T)
    with pytest.raises(ValueError, match="NaN or infinite"):
        solution_report(dataclasses.replace(result, image=torch.full((24, 32), torch.nan)), path)
    ragged = dataclasses.replace(result, history={"iteration": [0, 10], "objective": [1.0]})
    with pytest.raises(ValueError, match="'objective' does not have one entry per record"):
        solution_report(ragged, path)
    assert not path.parent.exists()
