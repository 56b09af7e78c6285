"""The registry: what is found, how broken plugins are kept apart, and how items are made by name."""

import doctest
import importlib
import json
import logging
import pickle
import re
import sys
import textwrap
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Annotated, Any

import pytest

import recon.discovery
import recon.entries
import recon.hookspecs
import recon.registry
from recon.discovery import HOOKS, PluginError, UnknownPluginError
from recon.entries import (
    ENTRY_CLASSES,
    KINDS,
    Entry,
    Example,
    OperatorEntry,
    PriorEntry,
    ReaderEntry,
    SolverEntry,
    UnknownKindError,
    entry_class,
)
from recon.hookspecs import hookimpl
from recon.parameters import ArgumentNameError, ArgumentValueError, Param
from recon.registry import (
    AmbiguousNameError,
    Found,
    MissingRequirementError,
    Origin,
    Registry,
    UnknownNameError,
)

HERE = __name__


class Scale:
    """An object with parameters, made by name in these tests."""

    def __init__(self, factor: Annotated[float, Param("the factor", ge=0)], *, offset: float = 0.0) -> None:
        self.factor, self.offset = factor, offset

    class Inner:
        pass


def nothing() -> None:
    """A factory that forgets to return."""


def pair(first: int = 1) -> tuple[int, int]:
    return first, 2


def hidden(**options: Any) -> Scale:
    return Scale(**options)


def operator(name: str = "scale", factory: str = f"{HERE}:Scale", **more: Any) -> OperatorEntry:
    return OperatorEntry(name=name, factory=factory, summary="For tests", **more)


def prior(name: str = "flat", factory: str = f"{HERE}:Scale", **more: Any) -> PriorEntry:
    return PriorEntry(name=name, factory=factory, summary="For tests", **more)


def solver(name: str) -> SolverEntry:
    return SolverEntry(name=name, factory=f"{HERE}:Scale", summary="For tests")


def plugin(**hooks: Callable[..., Any]) -> types.SimpleNamespace:
    """Return a plugin object whose hooks are the given functions, marked unless they are already."""
    for function in hooks.values():
        if not hasattr(function, "recon_impl"):
            hookimpl(function)
    return types.SimpleNamespace(**hooks)


def providing(*entries: Entry) -> types.SimpleNamespace:
    """Return a plugin object that registers the entries."""
    by_hook: dict[str, list[Entry]] = {}
    for entry in entries:
        by_hook.setdefault(f"recon_{entry.plural}", []).append(entry)
    return plugin(**{hook: (lambda found=found: found) for hook, found in by_hook.items()})


def registry_of(*, environment: dict[str, str] | None = None, **plugins: Any) -> Registry:
    """Return a registry of plugin objects, each in a distribution of its own."""
    registry = Registry([], environment=environment or {})
    for distribution, added in plugins.items():
        registry.add(added, name=f"{distribution}:plugin", version="1.0")
    return registry


class FakeDistribution(Distribution):
    """Metadata of a distribution that is not installed."""

    def __init__(self, name: str, version: str, entry_points: str, requires: str = "") -> None:
        self.files_by_name = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            + "".join(f"Requires-Dist: {line}\n" for line in requires.splitlines()),
            "entry_points.txt": f"[recon]\n{entry_points}",
        }

    def read_text(self, filename: str) -> str | None:
        return self.files_by_name.get(filename)

    def locate_file(self, path: Any) -> Path:
        return Path(path)


Distribute = Callable[..., list[EntryPoint]]


@pytest.fixture
def distribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribute]:
    """Write a module and return the entry points of a distribution that holds it."""
    written: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def write(
        distribution: str, source: str, *, version: str = "1.0", requires: str = ""
    ) -> list[EntryPoint]:
        module = re.sub(r"\W", "_", distribution.lower())
        header = "from recon.entries import *\nfrom recon.hookspecs import hookimpl\n"
        tmp_path.joinpath(f"{module}.py").write_text(header + textwrap.dedent(source))
        importlib.invalidate_caches()
        written.append(module)
        return list(FakeDistribution(distribution, version, f"plug = {module}", requires).entry_points)

    yield write
    for module in written:
        sys.modules.pop(module, None)


ONE_PRIOR = """
    @hookimpl
    def recon_priors():
        return [PriorEntry(name="{name}", factory="fractions:Fraction", summary="x")]
"""


# Entries


def test_there_is_one_entry_class_and_one_hook_a_kind():
    assert KINDS == (
        "operator", "prior", "network", "solver", "objective", "dataset", "reader", "writer", "metric", "noise",
    )  # fmt: skip
    assert {f"recon_{entry.plural}" for entry in ENTRY_CLASSES} == set(HOOKS) - {
        "recon_choose_solver",
        "recon_solve_finished",
    }
    for entry in ENTRY_CLASSES:
        assert entry_class(entry.kind) is entry_class(entry.plural) is entry


def test_an_unknown_kind_is_answered_with_the_closest():
    with pytest.raises(
        UnknownKindError, match=r"unknown kind 'opertors'; did you mean 'operators'\? The kinds are"
    ):
        entry_class("opertors")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "CT"}, r"OperatorEntry\(name='CT'\): name='CT' must be"),
        ({"name": "a-b"}, "name='a-b' must be"),
        ({"factory": "acme.Blur"}, "factory='acme.Blur' must be 'module:attribute'"),
        ({"summary": "two\nlines"}, "one line of text"),
        ({"summary": " "}, "one line of text"),
        ({"requires": "astra"}, "requires='astra' must be a tuple"),
        ({"requires": ("astra.data",)}, "top-level import names"),
        ({"devices": ("gpu",)}, r"devices=\('gpu',\) must be a part of \('cpu', 'cuda'\)"),
        ({"domain": "quaternion"}, "domain='quaternion' must be one of real, complex, any"),
        ({"examples": ({"size": 3},)}, "one recon.Example or more"),
        ({"examples": ()}, "one recon.Example or more"),
        ({"tags": (1,)}, "words"),
    ],
)
def test_a_wrong_entry_is_refused_where_it_is_written(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(operator(), **wrong)


def test_entries_are_frozen_hashable_and_take_lists():
    entry = operator(requires=["numpy"], examples=[Example({"factor": 2})])
    assert entry.requires == ("numpy",)
    assert entry.examples == (Example({"factor": 2}),)
    assert hash(entry) == hash(operator(requires=("numpy",), examples=(Example({"factor": 2}),)))
    with pytest.raises(AttributeError):
        entry.name = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(entry)) == entry


def test_the_bare_entry_reader_suffixes_and_reasons_are_checked():
    with pytest.raises(TypeError, match="OperatorEntry, PriorEntry"):
        Entry(name="a", factory="b:c", summary="d")
    with pytest.raises(ValueError, match="lower-case endings with the dot"):
        ReaderEntry(name="a", factory="b:c", summary="d", suffixes=("dcm",))
    with pytest.raises(ValueError, match=r"suffixes='\.dcm' must be a tuple"):
        ReaderEntry(name="a", factory="b:c", summary="d", suffixes=".dcm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected_failures\['norm'\] needs a reason"):
        Example(expected_failures={"norm": ""})


# Finding


def test_nothing_is_scanned_before_the_first_look_up(distribute: Distribute):
    registry = Registry(distribute("recon-lazy", ONE_PRIOR.format(name="lazy")), environment={})
    assert "recon_lazy" not in sys.modules
    registry.items("prior")
    assert "recon_lazy" in sys.modules


def test_a_kind_is_collected_when_it_is_asked_for_and_only_once():
    calls: list[str] = []
    registry = registry_of(
        acme=plugin(
            recon_priors=lambda: calls.append("priors") or [prior()],
            recon_operators=lambda: calls.append("operators") or iter([operator()]),
        )
    )
    assert registry.find("prior", "flat").entry == prior()
    assert registry.find("priors", "flat").entry == prior()
    assert calls == ["priors"]


def test_found_items_know_where_they_come_from(distribute: Distribute):
    registry = Registry(
        distribute("Recon_Acme.Lab", ONE_PRIOR.format(name="flat"), version="0.3.1"), environment={}
    )
    found = registry.find("prior", "flat")
    assert found.plugin.id == "recon-acme-lab:plug"
    assert (found.name, found.version) == ("recon-acme-lab/flat", "0.3.1")
    assert registry.find("prior", "Recon_Acme-Lab/flat") == found


def test_items_are_sorted_so_that_the_order_of_plugins_never_matters():
    one, two = providing(prior("b"), prior("a")), providing(prior("c"), prior("a"))
    forward = registry_of(one=one, two=two)
    backward = registry_of(two=two, one=one)
    names = ["one/a", "two/a", "one/b", "two/c"]
    assert [found.name for found in forward.items("prior")] == names
    assert [found.name for found in backward.items("prior")] == names


def test_an_ambiguous_name_fails_only_when_it_is_used():
    registry = registry_of(one=providing(prior("a"), prior("b")), two=providing(prior("a")))
    assert registry.find("prior", "b").name == "one/b"
    assert registry.find("prior", "two/a").name == "two/a"
    with pytest.raises(AmbiguousNameError) as caught:
        registry.find("prior", "a")
    assert str(caught.value) == (
        "prior 'a' is provided by several plugins: one/a (one 1.0); two/a (two 1.0). Use the qualified name."
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flt", "unknown prior 'flt'; did you mean 'flat'? Known priors: flat, one/steep, two/steep."),
        ("Steep-", "unknown prior 'Steep-'; did you mean 'steep'? "),
        ("one/flt", "unknown prior 'one/flt'; did you mean 'one/flat'? "),
        ("scale", "It is among the operators."),
        ("three/flat", "No plugin of a distribution 'three' is installed."),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name: str, message: str):
    registry = registry_of(
        one=providing(prior("flat"), prior("steep"), operator()), two=providing(prior("steep"))
    )
    with pytest.raises(UnknownNameError) as caught:
        registry.find("prior", name)
    assert message in str(caught.value)


def test_without_any_plugin_the_source_tree_is_suspected():
    with pytest.raises(
        UnknownNameError, match=r"No plugin is installed; in a source tree, `pip install -e \.`"
    ):
        Registry([], environment={}).find("prior", "tv")


def test_long_lists_of_names_are_cut():
    registry = registry_of(acme=providing(*(prior(f"p{number:03}") for number in range(100))))
    with pytest.raises(UnknownNameError, match=r"p038, p039, \.\.\. \(100 in all\)\."):
        registry.find("prior", "zz")


def test_a_class_is_traced_back_to_its_name():
    reexported = types.ModuleType("acme_facade")
    reexported.Inner = Scale.Inner  # type: ignore[attr-defined]
    sys.modules["acme_facade"] = reexported
    try:
        registry = registry_of(
            acme=providing(
                operator(), operator("inner", "acme_facade:Inner"), operator("far", "not_imported:X")
            )
        )
        found = registry.find_by_factory("operator", f"{HERE}:{Scale.__qualname__}")
        assert found is not None
        assert found.name == "acme/scale"
        inner = registry.find_by_factory("operator", f"{HERE}:{Scale.Inner.__qualname__}")
        assert inner is not None
        assert inner.name == "acme/inner"
        assert registry.find_by_factory("operator", "somewhere:Else") is None
        assert "not_imported" not in sys.modules
    finally:
        del sys.modules["acme_facade"]


# Making


@pytest.mark.parametrize(
    "spec", ["scale:factor=2", "acme/scale:factor=2", ("scale", {"factor": 2}), ["scale", {"factor": "2"}]]
)
def test_items_are_made_by_every_form_of_spec(spec: Any):
    made = registry_of(acme=providing(operator())).make("operator", spec, offset=1)
    assert (made.factor, made.offset) == (2.0, 1.0)
    assert made.recon_origin == Origin("operator", "acme/scale", "1.0", {"factor": 2.0, "offset": 1.0})


def test_an_origin_makes_the_object_again():
    registry = registry_of(acme=providing(operator()), other=providing(operator()))
    origin = registry.make("operator", "acme/scale", factor=3).recon_origin
    assert origin.arguments == {"factor": 3.0, "offset": 0.0}, "defaults are recorded too"
    assert json.loads(json.dumps(origin.arguments)) == origin.arguments
    again = registry.make(origin.kind, origin.name, **origin.arguments)
    assert again.recon_origin == origin
    assert pickle.loads(pickle.dumps(again)).recon_origin == origin


def test_a_module_carries_its_origin_through_copies_without_state():
    import copy

    import torch

    registry = registry_of(acme=providing(operator("linear", "torch.nn:Identity")))
    with pytest.raises(TypeError, match=r"hides its parameters behind '\*args"):
        registry.make("operator", "linear")

    class Layer(torch.nn.Module):
        def __init__(self, size: int = 2) -> None:
            super().__init__()

    globals()["Layer"] = Layer
    made = registry_of(acme=providing(operator("layer", f"{HERE}:Layer"))).make("operator", "layer")
    assert copy.deepcopy(made).recon_origin == made.recon_origin
    assert not made.state_dict()


@dataclass(frozen=True)
class Frozen:
    size: int = 1


def test_frozen_objects_are_marked_and_tuples_returned_as_they_are():
    registry = registry_of(acme=providing(prior("frozen", f"{HERE}:Frozen"), prior("pair", f"{HERE}:pair")))
    assert registry.make("prior", "frozen").recon_origin.name == "acme/frozen"
    assert registry.make("prior", "pair:first=5") == (5, 2)


def test_bad_arguments_are_refused_before_the_factory_is_called():
    registry = registry_of(acme=providing(operator()))
    with pytest.raises(
        ArgumentNameError,
        match=r"^operator scale has no parameter 'facter'; did you mean 'factor'\? It takes",
    ):
        registry.make("operator", "scale", facter=2)
    with pytest.raises(ArgumentNameError, match=r"^operator scale needs 'factor' \(the factor\)"):
        registry.make("operator", "scale")
    with pytest.raises(ArgumentValueError, match=r"^operator scale: factor=-1.0 must be >= 0$"):
        registry.make("operator", "scale:factor=-1")
    with pytest.raises(
        ArgumentNameError, match=r"'factor' is given twice, in 'scale:factor=2' and by keyword"
    ):
        registry.make("operator", "scale:factor=2", factor=3)


@pytest.mark.parametrize("spec", [3, None, ("scale",), ("scale", 2), {"scale": {}}])
def test_other_specs_are_refused(spec: Any):
    with pytest.raises(
        TypeError, match=r"give the operator as 'name', 'name:arg=value' or \('name', \{arguments\}\)"
    ):
        registry_of(acme=providing(operator())).make("operator", spec)


def test_a_factory_that_is_not_there_is_named_with_its_plugin():
    registry = registry_of(
        acme=providing(
            operator("gone", "no_such_module_at_all:X"),
            operator("misspelt", f"{HERE}:Scael"),
            operator("nested", f"{HERE}:Scale.Inner"),
            operator("nothing", f"{HERE}:nothing"),
            operator("hidden", f"{HERE}:hidden"),
        )
    )
    with pytest.raises(ModuleNotFoundError) as caught:
        registry.make("operator", "gone")
    assert caught.value.__notes__ == [
        "while importing no_such_module_at_all:X, the factory of operator acme/gone (acme 1.0)"
    ]
    with pytest.raises(
        ImportError, match=r"operator acme/misspelt \(acme 1.0\): .* no 'Scael'; did you mean 'Scale'"
    ):
        registry.make("operator", "misspelt")
    assert isinstance(registry.make("operator", "nested"), Scale.Inner)
    with pytest.raises(TypeError, match=r"operator nothing: its factory .* returned None"):
        registry.make("operator", "nothing")
    with pytest.raises(TypeError, match=r"hides its parameters behind '\*\*options"):
        registry.make("operator", "hidden")


def test_a_missing_library_is_an_error_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    registry = registry_of(
        recon=providing(
            operator("with_extra", requires=("surely_absent",), extra="astra"),
            operator("without_extra", requires=("surely_absent", "json")),
            operator("present", requires=("json",)),
        )
    )
    assert [found.missing() for found in registry.items("operator")] == [
        (),
        ("surely_absent",),
        ("surely_absent",),
    ]
    with pytest.raises(
        MissingRequirementError,
        match=r"^operator recon/with_extra needs surely_absent: pip install 'recon\[astra\]'$",
    ):
        registry.make("operator", "with_extra", factor=1)
    with pytest.raises(MissingRequirementError, match="needs surely_absent: install surely_absent, json"):
        registry.make("operator", "without_extra", factor=1)
    assert registry.make("operator", "present", factor=1).factor == 1
    monkeypatch.setitem(sys.modules, "surely_absent", types.ModuleType("surely_absent"))
    assert registry.find("operator", "with_extra").missing() == (), "put into sys.modules by hand"
    monkeypatch.setitem(sys.modules, "json", None)
    assert registry.find("operator", "present").missing() == ("json",), "blocked in sys.modules"


def test_an_error_of_the_factory_passes_through():
    registry = registry_of(acme=providing(operator("half", "fractions:Fraction")))
    with pytest.raises(ZeroDivisionError):
        registry.make("operator", "half", numerator=1, denominator=0)


# Broken plugins


def failing_generator() -> Iterator[PriorEntry]:
    yield prior("yielded")
    raise OSError("the rest is missing")


def exiting() -> list[PriorEntry]:
    raise SystemExit(4)


BROKEN_HOOKS = {
    "raises": (lambda: 1 / 0, "ZeroDivisionError: division by zero (core/test_registry.py:"),
    "raises after yielding": (failing_generator, "OSError: the rest is missing (core/test_registry.py:"),
    "exits": (exiting, "SystemExit: exit code 4"),
    "forgets to return": (lambda: None, "TypeError: returned None, not an iterable of PriorEntry"),
    "returns one entry": (
        lambda: prior("x"),
        "TypeError: returned PriorEntry, not an iterable of PriorEntry",
    ),
    "returns text": (lambda: "tv", "TypeError: returned str, not an iterable of PriorEntry"),
    "returns another kind": (lambda: [operator()], "TypeError: returned OperatorEntry as an item"),
    "returns names": (lambda: [prior("x"), "tv"], "TypeError: returned str as an item"),
    "returns a name twice": (lambda: [prior("x"), prior("x")], "ValueError: prior 'x' is registered twice"),
    "writes a wrong entry": (lambda: [prior("No-Name")], "ValueError: PriorEntry(name='No-Name'): name="),
    "misspells a field": (
        lambda: [prior("x", convx=True)],
        "TypeError: PriorEntry.__init__() got an unexpected",
    ),
}


@pytest.mark.parametrize("case", BROKEN_HOOKS)
def test_a_hook_that_fails_costs_its_own_items_only(case: str):
    hook, error = BROKEN_HOOKS[case]
    registry = registry_of(
        bad=plugin(recon_priors=hook, recon_operators=lambda: [operator()]), good=providing(prior("flat"))
    )
    with pytest.warns(RuntimeWarning) as caught:
        assert [found.name for found in registry.items("prior")] == ["good/flat"]
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith(f"plugin bad:plugin (bad 1.0) is broken: recon_priors: {error}")
    assert "RECON_DISABLE_PLUGINS=bad:plugin" in message
    assert warning.filename == __file__, "points at the code that asked"
    assert registry.find("operator", "scale").name == "bad/scale", "told once; its other items are there"
    with pytest.raises(UnknownNameError) as unknown:
        registry.find("prior", "x")
    assert f"Broken plugins, which may provide it: bad:plugin (bad 1.0: recon_priors: {error}" in str(
        unknown.value
    )
    with pytest.raises(UnknownNameError) as unrelated:
        registry.find("operator", "x")
    assert "Broken" not in str(unrelated.value), (
        "an error in recon_priors does not explain a missing operator"
    )
    (report,) = [report for report in registry.plugins() if report.plugin.id == "bad:plugin"]
    assert report.status == "broken"
    assert report.error.startswith(f"recon_priors: {error}")
    assert report.items == {"operator": ("scale",)}


BROKEN_MODULES = {
    "raises": ("raise ValueError('at import')", "ValueError: at import (", "recon_bad.py:3)"),
    "imports what is absent": (
        "import surely_absent_library",
        "ModuleNotFoundError: No module named 'surely_absent_library' (",
        "recon_bad.py:3)",
    ),
    "exits": ("import sys; sys.exit('stop')", "SystemExit: exit code stop (", "recon_bad.py:3)"),
    "cannot be parsed": ("def broken(:", "SyntaxError: invalid syntax (recon_bad.py, line 3)", ""),
    "takes an argument": (
        "@hookimpl\ndef recon_operators(): return []\n@hookimpl\ndef recon_priors(kind): return []",
        "PluginValidationError: ",
        "recon_priors(kind) Argument(s) {'kind'} are declared in the hookimpl but can not be found",
    ),
    "misspells a hook": (
        "@hookimpl\ndef recon_prior(): return []",
        "TypeError: there is no hook 'recon_prior'; did you mean 'recon_priors'?",
        "",
    ),
    "forgets the decorator": (
        "def recon_priors(): return []",
        "TypeError: recon_priors is not marked with @recon.hookimpl",
        "",
    ),
    "wraps": (
        "@hookimpl(wrapper=True)\ndef recon_priors():\n    return (yield)",
        "TypeError: recon_priors must not be a hook wrapper",
        "",
    ),
    "looks itself up": (
        "import recon.registry\nrecon.registry.find('prior', 'flat')",
        "RuntimeError: the plugins were asked for while recon-bad:plug was being loaded",
        "recon_bad.py:4)",
    ),
}


@pytest.mark.parametrize("case", BROKEN_MODULES)
def test_a_module_that_fails_costs_its_own_plugin_only(case: str, distribute: Distribute):
    source, error, detail = BROKEN_MODULES[case]
    entry_points = distribute("recon-good", ONE_PRIOR.format(name="flat")) + distribute("recon-bad", source)
    registry = Registry(entry_points, environment={})
    with recon.registry.using(registry), pytest.warns(RuntimeWarning) as caught:
        assert registry.find("prior", "flat").name == "recon-good/flat"
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith(f"plugin recon-bad:plug (recon-bad 1.0) is broken and ignored: {error}")
    assert detail in message
    assert "disable it: RECON_DISABLE_PLUGINS=recon-bad:plug" in message
    with pytest.raises(UnknownNameError) as unknown:
        registry.find("operator", "recon-bad/blur")
    assert f"Broken plugins, which may provide it: recon-bad:plug (recon-bad 1.0: {error}" in str(
        unknown.value
    )
    assert [report.status for report in registry.plugins()] == ["broken", "ok"]


def test_a_broken_plugin_is_told_once_even_to_those_who_turn_warnings_into_errors():
    registry = registry_of(bad=plugin(recon_priors=lambda: 1 / 0), good=providing(prior("flat")))
    with pytest.raises(RuntimeWarning, match="bad:plugin"):
        registry.find("prior", "flat")
    assert registry.find("prior", "flat").name == "good/flat"


def test_strict_mode_raises_every_time_but_the_report_still_works():
    registry = registry_of(
        environment={"RECON_STRICT_PLUGINS": "1"},
        bad=plugin(recon_priors=lambda: 1 / 0),
        good=providing(prior("flat")),
    )
    for _ in range(2):
        with pytest.raises(
            PluginError, match=r"bad:plugin .* ZeroDivisionError.*RECON_STRICT_PLUGINS"
        ) as caught:
            registry.find("prior", "flat")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert [report.status for report in registry.plugins()] == ["broken", "ok"]
    relaxed = registry_of(environment={"RECON_STRICT_PLUGINS": "0"}, bad=plugin(recon_priors=lambda: 1 / 0))
    with pytest.warns(RuntimeWarning):
        relaxed.items("prior")


def test_an_optional_hook_of_a_later_version_is_no_error():
    registry = Registry([], environment={})
    newer = providing(prior("flat"))
    newer.recon_of_tomorrow = hookimpl(optionalhook=True)(lambda: None)
    registry.add(newer, name="newer:plugin")
    assert registry.find("prior", "flat").name == "newer/flat"


def test_one_hook_may_have_several_implementations_in_a_plugin():
    several = providing(prior("a"))
    several.more = hookimpl(specname="recon_priors")(lambda: [prior("b")])
    assert [found.entry.name for found in registry_of(acme=several).items("prior")] == ["a", "b"]


def test_a_name_that_one_distribution_registers_twice_is_an_error_of_the_later_plugin():
    registry = Registry([], environment={})
    registry.add(providing(prior("flat")), name="acme:two")
    registry.add(providing(prior("flat"), operator()), name="acme:one")
    with pytest.warns(RuntimeWarning, match=r"acme:two .*: prior 'flat' is already registered by acme:one"):
        assert registry.find("prior", "flat").plugin.id == "acme:one"


def test_an_id_can_be_taken_once_only():
    registry = registry_of(acme=providing(prior("flat")))
    with pytest.raises(ValueError, match="there is already a plugin 'acme:plugin'"):
        registry.add(providing(), name="acme:plugin")


def test_a_plugin_can_be_added_after_the_first_look_up():
    registry = registry_of(acme=providing(prior("flat")))
    assert len(registry.items("prior")) == 1
    registry.add(providing(prior("steep")))
    assert registry.find("prior", "steep").name == "local/steep"


@pytest.mark.parametrize("metadata", ["", "Name: x"])
def test_a_plugin_of_a_damaged_installation_is_named_after_its_module(metadata: str, distribute: Distribute):
    (entry_point,) = distribute("recon-hurt", ONE_PRIOR.format(name="flat"))
    assert isinstance(entry_point.dist, FakeDistribution)
    entry_point.dist.files_by_name["METADATA"] = metadata
    found = Registry([entry_point], environment={}).find("prior", "flat")
    assert (found.name, found.version) == ("recon-hurt/flat" if not metadata else "x/flat", "")


# Blocking and versions


def test_a_disabled_plugin_is_not_even_imported(distribute: Distribute):
    entry_points = distribute("recon-one", ONE_PRIOR.format(name="one")) + distribute("recon-two", "1 / 0")
    for token in ("recon-two", "Recon_Two", "recon-two:plug", " x , recon.two:plug,"):
        registry = Registry(entry_points, environment={"RECON_DISABLE_PLUGINS": token})
        assert registry.find("prior", "one").name == "recon-one/one"
        assert "recon_two" not in sys.modules
        (_, blocked) = registry.plugins()
        assert (blocked.status, blocked.error) == ("blocked", "blocked by RECON_DISABLE_PLUGINS")
        with pytest.raises(
            UnknownNameError, match=r"may provide it: recon-two:plug \(blocked by RECON_DISABLE_PLUGINS\)\.$"
        ):
            registry.find("prior", "two")


def test_the_allow_list_excludes_all_others_and_an_empty_one_everything(distribute: Distribute):
    entry_points = distribute("recon-one", ONE_PRIOR.format(name="one")) + distribute("recon-two", "1 / 0")
    allowing = Registry(entry_points, environment={"RECON_PLUGINS": "recon-one"})
    assert [found.name for found in allowing.items("prior")] == ["recon-one/one"]
    none = Registry(entry_points, environment={"RECON_PLUGINS": ""})
    assert none.items("prior") == ()
    assert [report.status for report in none.plugins()] == ["blocked", "blocked"]
    with pytest.raises(UnknownNameError, match=r"recon-one:plug \(not in RECON_PLUGINS\)"):
        none.find("prior", "one")
    both = {"RECON_PLUGINS": "recon-one,recon-two", "RECON_DISABLE_PLUGINS": "recon-two"}
    assert [report.status for report in Registry(entry_points, environment=both).plugins()] == [
        "ok",
        "blocked",
    ]


def test_an_allowed_plugin_that_is_not_there_is_told(distribute: Distribute):
    entry_points = distribute("recon-one", ONE_PRIOR.format(name="one"))
    registry = Registry(entry_points, environment={"RECON_PLUGINS": "recon-one,recon-onee"})
    with pytest.warns(
        RuntimeWarning, match=r"RECON_PLUGINS allows 'recon-onee', .*; did you mean 'recon-one'\?"
    ):
        registry.items("prior")
    assert len(registry.items("prior")) == 1


def test_plugins_blocked_by_the_caller_must_exist(distribute: Distribute):
    entry_points = distribute("recon-one", ONE_PRIOR.format(name="one"))
    assert Registry(entry_points, environment={}, block=["recon-one"]).items("prior") == ()
    mistaken = Registry(entry_points, environment={}, block=["recon-oen"])
    for _ in range(2):
        with pytest.raises(
            UnknownPluginError, match=r"there is no plugin 'recon-oen' to block; did you mean"
        ):
            mistaken.items("prior")


def test_plugin_objects_are_never_blocked():
    registry = Registry([providing(prior("flat"))], environment={"RECON_PLUGINS": ""})
    assert registry.find("prior", "flat").name == "local/flat"


@pytest.mark.parametrize(
    ("requires", "conflict"),
    [
        ("recon>=99", True),
        ("Recon[astra] <0.0.1", True),
        ("recon>=0.0.1\nnumpy", False),
        ("recon-extras>=99", False),
        ("recon>=99; extra == 'test'", False),
        ("recon>=99; python_version < '3'", False),
        ("numpy", False),
    ],
)
def test_a_plugin_made_for_another_version_works_with_a_warning(
    requires: str, conflict: bool, distribute: Distribute
):
    entry_points = distribute("recon-acme", ONE_PRIOR.format(name="flat"), requires=requires)
    registry = Registry(entry_points, environment={})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert registry.find("prior", "flat").name == "recon-acme/flat"
        assert registry.find("prior", "flat").name == "recon-acme/flat"
    assert [
        str(warning.message).startswith("plugin recon-acme:plug (recon-acme 1.0): it asks for ")
        for warning in caught
    ] == [True] * conflict
    (report,) = registry.plugins()
    assert report.status == "ok"
    assert bool(report.note) == conflict


# The other hooks


class Solution:
    reason = "enough"


def test_the_plugins_choose_a_solver_and_its_name_comes_back_qualified():
    registry = registry_of(
        core=plugin(
            recon_choose_solver=hookimpl(trylast=True)(lambda op, prior: "admm:rho=2"),
            recon_solvers=lambda: [solver("admm")],
        ),
    )
    asked: list[Any] = []
    registry.add(plugin(recon_choose_solver=lambda prior: asked.append(prior)), name="a:silent")
    registry.add(providing(solver("admm"), solver("sirt")), name="b:other")
    assert registry.choose_solver(op="op", prior="prior") == "core/admm:rho=2", "its own admm, not b's"
    assert asked == ["prior"], "asked before the one marked trylast"
    registry.add(plugin(recon_choose_solver=lambda: "sirt"), name="z:eager")
    assert registry.choose_solver(op=None, prior=None) == "b/sirt"


def test_the_order_of_choosers_is_that_of_their_ids_except_where_marked():
    def registry_with(*names: str) -> Registry:
        registry = registry_of(solvers=providing(*(solver(name) for name in "abcd")))
        for name in names:
            chooser = types.SimpleNamespace(recon_choose_solver=lambda op, prior, name=name: name)
            hookimpl(tryfirst=name == "d", trylast=name == "a")(chooser.recon_choose_solver)
            registry.add(chooser, name=f"{name}:plugin")
        return registry

    for names, chosen in [("abcd", "d"), ("dcba", "d"), ("abc", "b"), ("cba", "b"), ("a", "a")]:
        assert registry_with(*names).choose_solver(None, None) == f"solvers/{chosen}"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chooser", "error"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: 5, "TypeError: returned int, not the name of a solver"),
        (lambda: "adm", "UnknownNameError: unknown solver 'adm'; did you mean 'admm'"),
    ],
)
def test_a_chooser_that_fails_is_passed_over(chooser: Callable[[], Any], error: str):
    registry = registry_of(
        bad=plugin(recon_choose_solver=chooser),
        good=plugin(recon_choose_solver=lambda: "admm", recon_solvers=lambda: [solver("admm")]),
    )
    with pytest.warns(RuntimeWarning, match=f"bad:plugin .*recon_choose_solver: {error}"):
        assert registry.choose_solver(None, None) == "good/admm"  # type: ignore[arg-type]


def test_nobody_choosing_is_an_error_that_says_what_to_do():
    registry = registry_of(acme=plugin(recon_choose_solver=lambda: None))
    with pytest.raises(
        UnknownNameError, match=r"no plugin chose a solver for Solution with NoneType; name one: solver="
    ):
        registry.choose_solver(Solution(), None)  # type: ignore[arg-type]


def test_the_error_of_a_chooser_keeps_no_image_alive():
    class Image:
        pass

    def choose(op: Any) -> str:
        raise ValueError("no")

    registry = registry_of(
        bad=plugin(recon_choose_solver=choose),
        good=plugin(recon_choose_solver=lambda: "admm", recon_solvers=lambda: [solver("admm")]),
    )
    image = Image()
    watch = weakref.ref(image)
    with pytest.warns(RuntimeWarning):
        registry.choose_solver(image, None)  # type: ignore[arg-type]
    del image
    assert watch() is None


def test_observers_see_the_solution_and_their_errors_are_logged(caplog: pytest.LogCaptureFixture):
    seen: list[Any] = []
    registry = registry_of(
        a=plugin(recon_solve_finished=lambda solution: 1 / 0),
        b=plugin(recon_solve_finished=lambda: sys.exit(1)),
        c=plugin(recon_solve_finished=lambda solution: seen.append(solution)),
        environment={"RECON_STRICT_PLUGINS": "1"},
    )
    solution = Solution()
    with caplog.at_level(logging.ERROR, logger="recon"):
        registry.notify_solve_finished(solution)  # type: ignore[arg-type]
    assert seen == [solution]
    assert [record.getMessage() for record in caplog.records] == [
        "plugin a:plugin (a 1.0): recon_solve_finished failed",
        "plugin b:plugin (b 1.0): recon_solve_finished failed",
    ]
    assert "division by zero" in caplog.text
    assert [report.status for report in registry.plugins()] == ["ok", "ok", "ok"]


def test_a_finished_solve_is_never_lost_to_a_plugin_that_cannot_be_imported(
    distribute: Distribute, caplog: pytest.LogCaptureFixture
):
    registry = Registry(distribute("recon-bad", "1 / 0"), environment={"RECON_STRICT_PLUGINS": "1"})
    with caplog.at_level(logging.WARNING, logger="recon"):
        registry.notify_solve_finished(Solution())  # type: ignore[arg-type]
    assert "plugin recon-bad:plug (recon-bad 1.0) is broken and ignored: ZeroDivisionError" in caplog.text


# One registry for the process


def test_the_functions_use_the_registry_in_use():
    registry = registry_of(
        acme=plugin(
            recon_operators=lambda: [operator()],
            recon_solvers=lambda: [solver("admm")],
            recon_choose_solver=lambda: "admm",
            recon_solve_finished=lambda solution: seen.append(solution),
        )
    )
    seen: list[Any] = []
    before = recon.registry.installed()
    with recon.registry.using(registry):
        assert recon.registry.installed() is registry
        assert recon.registry.make("operator", "scale", factor=1).factor == 1
        assert recon.registry.find("operator", "scale") in recon.registry.items("operators")
        assert isinstance(recon.registry.find_by_factory("operator", f"{HERE}:Scale"), Found)
        assert recon.registry.choose_solver(None, None) == "acme/admm"  # type: ignore[arg-type]
        recon.registry.notify_solve_finished("solution")  # type: ignore[arg-type]
    assert seen == ["solution"]
    assert recon.registry.installed() is before


def test_many_threads_load_each_plugin_once(distribute: Distribute):
    source = """
        import time
        loads = []
        loads.append(1)
        time.sleep(0.05)
        @hookimpl
        def recon_priors():
            loads.append(2)
            time.sleep(0.05)
            return [PriorEntry(name="slow", factory="fractions:Fraction", summary="x")]
    """
    registry = Registry(distribute("recon-slow", source), environment={})
    start = threading.Barrier(8)
    found: list[str] = []

    def look_up() -> None:
        start.wait()
        found.append(registry.find("prior", "slow").name)

    threads = [threading.Thread(target=look_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["recon-slow/slow"] * 8
    assert sys.modules["recon_slow"].loads == [1, 2]


def test_loading_takes_time_that_is_reported(distribute: Distribute):
    registry = Registry(distribute("recon-slow", "import time; time.sleep(0.05)"), environment={})
    (report,) = registry.plugins()
    assert 50 <= report.milliseconds < 5000


# The contract


def test_every_hook_is_documented_with_an_example():
    for name in HOOKS:
        documentation = getattr(recon.hookspecs.ReconSpecs, name).__doc__
        assert documentation, name
        assert f"def {name}(" in documentation, f"{name} shows how it is implemented"


@pytest.mark.parametrize(
    "module",
    [recon.entries, recon.hookspecs, recon.discovery, recon.registry],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_the_docstrings_run(module: Any):
    assert doctest.testmod(module).failed == 0


def test_specifications_are_never_called():
    with pytest.raises(NotImplementedError):
        recon.hookspecs.ReconSpecs().recon_operators()


# Real packages in a real process


def test_entry_points_of_the_backport_are_entry_points(run_with_plugins: Any) -> None:
    """`importlib_metadata`, once imported (a dask worker does), gives `importlib.metadata` objects of its own class."""
    pytest.importorskip("importlib_metadata")
    done = run_with_plugins(
        code="""
        import importlib.metadata
        import importlib_metadata
        found = importlib.metadata.entry_points(group="recon")
        assert any(isinstance(point, importlib_metadata.EntryPoint) for point in found), "the case that is tested"
        from recon import registry
        print(registry.find("operator", "recon-good/scale").plugin)
        given = registry.Registry([point for point in found if point.dist.name == "recon-good"])
        print(given.find("operator", "scale").plugin)
        """,
        RECON_PLUGINS="recon-good",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[:2] == ["recon-good 1.2.0"] * 2


def test_installed_packages_are_found_and_broken_ones_do_no_harm(run_with_plugins: Any):
    done = run_with_plugins(
        code="""
        import warnings
        from recon import registry
        from recon.registry import AmbiguousNameError, UnknownNameError

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scale = registry.make("operator", "scale:factor=2")
            print(scale.factor, scale.recon_origin)
            print(registry.make("prior", "grow").weight, registry.make("prior", "recon-good/shrink").weight)
            print(registry.choose_solver(scale, None))
            registry.notify_solve_finished("the solution")
        for warning in caught:
            assert warning.category is RuntimeWarning
            print("W", warning.message)
        for name in ("shrink", "lost"):
            try:
                registry.find("prior", name)
            except LookupError as error:
                print("E", type(error).__name__, error)
        try:
            registry.make("operator", "needy", factor=1)
        except ImportError as error:
            print("E", error)
        """,
        RECON_DISABLE_PLUGINS="recon",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:5] == [
        "welcome to the future",
        "2.0 Origin(kind='operator', name='recon-good/scale', version='1.2.0', arguments={'factor': 2.0})",
        "2.0 1.0",
        "recon-good/halve:factor=0.5",
        "observed the solution",
    ]
    told = [line for line in lines if line.startswith("W plugin ")]
    assert [line.split()[2] for line in told] == [
        "recon-future:recon_future",
        "recon-exiting:recon_exiting",
        "recon-hooks:recon_hooks",
        "recon-misspelt:recon_misspelt",
        "recon-raising:recon_raising",
        "recon-signature:recon_signature",
        "recon-types:recon_types",
    ], "each once"
    ambiguous, unknown, missing = [line for line in lines if line.startswith("E ")]
    assert "recon-clash/shrink (recon-clash 0.3.1); recon-good/shrink (recon-good 1.2.0)" in ambiguous
    assert (
        "recon-types:recon_types (recon-types 0.1: recon_priors: TypeError: returned str as an item"
        in unknown
    )
    assert "recon-raising:recon_raising (recon-raising 0.1: ModuleNotFoundError" in unknown
    assert "blocked by RECON_DISABLE_PLUGINS" in unknown
    assert (
        missing == "E operator recon-good/needy needs surely_absent_library: pip install 'recon-good[absent]'"
    )
    assert "cannot watch" in done.stderr, "the observer's error is logged"


def test_strict_mode_stops_at_the_first_broken_package(run_with_plugins: Any):
    code = "from recon import registry; registry.find('operator', 'scale')"
    done = run_with_plugins(code=code, RECON_STRICT_PLUGINS="1", RECON_DISABLE_PLUGINS="recon")
    assert done.returncode == 1
    assert "PluginError: plugin recon-exiting:recon_exiting (recon-exiting 0.1) is broken" in done.stderr
    allowed = run_with_plugins(code=code, RECON_STRICT_PLUGINS="1", RECON_PLUGINS="recon-good")
    assert (allowed.returncode, allowed.stderr) == (0, "")


def test_blocked_packages_are_not_imported(run_with_plugins: Any):
    code = """
        import sys
        from recon import registry
        print(*(found.name for found in registry.items("prior")))
        print(*sorted(name for name in sys.modules if name.startswith("recon_")))
        """
    done = run_with_plugins(code=code, RECON_PLUGINS="recon-good,recon-clash:recon_clash")
    assert done.stdout.splitlines() == [
        "recon-clash/grow recon-clash/shrink recon-good/shrink",
        "recon_clash recon_good",
    ]
    assert run_with_plugins(code=code, RECON_PLUGINS="").stdout.split() == []
