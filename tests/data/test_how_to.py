"""The code in the guides about files runs, in order, in an empty folder."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.mark.parametrize("name", ["files.md", "measured-ct.md"])
def test_the_code_of_a_guide_runs(name, tmp_path, monkeypatch, capsys):
    if "algotom" in (GUIDES / name).read_text():
        pytest.importorskip("algotom", reason="the extra 'rings' is not installed")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (GUIDES / name).read_text(), re.DOTALL)
    assert len(blocks) >= 4
    namespace: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            exec(compile(block, name, "exec"), namespace)
    if name == "files.md":
        assert namespace["upright"].orientation == "SPL"
        assert "a local copy of LoDoPaB-CT has" in capsys.readouterr().out
        assert {"chest.nii.gz", "chest.png", "chest.dcm", "slices"} == {
            path.name for path in tmp_path.iterdir()
        }
    else:
        assert namespace["centre"] == pytest.approx(295.85, abs=0.1)
        assert "0 of 231680 readings" in capsys.readouterr().out
        assert (tmp_path / "tooth.png").stat().st_size > 2000
