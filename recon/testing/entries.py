"""Checks of what a plugin declares: light hooks, factories that resolve, documented parameters, true fields."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import Any

from recon.discovery import GROUP, PluginReport, normalised
from recon.entries import DatasetEntry, MetricEntry, OperatorEntry, PriorEntry, ReaderEntry
from recon.parameters import Parameter
from recon.registry import Found
from recon.testing.kinds import ALGORITHM_METHODS, kind_of
from recon.testing.measuring import Checks, require

HEAVY = (
    "astra", "cv2", "dask", "deepinv", "h5py", "jax", "keras", "lightning", "matplotlib", "nibabel", "numba",
    "numpy", "odl", "pandas", "PIL", "pydicom", "pylops", "scipy", "sigpy", "skimage", "tensorflow",
    "tifffile", "torch", "torchvision", "transformers",
)  # fmt: skip
"""Libraries that a hook module must not import: listing plugins would take seconds."""

_TRY_HOOKS = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
module, _, attribute = sys.argv[2].partition(":")
plugin = importlib.import_module(module)
for part in filter(None, attribute.split(".")):
    plugin = getattr(plugin, part)
after_import = set(sys.modules)
for hook in json.loads(sys.argv[3]):
    if hasattr(plugin, hook):
        list(getattr(plugin, hook)())
heavy = json.loads(sys.argv[4])
print()
print(json.dumps([[name for name in heavy if name in seen] for seen in (after_import, set(sys.modules))]))
"""


def plugin_checks(report: PluginReport) -> Checks:
    """The checks of a plugin as a whole."""
    checks: Checks = {"loads": lambda: check_loads(report)}
    if target := _entry_point(report):
        checks["light_hooks"] = lambda: check_light_hooks(target)
    return checks


def entry_checks(found: Found) -> Checks:
    """The checks of an entry, without making anything of it."""
    checks: Checks = {
        "factory": lambda: check_factory(found),
        "parameters": lambda: check_parameters(found),
    }
    if isinstance(found.entry, DatasetEntry):
        checks["licence"] = lambda: check_licence(found)
    if isinstance(found.entry, ReaderEntry):
        from recon.testing.data import reader_checks

        checks.update(reader_checks(found))
    return checks


def match_checks(found: Found, made: Any) -> Checks:
    """Whether an object is what its entry says, and what only objects of this kind promise."""
    checks: Checks = {"declaration": lambda: check_declaration(found, made)}
    if isinstance(found.entry, DatasetEntry):
        from recon.testing.data import dataset_checks

        checks.update(dataset_checks(made))
    return checks


def check_loads(report: PluginReport) -> None:
    """The plugin was imported and its hooks gave entries."""
    require(
        report.status == "ok",
        f"the plugin {report.plugin.id} is {report.status}: {report.error}. `recon plugins` shows all of them",
    )


def check_light_hooks(target: str) -> None:
    """Importing the hook module, and calling its hooks, imports no heavy library (in a fresh process)."""
    import json

    from recon.entries import ENTRY_CLASSES

    hooks = [f"recon_{candidate.plural}" for candidate in ENTRY_CLASSES]
    command = [sys.executable, "-P", "-c", _TRY_HOOKS, json.dumps(sys.path), target, json.dumps(hooks)]
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        [*command, json.dumps(HEAVY)], capture_output=True, text=True, timeout=120, check=False
    )
    lines = done.stderr.strip().splitlines()
    require(done.returncode == 0, f"{target} cannot be imported by itself: {lines[-1] if lines else ''}")
    after_import, after_hooks = json.loads(done.stdout.splitlines()[-1])
    require(
        not after_import,
        f"importing {target} imports {', '.join(after_import)}, expected no library: name the factory as "
        "'module:attribute' and keep the classes in another module, or import inside the function",
    )
    require(
        not after_hooks,
        f"calling the hooks of {target} imports {', '.join(after_hooks)}, expected no library: entries only "
        "name their factory",
    )


def check_factory(found: Found) -> None:
    """The factory can be imported (an ImportError is a failure: the libraries it requires are installed)."""
    try:
        factory = found.load()
    except ImportError as error:
        raise AssertionError(
            f"{found.entry.factory} cannot be imported: {error}. Is it spelt right, and does "
            f"requires={found.entry.requires} name every optional library?"
        ) from error
    require(
        callable(factory),
        f"{found.entry.factory} is a {type(factory).__name__}, expected a class or function",
    )


def check_parameters(found: Found) -> None:
    """Every parameter of the factory has a type and a description: the command line is made of them."""
    undescribed = [p.name for p in found.parameters() if not p.about.description.strip()]
    untyped = [p.name for p in found.parameters() if _is_untyped(p)]
    require(
        not untyped,
        f"{found.entry.factory} gives no type for {', '.join(untyped)}: annotate each parameter, as in "
        "size: Annotated[int, recon.Param('width of the kernel', unit='px', ge=1)]",
    )
    require(
        not undescribed,
        f"{found.entry.factory} does not describe {', '.join(undescribed)}: `recon show {found.entry.kind} "
        f"{found.entry.name}` has nothing to say about them. Annotate with recon.Param('...', unit='...')",
    )


def check_licence(found: Found) -> None:
    """A dataset names its licence."""
    entry = found.entry
    assert isinstance(entry, DatasetEntry)
    require(bool(entry.licence.strip()), f"dataset {entry.name} has licence='', expected its name or address")


def check_declaration(found: Found, made: Any) -> None:
    """The fields of the entry say what the object is."""
    entry, name = found.entry, type(made).__name__
    expected = {"operator": "a recon.LinearOperator", "prior": "a recon.Functional, Denoiser or Generator"}
    expected |= {"metric": "a recon.metrics.Metric", "noise": "a recon.Noise"}
    expected |= {"network": "a torch.nn.Module", "objective": "a recon.training.objective.Objective"}
    expected |= {"solver": f"an object with {', '.join(ALGORITHM_METHODS)}"}
    if entry.kind in expected:
        require(
            kind_of(made) == entry.kind,
            f"{entry.factory} makes a {name}, expected {expected[entry.kind]} as it is registered as {entry.kind}",
        )
    if isinstance(entry, OperatorEntry | PriorEntry):
        require(
            made.domain == entry.domain,
            f"{name} has domain={made.domain!r}, its entry says domain={entry.domain!r}: one of the two is wrong",
        )
    if isinstance(entry, OperatorEntry):
        require(
            made.nonnegative or not entry.nonnegative,
            f"the entry says nonnegative=True, but {name}.nonnegative is False: set it on the class",
        )
    convex = getattr(made, "convex", None)
    if isinstance(entry, PriorEntry) and convex is not None:
        require(
            entry.convex is None or entry.convex == convex,
            f"{name}.convex is {convex}, its entry says convex={entry.convex}",
        )
    if isinstance(entry, MetricEntry):
        require(
            made.higher_is_better == entry.higher_is_better,
            f"{name}.higher_is_better is {made.higher_is_better}, its entry says {entry.higher_is_better}",
        )


def _is_untyped(parameter: Parameter) -> bool:
    from recon.parameters import type_name

    return type_name(parameter.annotation) in ("any", "Any", "")


def _entry_point(report: PluginReport) -> str:
    """``"module"`` or ``"module:attribute"`` of an installed plugin; empty for an object added by hand."""
    for entry_point in importlib.metadata.entry_points(group=GROUP):
        distribution = entry_point.dist.name if entry_point.dist is not None else ""
        if f"{normalised(distribution)}:{entry_point.name}" == report.plugin.id:
            return entry_point.value
    return ""
