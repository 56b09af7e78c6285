"""The hooks that a plugin may implement: what each is for, when it is called and what it returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from recon.entries import (
        DatasetEntry,
        MetricEntry,
        NetworkEntry,
        NoiseEntry,
        ObjectiveEntry,
        OperatorEntry,
        PriorEntry,
        ReaderEntry,
        SolverEntry,
        WriterEntry,
    )
    from recon.linear import LinearOperator
    from recon.priors import Prior
    from recon.solution import Solution

PROJECT: Final = "recon"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
"""Marks a hook's specification (used in this module only)."""

hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's implementation of a hook: ``@recon.hookimpl`` or ``@recon.hookimpl(trylast=True)``."""


class ReconSpecs:
    """The hooks. A plugin is a light module whose functions of these names carry ``@recon.hookimpl``.

    The hooks that register things take no argument and return entries; they run when a name of their kind
    is first looked up. A plugin module must import neither torch nor any other heavy library: an entry only
    names its factory, which is imported when somebody uses the item.
    """

    @hookspec
    def recon_operators(self) -> Iterable[OperatorEntry]:
        """Return the forward operators of this plugin.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_operators():
        ...     yield recon.OperatorEntry(
        ...         name="motion_blur",
        ...         factory="acme.blur:MotionBlur",
        ...         summary="Blur along a straight path",
        ...         examples=(recon.Example({"shape": (8, 8), "length": 3}),),
        ...     )
        >>> [entry.name for entry in recon_operators()]
        ['motion_blur']
        """
        raise NotImplementedError

    @hookspec
    def recon_priors(self) -> Iterable[PriorEntry]:
        """Return the priors of this plugin.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_priors():
        ...     return [
        ...         recon.PriorEntry(
        ...             name="huber", factory="acme.huber:Huber",
        ...             summary="Smoothed l1", convex=True,
        ...         )
        ...     ]
        >>> recon_priors()[0].convex
        True
        """
        raise NotImplementedError

    @hookspec
    def recon_networks(self) -> Iterable[NetworkEntry]:
        """Return the network architectures of this plugin.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_networks():
        ...     return [
        ...         recon.NetworkEntry(
        ...             name="tiny_unet", factory="acme.nets:TinyUnet",
        ...             summary="A small U-Net",
        ...         )
        ...     ]
        >>> recon_networks()[0].kind
        'network'
        """
        raise NotImplementedError

    @hookspec
    def recon_solvers(self) -> Iterable[SolverEntry]:
        """Return the solvers of this plugin. `needs` names what a solver asks of operator and prior.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_solvers():
        ...     return [
        ...         recon.SolverEntry(
        ...             name="sirt", factory="acme.sirt:SIRT",
        ...             summary="SIRT", needs=("adjoint",),
        ...         )
        ...     ]
        >>> recon_solvers()[0].needs
        ('adjoint',)
        """
        raise NotImplementedError

    @hookspec
    def recon_objectives(self) -> Iterable[ObjectiveEntry]:
        """Return the training objectives of this plugin.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_objectives():
        ...     return [
        ...         recon.ObjectiveEntry(
        ...             name="n2n", factory="acme.n2n:Noise2Noise",
        ...             summary="Two noisy copies",
        ...         )
        ...     ]
        >>> recon_objectives()[0].name
        'n2n'
        """
        raise NotImplementedError

    @hookspec
    def recon_datasets(self) -> Iterable[DatasetEntry]:
        """Return the datasets of this plugin, each with its licence.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_datasets():
        ...     return [
        ...         recon.DatasetEntry(
        ...             name="knees", factory="acme.data:Knees",
        ...             summary="Knees", licence="CC-BY-4.0",
        ...         )
        ...     ]
        >>> recon_datasets()[0].licence
        'CC-BY-4.0'
        """
        raise NotImplementedError

    @hookspec
    def recon_readers(self) -> Iterable[ReaderEntry]:
        """Return the file readers of this plugin, chosen by the file name's ending.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_readers():
        ...     return [
        ...         recon.ReaderEntry(
        ...             name="mrd", factory="acme.mrd:read",
        ...             summary="ISMRMRD", suffixes=(".mrd",),
        ...         )
        ...     ]
        >>> recon_readers()[0].suffixes
        ('.mrd',)
        """
        raise NotImplementedError

    @hookspec
    def recon_writers(self) -> Iterable[WriterEntry]:
        """Return the file writers of this plugin, chosen by the file name's ending.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_writers():
        ...     return [
        ...         recon.WriterEntry(
        ...             name="raw", factory="acme.raw:write_raw", summary="Raw floats", suffixes=(".raw",)
        ...         )
        ...     ]
        >>> recon_writers()[0].suffixes
        ('.raw',)
        """
        raise NotImplementedError

    @hookspec
    def recon_metrics(self) -> Iterable[MetricEntry]:
        """Return the image metrics of this plugin.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_metrics():
        ...     return [
        ...         recon.MetricEntry(
        ...             name="mae", factory="acme.mae:MAE",
        ...             summary="MAE", higher_is_better=False,
        ...         )
        ...     ]
        >>> recon_metrics()[0].higher_is_better
        False
        """
        raise NotImplementedError

    @hookspec
    def recon_noise(self) -> Iterable[NoiseEntry]:
        """Return the noise models of this plugin.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_noise():
        ...     return [
        ...         recon.NoiseEntry(name="ring", factory="acme.ring:Rings", summary="Detector gain errors")
        ...     ]
        >>> recon_noise()[0].kind
        'noise'
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def recon_choose_solver(self, op: LinearOperator, prior: Prior | None) -> str | None:
        """Name the solver for ``solver="auto"``, or return None to leave the choice to others.

        Implementations marked ``tryfirst`` are asked first, those marked ``trylast`` last (the core's own
        rule is one of them), in between in the order of their plugins' ids. The answer is a name (``"admm"``,
        looked up in the same distribution first) or a name with arguments (``"admm:rho=0.5"``).

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_choose_solver(op, prior):
        ...     return "sirt" if prior is None else None
        >>> recon_choose_solver(op=None, prior=None)
        'sirt'
        """
        raise NotImplementedError

    @hookspec
    def recon_solve_finished(self, solution: Solution) -> None:
        """Look at a finished solution (to log or track it). An error here is logged and never stops a solve.

        >>> import recon
        >>> @recon.hookimpl
        ... def recon_solve_finished(solution):
        ...     print("stopped because", solution.reason)
        >>> from types import SimpleNamespace
        >>> recon_solve_finished(SimpleNamespace(reason="the residual matches the noise"))
        stopped because the residual matches the noise
        """
        raise NotImplementedError
