"""`recon check`: what it prints, its JSON, and its exit codes."""

import json
import textwrap

import pytest

from recon.cli import main

GOOD = """
    import recon

    class Scale(recon.LinearOperator):
        def __init__(self, shape: tuple[int, int] = (3, 4)):
            super().__init__(shape, shape)

        def _forward(self, x):
            return 2 * x

        def _adjoint(self, y):
            return FACTOR * y
"""


@pytest.fixture
def scale(tmp_path):
    """A file with an operator whose adjoint is what is asked for."""

    def write(factor):
        (tmp_path / "scale.py").write_text(textwrap.dedent(GOOD).replace("FACTOR", factor))
        return f"{tmp_path / 'scale.py'}:Scale"

    return write


def test_all_fine(scale, capsys):
    assert main(["check", scale("2")]) == 0
    item, summary = capsys.readouterr().out.splitlines()
    assert item.startswith("ok   scale.py:Scale")
    assert "21 passed" in item
    assert summary.startswith("21 checks of 1 subject: 21 passed, in ")


def test_a_failure_is_shown_in_full(scale, capsys):
    assert main(["check", scale("2.02")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAIL scale.py:Scale")
    assert (
        "     dense_adjoint: the adjoint's matrix B is not A^H: |B - A^H| is 1.0e-02 of |A|, expected at most 1.0e-05 "
        "for an adjoint declared as exact. B equals 1.01 A^H: a scale factor is missing or superfluous."
    ) in lines
    assert "failed, in" in lines[-1]


def test_json(scale, capsys):
    assert main(["check", scale("2.02"), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["fine"] is False
    assert answer["counts"]["failed"] >= 1
    (case,) = [case for case in answer["cases"] if case["check"] == "dense_adjoint"]
    assert case["id"] == "scale.py:Scale::dense_adjoint"
    assert case["kind"] == "operator"
    assert case["status"] == "failed"
    assert "B equals 1.01 A^H" in case["message"]
    assert {case["status"] for case in answer["cases"] if case["check"] == "shapes"} == {"passed"}


def test_a_registered_item_and_a_kind(capsys):
    assert main(["check", "recon", "--kind", "noise"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines()[:2]] == [
        ["ok", "recon/complex_gaussian"],
        ["ok", "recon/complex_gaussian[0]"],
    ]
    assert main(["check", "recon/mask", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["target"] == "recon/mask"
    assert answer["fine"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["maks"], "no item or distribution is called 'maks'; did you mean 'mask'?"),
        (["recon", "--kind", "piror"], "unknown kind 'piror'; did you mean 'prior'?"),
        (["absent.py:Blur"], "there is no file absent.py"),
        (["mask:msk=[[1]]"], "operator mask has no parameter 'msk'; did you mean 'mask'?"),
        ([], "TARGET"),
    ],
)
def test_misuse_is_told_in_one_line(arguments, said, capsys):
    assert main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_what_a_plugin_prints_is_no_part_of_the_answer(tmp_path, capsys):
    (tmp_path / "loud.py").write_text(
        "import recon\nprint('hello')\nclass Loud(recon.Identity):\n"
        "    def __init__(self, shape: tuple[int, int] = (2, 2)):\n        super().__init__(shape)\n"
        "    def _forward(self, x):\n        print('forward')\n        return x.clone()\n"
    )
    assert main(["check", f"{tmp_path / 'loud.py'}:Loud", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["fine"] is True
    assert "hello" in captured.err
    assert "forward" in captured.err
