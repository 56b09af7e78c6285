"""What a plugin declares is checked: hooks, factories, parameters, fields, readers, datasets; declared failures."""

import re
import socket
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch

import recon
from recon import registry
from recon.entries import (
    DatasetEntry,
    Entry,
    MetricEntry,
    NetworkEntry,
    ObjectiveEntry,
    OperatorEntry,
    PriorEntry,
    ReaderEntry,
)
from recon.loading import Loaded
from recon.metrics import MSE
from recon.testing import Case, cases
from recon.testing.closed_forms import Magnitudes
from recon.training.supervised import Supervised

HERE = __name__


class Double(recon.LinearOperator):
    """x to 2 x."""

    def __init__(
        self,
        shape: Annotated[tuple[int, int], recon.Param("image shape", unit="px", ge=1)] = (3, 4),
        norm_bound: Annotated[float, recon.Param("what norm() says", ge=0)] = 2.0,
    ) -> None:
        super().__init__(shape, shape)
        self.norm_bound = norm_bound

    def _forward(self, x):
        return 2 * x

    _adjoint = _forward

    def _norm(self):
        return self.norm_bound


class RealDouble(Double):
    domain = "real"


class Raises(Double):
    def __init__(self) -> None:
        raise RuntimeError("no such detector")


def undocumented(shape, size: float = 1.0):
    return Double(shape)


def hidden(**options):
    return Double()


def reader(path: Annotated[Path, recon.Param("the file")]) -> Loaded:
    raise ValueError("struct.unpack failed")


def silent_reader(path: Annotated[Path, recon.Param("the file")]) -> Loaded:
    return Loaded(data=torch.zeros(2))


def pathless(file: Annotated[str, recon.Param("the file")]) -> Loaded:
    return Loaded(data=torch.zeros(2))


def online() -> Loaded:
    with socket.socket() as there:
        there.connect(("192.0.2.1", 9))
    return Loaded(data=torch.zeros(2))


def broken_data() -> Loaded:
    return Loaded(data=torch.tensor([1.0, torch.nan]))


def nothing() -> list:
    return []


def lazily_online() -> list:
    return [torch.zeros(2)]


NOT_CALLABLE = 3


def entry(kind: type[Entry], factory: str, **fields: Any) -> Entry:
    return kind(name="thing", factory=f"{HERE}:{factory}", summary="A thing", **fields)


def found(*entries: Entry) -> Iterator[Case]:
    """The cases of a plugin with these entries, all of the name "thing"."""
    module = types.SimpleNamespace(__name__="acme")
    for each in entries:
        hook = recon.hookimpl(lambda each=each: [each])
        setattr(module, f"recon_{each.plural}", hook)
    with registry.using(registry.Registry([], environment={})) as empty:
        empty.add(module, name="recon-acme:acme", version="1.0")
        return list(cases("recon-acme"))


def verdict(all_cases, check, item=None):
    (case,) = [case for case in all_cases if case.check == check and item in (None, case.item)]
    return case.judge()


def test_a_sound_entry_passes_with_ids_that_name_it():
    listed = found(
        entry(OperatorEntry, "Double", examples=(recon.Example(), recon.Example({"shape": (2, 5)})))
    )
    assert [case.id for case in listed][:4] == [
        "recon-acme:acme::loads",
        "recon-acme/thing::factory",
        "recon-acme/thing::parameters",
        "recon-acme/thing[0]::example",
    ]
    assert "recon-acme/thing[1]::dense_adjoint" in {case.id for case in listed}
    assert {case.judge().status for case in listed} == {"passed"}


def test_networks_and_objectives_are_made():
    listed = found(entry(NetworkEntry, "small_network"), entry(ObjectiveEntry, "Squares"))
    assert {case.judge().status for case in listed} == {"passed"}
    assert {case.kind for case in listed} == {"plugin", "network", "objective"}
    assert "has no 'smal_network'" in verdict(found(entry(NetworkEntry, "smal_network")), "factory").message


def small_network(side: Annotated[int, recon.Param("of the kernel", unit="px", ge=1)] = 3) -> torch.nn.Module:
    return torch.nn.Conv2d(1, 1, side, padding="same")


class Squares(Supervised):
    """Mean squares."""

    def __init__(self) -> None:
        super().__init__("mse")


FAULTS = [
    (entry(OperatorEntry, "Doubel"), "factory", r"cannot be imported: .* has no 'Doubel'; did you mean 'Double'"),
    (entry(OperatorEntry, "Doubel"), "example", "has no 'Doubel'"),
    (entry(OperatorEntry, "NOT_CALLABLE"), "factory", "NOT_CALLABLE is a int, expected a class or function"),
    (entry(OperatorEntry, "undocumented"), "parameters", "gives no type for shape: annotate each parameter"),
    (entry(OperatorEntry, "hidden"), "parameters", "hides its parameters behind"),
    (entry(OperatorEntry, "Raises"), "example", "RuntimeError: no such detector"),
    (entry(OperatorEntry, "Double", examples=(recon.Example({"shpae": 3}),)), "example", "did you mean 'shape'"),
    (entry(OperatorEntry, "Double", domain="complex"), "declaration", "domain='any', its entry says domain='complex'"),
    (entry(OperatorEntry, "Double", nonnegative=True), "declaration", "but Double.nonnegative is False"),
    (entry(OperatorEntry, "MSE"), "declaration", "makes a MSE, expected a recon.LinearOperator"),
    (entry(MetricEntry, "MSE"), "declaration", "higher_is_better is False, its entry says True"),
    (entry(ReaderEntry, "pathless", suffixes=(".x",)), "path_parameter", "has no parameter 'path'"),
    (entry(ReaderEntry, "silent_reader", suffixes=(".x",)), "missing_file", "missing file absent.x gives something"),
    (entry(ReaderEntry, "reader", suffixes=(".x",)), "foreign_file", "a .x file of noise raises ValueError"),
    (entry(DatasetEntry, "online", licence="MIT"), "example", "the example wants the network"),
    (entry(DatasetEntry, "lazily_online"), "licence", "licence='', expected its name or address"),
    (entry(DatasetEntry, "broken_data", licence="MIT"), "sample", "holds NaN"),
    (entry(DatasetEntry, "nothing", licence="MIT"), "sample", "the list is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("spoiled", "check", "said"), FAULTS)
def test_a_fault_of_an_entry_is_caught(spoiled, check, said):
    got = verdict(found(spoiled), check)
    assert got.status == "failed"
    assert re.search(said, got.message)


def test_convexity_is_compared():
    spoiled = entry(PriorEntry, "weighted_magnitudes", convex=False)
    assert "convex is True, its entry says convex=False" in verdict(found(spoiled), "declaration").message


def weighted_magnitudes() -> Magnitudes:
    return Magnitudes(0.5)


def test_a_missing_library_skips_and_says_how_to_get_it():
    listed = found(entry(OperatorEntry, "Doubel", requires=("surely_absent",), extra="more"))
    of_item = [case for case in listed if case.kind == "operator"]
    assert {case.judge().status for case in of_item} == {"skipped"}
    assert of_item[0].skip == "needs surely_absent: pip install 'recon-acme[more]'"


def test_a_declared_failure_must_fail():
    reason = "the norm is a rough bound"
    declared = recon.Example({"norm_bound": 9.0}, expected_failures={"norm_bound": reason})
    listed = found(entry(OperatorEntry, "Double", examples=(declared,)))
    assert verdict(listed, "norm_bound").status == "expected"
    assert verdict(listed, "norm_bound").message == reason
    declared = recon.Example({}, expected_failures={"norm_bound": reason})
    got = verdict(found(entry(OperatorEntry, "Double", examples=(declared,))), "norm_bound")
    assert got.status == "failed"
    assert got.message == f"passed, although it is expected to fail ({reason})"


def test_a_declared_failure_of_no_check_is_caught():
    declared = recon.Example({}, expected_failures={"norm_bond": "misspelt"})
    got = verdict(found(entry(OperatorEntry, "Double", examples=(declared,))), "expected_failures")
    assert "no such check: norm_bond; did you mean 'norm_bound'?" in got.message


def test_a_broken_plugin_is_a_failure():
    class Broken:
        @recon.hookimpl
        def recon_operators(self):
            raise OSError("no licence server")

    with registry.using(registry.Registry([], environment={})) as empty:
        empty.add(Broken(), name="recon-acme:acme")
        with pytest.warns(RuntimeWarning, match="no licence server"):
            (case,) = cases("recon-acme")
    assert case.id == "recon-acme:acme::loads"
    assert (
        "the plugin recon-acme:acme is broken: recon_operators: OSError: no licence server"
        in case.judge().message
    )


def test_a_heavy_hook_module_is_caught(tmp_path, monkeypatch):
    from recon.testing.entries import check_light_hooks

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "heavy_hooks.py").write_text("import numpy\n")
    with pytest.raises(AssertionError, match="importing heavy_hooks imports numpy, expected no library"):
        check_light_hooks("heavy_hooks")
    (tmp_path / "late_hooks.py").write_text(
        "import recon\n@recon.hookimpl\ndef recon_priors():\n    import numpy\n    return []\n"
    )
    with pytest.raises(AssertionError, match="calling the hooks of late_hooks imports numpy"):
        check_light_hooks("late_hooks")
    (tmp_path / "light_hooks.py").write_text(
        "import recon\n@recon.hookimpl\ndef recon_priors():\n    return []\n"
    )
    check_light_hooks("light_hooks")
    (tmp_path / "lost_hooks.py").write_text("import surely_absent\n")
    with pytest.raises(AssertionError, match="cannot be imported by itself: ModuleNotFoundError"):
        check_light_hooks("lost_hooks")


assert MSE  # named by an entry
