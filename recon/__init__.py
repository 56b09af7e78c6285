"""Computational imaging in PyTorch: any forward operator, any prior, one `solve`.

Public names are loaded at first use; ``import recon`` imports neither torch nor any plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.algebra import stack as stack
    from recon.channelwise import Channelwise as Channelwise
    from recon.early_stopping import HeldOut as HeldOut
    from recon.early_stopping import MovingVariance as MovingVariance
    from recon.early_stopping import WindowedVariance as WindowedVariance
    from recon.emission import Emission as Emission
    from recon.entries import DatasetEntry as DatasetEntry
    from recon.entries import Example as Example
    from recon.entries import MetricEntry as MetricEntry
    from recon.entries import NetworkEntry as NetworkEntry
    from recon.entries import NoiseEntry as NoiseEntry
    from recon.entries import ObjectiveEntry as ObjectiveEntry
    from recon.entries import OperatorEntry as OperatorEntry
    from recon.entries import PriorEntry as PriorEntry
    from recon.entries import ReaderEntry as ReaderEntry
    from recon.entries import SolverEntry as SolverEntry
    from recon.entries import WriterEntry as WriterEntry
    from recon.feature_distance import FeatureDistance as FeatureDistance
    from recon.fidelity import Gaussian as Gaussian
    from recon.groups import OutOfMemoryError as OutOfMemoryError
    from recon.hookspecs import hookimpl as hookimpl
    from recon.learned import LearnedPrior as LearnedPrior
    from recon.linear import Identity as Identity
    from recon.linear import LinearOperator as LinearOperator
    from recon.linear import ShapeError as ShapeError
    from recon.loading import Loaded as Loaded
    from recon.loading import load as load
    from recon.making import dataset as dataset
    from recon.making import metric as metric
    from recon.making import noise as noise
    from recon.making import operator as operator
    from recon.making import prior as prior
    from recon.making import solver as solver
    from recon.metrics import evaluate as evaluate
    from recon.parameters import Param as Param
    from recon.priors import Denoiser as Denoiser
    from recon.priors import Functional as Functional
    from recon.priors import Generator as Generator
    from recon.priors import Magnitude as Magnitude
    from recon.priors import Prior as Prior
    from recon.priors import RealAndImaginary as RealAndImaginary
    from recon.problem import Problem as Problem
    from recon.runner import DivergenceError as DivergenceError
    from recon.runner import Snapshot as Snapshot
    from recon.saving import save as save
    from recon.simulate import Noise as Noise
    from recon.slabs import solve_slabs as solve_slabs
    from recon.solution import Solution as Solution
    from recon.solvers.admm import ADMM as ADMM
    from recon.solvers.cg import CG as CG
    from recon.solvers.dip import DIP as DIP
    from recon.solvers.direct import Direct as Direct
    from recon.solvers.feedforward import Feedforward as Feedforward
    from recon.solvers.fista import FISTA as FISTA
    from recon.solvers.hqs import HQS as HQS
    from recon.solvers.lsqr import LSQR as LSQR
    from recon.solvers.osem import MLEM as MLEM
    from recon.solvers.osem import OSEM as OSEM
    from recon.solvers.pdhg import PDHG as PDHG
    from recon.solvers.red import RED as RED
    from recon.solvers.sirt import SIRT as SIRT
    from recon.solvers.splitting import Splitting as Splitting
    from recon.solving import ConvergenceWarning as ConvergenceWarning
    from recon.solving import solve as solve
    from recon.stopping import Discrepancy as Discrepancy
    from recon.stopping import MaxIterations as MaxIterations
    from recon.stopping import RelativeChange as RelativeChange
    from recon.stopping import SmallResiduals as SmallResiduals
    from recon.stopping import StoppingRule as StoppingRule
    from recon.stopping import TimeLimit as TimeLimit
    from recon.study import Study as Study
    from recon.study import solve_all as solve_all
    from recon.subsets import Subset as Subset
    from recon.sweeps.running import Sweep as Sweep
    from recon.sweeps.running import sweep as sweep
    from recon.training.objective import Objective as Objective
    from recon.training.train import train as train
    from recon.transmission import PWLS as PWLS
    from recon.transmission import Poisson as Poisson
    from recon.weight_rules.path import weight_path as weight_path

_HOMES = {
    "recon.algebra": "stack",
    "recon.channelwise": "Channelwise",
    "recon.early_stopping": "HeldOut MovingVariance WindowedVariance",
    "recon.emission": "Emission",
    "recon.entries": (
        "DatasetEntry Example MetricEntry NetworkEntry NoiseEntry ObjectiveEntry OperatorEntry PriorEntry "
        "ReaderEntry SolverEntry WriterEntry"
    ),
    "recon.feature_distance": "FeatureDistance",
    "recon.fidelity": "Gaussian",
    "recon.groups": "OutOfMemoryError",
    "recon.hookspecs": "hookimpl",
    "recon.learned": "LearnedPrior",
    "recon.linear": "Identity LinearOperator ShapeError",
    "recon.loading": "Loaded load",
    "recon.making": "dataset metric noise operator prior solver",
    "recon.metrics": "evaluate",
    "recon.parameters": "Param",
    "recon.priors": "Denoiser Functional Generator Magnitude Prior RealAndImaginary",
    "recon.problem": "Problem",
    "recon.runner": "DivergenceError Snapshot",
    "recon.saving": "save",
    "recon.simulate": "Noise",
    "recon.slabs": "solve_slabs",
    "recon.solution": "Solution",
    "recon.solvers.admm": "ADMM",
    "recon.solvers.cg": "CG",
    "recon.solvers.dip": "DIP",
    "recon.solvers.direct": "Direct",
    "recon.solvers.fista": "FISTA",
    "recon.solvers.lsqr": "LSQR",
    "recon.solvers.osem": "MLEM OSEM",
    "recon.solvers.pdhg": "PDHG",
    "recon.solvers.feedforward": "Feedforward",
    "recon.training.objective": "Objective",
    "recon.training.train": "train",
    "recon.solvers.sirt": "SIRT",
    "recon.solvers.splitting": "Splitting",
    "recon.solvers.hqs": "HQS",
    "recon.solvers.red": "RED",
    "recon.solving": "ConvergenceWarning solve",
    "recon.subsets": "Subset",
    "recon.sweeps.running": "Sweep sweep",
    "recon.transmission": "PWLS Poisson",
    "recon.study": "Study solve_all",
    "recon.stopping": "Discrepancy MaxIterations RelativeChange SmallResiduals StoppingRule TimeLimit",
    "recon.weight_rules.path": "weight_path",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'recon' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
