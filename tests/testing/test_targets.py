"""What can be checked by name, in a file, or as an object; and what is said where there is nothing to check."""

import textwrap

import pytest

import recon
from recon.entries import UnknownKindError
from recon.parameters import ArgumentNameError, SpecError
from recon.testing import cases, conformance_test
from recon.testing.closed_forms import Magnitudes
from recon.testing.targets import TargetError

FILE = """
    from dataclasses import dataclass

    import recon
    import sibling

    class Scale(recon.LinearOperator):
        def __init__(self, shape: tuple[int, int] = (3, 4), factor: float = 2.0):
            super().__init__(shape, shape)
            self.factor = factor

        def _forward(self, x):
            return self.factor * x

        def _adjoint(self, y):
            return sibling.CONSTANT * self.factor * y

    class NeedsShape(Scale):
        def __init__(self, shape: tuple[int, int]):
            super().__init__(shape)

    class Shrink(recon.Functional):
        def _penalty(self, z):
            return z.abs()

        def _prox(self, z, threshold):
            return z * (1 - threshold / z.abs().clamp_min(1e-30)).clamp_min(0)

    class HalfASolver:
        def start(self, problem): ...
        def step(self, problem, state): ...

    class Table: ...

    def make_scale(factor: float = 3.0):
        return Scale(factor=factor)

    def make_table():
        return Table()

    ready = Scale((2, 2))
    number = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "physics.py").write_text(textwrap.dedent(FILE))
    (tmp_path / "sibling.py").write_text("CONSTANT = 1.0\n")
    return tmp_path / "physics.py"


def items(target, kind=None):
    return list(dict.fromkeys(case.item for case in cases(target, kind)))


def test_an_item_by_its_names():
    assert items("mask") == items("recon/mask") == items("Recon/mask") == ["recon/mask", "recon/mask[0]"]
    ids = [case.id for case in cases("mask")]
    assert "recon/mask[0]::dense_adjoint" in ids
    assert len(set(ids)) == len(ids)


def test_an_item_with_arguments_is_checked_with_those_alone():
    assert items("blur:shape=(5,6),kernel=[[0.5,0.5]]") == ["recon/blur", "recon/blur[given]"]


def test_a_distribution_and_its_kinds():
    everything = items("recon")
    assert {"recon:operators", "recon/tv[1]", "recon/admm[0]", "recon/psnr[0]", "recon/camera"} <= set(
        everything
    )
    assert items("recon", "prior")[0] == "recon/bm3d"
    assert items("recon", "priors") == items("recon", "prior")
    assert set(items("recon", "plugin")) == {
        f"recon:{name}" for name in ("bridges", "core", "data", "networks", "operators", "priors")
    }
    assert items("recon:priors", "plugin") == ["recon:priors"]
    assert {case.kind for case in cases("recon", "noise")} == {"noise"}


def test_objects_and_classes():
    assert items(recon.Identity((2, 3))) == ["Identity"]
    assert items(Magnitudes(0.1)) == ["Magnitudes"]
    assert items(recon.CG) == items(recon.CG()) == ["CG"]
    with pytest.raises(
        TargetError,
        match="a int is not an operator, a prior, a network, a solver, a training objective, a metric or a noise model",
    ):
        items(3)
    with pytest.raises(TargetError, match="a CG is not a prior: there is nothing to check"):
        items(recon.CG(), "prior")


@pytest.mark.parametrize(
    ("rest", "label"),
    [
        ("Scale", "physics.py:Scale"),
        ("Scale:shape=(2,5),factor=0.5", "physics.py:Scale"),
        ("make_scale:factor=4", "physics.py:make_scale"),
        ("ready", "physics.py:ready"),
        ("Shrink", "physics.py:Shrink"),
        ("NeedsShape:shape=(2,2)", "physics.py:NeedsShape"),
    ],
)
def test_a_class_in_a_file(file, rest, label):
    found = list(cases(f"{file}:{rest}"))
    assert {case.item for case in found} == {label}
    assert {case.judge().status for case in found} == {"passed"}


def test_a_file_that_defines_one_needs_no_class(tmp_path):
    (tmp_path / "one.py").write_text("import recon\nclass Only(recon.Denoiser):\n    pass\n")
    assert items(str(tmp_path / "one.py")) == ["one.py:Only"]


def test_a_file_inside_a_package_is_imported_as_part_of_it(tmp_path):
    package = tmp_path / "lensed"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("from recon import Identity as Base\n")
    (package / "lens.py").write_text("from .base import Base\nclass Lens(Base):\n    pass\n")
    (case, *_) = cases(f"{package / 'lens.py'}:Lens:shape=(2,2)")
    assert case.judge().status == "passed"


@pytest.mark.parametrize(
    ("rest", "error", "said"),
    [
        (
            ":Scael",
            TargetError,
            r"physics.py has no 'Scael'; did you mean 'Scale'\? In it, it defines Scale, NeedsShape",
        ),
        (
            "",
            TargetError,
            r"physics.py defines Scale, NeedsShape, Shrink: write .*physics.py:Class, such as .*:Scale",
        ),
        (":Table", TargetError, "physics.py:Table is a class derived from object, not an operator, a prior"),
        (":HalfASolver", TargetError, "as a solver it has start, step only, not an operator"),
        (":make_table", TargetError, "physics.py:make_table is a Table, not an operator"),
        (":number", TargetError, "physics.py:number is a int, not a class or a function"),
        (":ready:factor=3", SpecError, "is an object already: it takes no arguments"),
        (":Scale:factr=3", ArgumentNameError, "has no parameter 'factr'; did you mean 'factor'"),
        (":NeedsShape", ArgumentNameError, "physics.py:NeedsShape needs 'shape'"),
        (":Scale:", SpecError, "nothing follows the colon"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(file, rest, error, said):
    with pytest.raises(error, match=said):
        items(f"{file}{rest}")


def test_a_file_that_fails_says_where(tmp_path):
    (tmp_path / "late.py").write_text("import recon\n\nx = undefined\n")
    with pytest.raises(
        ImportError, match="late.py fails in line 3: NameError: name 'undefined' is not defined"
    ):
        items(f"{tmp_path / 'late.py'}:X")
    (tmp_path / "wrong.py").write_text("class X(:\n")
    with pytest.raises(ImportError, match="wrong.py fails: SyntaxError: .*line 1"):
        items(f"{tmp_path / 'wrong.py'}:X")


def test_a_class_that_cannot_be_made_is_named(file):
    with pytest.raises(ValueError, match="domain_shape must be one or more positive integers") as caught:
        items(f"{file}:Scale:shape=(0,2)")
    assert caught.value.__notes__ == ["while making physics.py:Scale"]


def test_missing_arguments_are_spelt_out(file):
    with pytest.raises(ArgumentNameError) as caught:
        items(f"{file}:NeedsShape")
    assert caught.value.__notes__ == [f"write {file}:NeedsShape:shape=..."]


def test_a_kind_restricts_a_file(file):
    assert items(f"{file}", "prior") == ["physics.py:Shrink"]
    with pytest.raises(
        TargetError, match=r"Scale is a class derived from LinearOperator \(it is a operator\)"
    ):
        items(f"{file}:Scale", "prior")


def test_unknown_names_get_suggestions(file):
    with pytest.raises(TargetError, match=r"no item or distribution is called 'maks'; did you mean 'mask'\?"):
        items("maks")
    with pytest.raises(
        TargetError, match="no prior or distribution is called 'mask'; there is operator mask"
    ):
        items("mask", "prior")
    with pytest.raises(TargetError, match=r"there is no file .*physisc.py; did you mean 'physics.py'\?"):
        items(str(file.parent / "physisc.py"))
    with pytest.raises(TargetError, match="for a class in a file write path.py:Class"):
        items(str(file.with_suffix("")))
    with pytest.raises(UnknownKindError, match="unknown kind 'piror'; did you mean 'prior'"):
        items("recon", "piror")


def test_a_test_function_of_nothing_is_refused():
    with pytest.raises(LookupError, match="recon:priors registers nothing that can be checked"):
        conformance_test("recon:priors", kind="objective")
