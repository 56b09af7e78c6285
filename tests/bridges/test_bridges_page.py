"""The code of docs/how-to/bridges.md runs."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bridges.md"
# marked as only shown: the site is built where these libraries need not be installed
BLOCKS = re.findall(
    r"``` \{ \.python \.norun \}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
)


@pytest.mark.usefixtures("deepinv", "odl", "pylops", "sigpy", "transformers")
def test_the_code_of_the_page_runs():
    names: dict = {}
    for block in BLOCKS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the other libraries, and of few iterations
            exec(compile(block, str(PAGE), "exec"), names)
    image = names["image"]
    assert len(BLOCKS) == 7
    assert np.linalg.norm(names["found"].detach().numpy()[0, 0] - image.numpy()) < 0.3 * image.norm()
    assert names["clean"].shape == (1, 8, 8)
    assert names["mri"](image).dtype == torch.complex64
    assert names["parallel"].adjoint_kind == "exact"
