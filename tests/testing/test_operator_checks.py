"""Each conformance check catches the fault it is there for, and says what it measured."""

import re

import pytest
import torch

from recon.linear import Identity, LinearOperator
from recon.testing import check_operator, operator_checks
from recon.testing.dense import conjugate_gradient_iterations
from recon.testing.running import judge


class Diagonal(LinearOperator):
    """x to d * x with positive d: a faultless operator to spoil."""

    def __init__(self, shape=(4, 5)):
        super().__init__(shape, shape)
        d = 1 + torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("d", d)

    def _forward(self, x):
        return x * self.d

    def _adjoint(self, y):
        return y * self.d

    def _norm(self):
        return float(self.d.max())

    def _gram(self, x):
        return x * self.d**2

    def _pinv(self, y):
        return y / self.d

    def solve_gram(self, b, rho, terms):
        if not all(isinstance(term, Identity) for term in terms):
            return None
        return b / (self.d**2 + sum(rho))

    def preconditioner(self, rho, terms):
        return lambda residual: residual / (self.d**2 + sum(rho))


class WrongAdjoint(Diagonal):
    def _adjoint(self, y):
        return 1.01 * y * self.d


class ApproximateAdjoint(WrongAdjoint):
    adjoint_kind = "approximate"
    adjoint_tolerance = 0.011


class TooApproximateAdjoint(WrongAdjoint):
    adjoint_kind = "approximate"
    adjoint_tolerance = 0.001


class Magnitude(Diagonal):
    def _forward(self, x):
        return x.abs() * self.d + 0 * x


class Offset(Diagonal):
    def _forward(self, x):
        return x * self.d + 1


class InPlace(Diagonal):
    def _forward(self, x):
        return x.mul_(self.d)


class ReturnsInput(Diagonal):
    def pinv(self, y, **options):
        return y.view_as(y)


class AssumesContiguous(Diagonal):
    def _forward(self, x):
        batch = x.shape[: x.ndim - 2]
        strides = [20 * stride for stride in torch.empty(batch).stride()]
        return torch.as_strided(x, (*batch, 4, 5), (*strides, 5, 1)) * self.d


class MixesItems(Diagonal):
    def _forward(self, x):
        return (x - (x.mean(0) if x.ndim > 2 else 0)) * self.d


class Random(Diagonal):
    def _pinv(self, y):
        return y / self.d * (1 + 1e-6 * torch.randn(()))


class NormTooSmall(Diagonal):
    def _norm(self):
        return 0.999 * super()._norm()


class NormTooLarge(Diagonal):
    def _norm(self):
        return 3 * super()._norm()


class Float32Inside(Diagonal):
    domain = "real"

    def _forward(self, x):
        return (x.float() * self.d.float()).to(x.dtype)


class MadeOnCPU(Diagonal):
    def _forward(self, x):
        return x * torch.ones(4, 5, device="cpu", dtype=x.dtype) * self.d


class WritesOnCPU(Diagonal):
    def _forward(self, x):
        result = torch.zeros(x.shape, dtype=x.dtype)
        result[:] = x * self.d.to(x.dtype)
        return result

    def _adjoint(self, y):
        return y * self.d


class DetachedParameter(Diagonal):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.5))

    def _forward(self, x):
        return x * self.d * self.gain

    def _adjoint(self, y):
        return y * self.d * self.gain.detach()

    _norm = LinearOperator._norm
    _gram = LinearOperator._gram
    _pinv = LinearOperator._pinv
    solve_gram = LinearOperator.solve_gram


class Learnable(DetachedParameter):
    def _adjoint(self, y):
        return y * self.d * self.gain


class WrongGram(Diagonal):
    def _gram(self, x):
        return x * self.d


class RandomAndWrong(WrongGram):
    def _pinv(self, y):
        return y / self.d * (1 + 1e-6 * torch.randn(()))


class PinvOfOtherSign(Diagonal):
    def _pinv(self, y):
        return -y / self.d


class PinvWithNaN(Diagonal):
    def _pinv(self, y):
        return y / self.d + torch.where(self.d > 1.9, torch.nan, 0.0)


class PinvOfItemsOnly(Diagonal):
    def _pinv(self, y):
        return (y / self.d).reshape(-1, 4, 5)[:1]


class WrongSolution(Diagonal):
    def solve_gram(self, b, rho, terms):
        solution = super().solve_gram(b, rho, terms)
        return None if solution is None else 1.001 * solution


class IgnoresItemWeights(Diagonal):
    def solve_gram(self, b, rho, terms):
        rho = [weight[:1] if isinstance(weight, torch.Tensor) else weight for weight in rho]
        return super().solve_gram(b, rho, terms)


class IndefinitePreconditioner(Diagonal):
    def preconditioner(self, rho, terms):
        sign = torch.ones(4, 5)
        sign[0, 0] = -1
        return lambda residual: residual * sign


class AsymmetricPreconditioner(Diagonal):
    def preconditioner(self, rho, terms):
        return lambda residual: residual + 0.1 * residual.roll(1, -1)


class HarmfulPreconditioner(Diagonal):
    def preconditioner(self, rho, terms):
        return lambda residual: residual * self.d**8


class DiffersInDouble(Diagonal):
    def _forward(self, x):
        return x * self.d * (1.001 if x.dtype in (torch.float64, torch.complex128) else 1)


class AcceptsComplex(Diagonal):
    domain = "real"

    def _checked(self, x, *, adjoint):
        return super()._checked(x.real if x.is_complex() else x, adjoint=adjoint)


class NotPicklable(Diagonal):
    def __init__(self):
        super().__init__()
        self.scale = lambda x: x


class KeepsOldState(Diagonal):
    def __init__(self):
        super().__init__()
        self.kept = None

    def __deepcopy__(self, memo):
        return type(self)()

    def _forward(self, x):
        self.kept = self.d.clone() if self.kept is None else self.kept
        return x * self.kept


class CutsTheGraph(Diagonal):
    def forward(self, x):
        return super().forward(x.detach()).requires_grad_(x.requires_grad)


class LooksAtValues(Diagonal):
    def forward(self, x):
        return super().forward(x) if float(x.detach().abs().sum()) < 1e9 else x


class WrongShape(Diagonal):
    def _forward(self, x):
        return (x * self.d).unsqueeze(0)


class SilentAboutShapes(Diagonal):
    def _checked(self, x, *, adjoint):
        if x.shape[-2:] != (4, 5):
            raise ValueError("no")
        return x


class EmptyBatchFails(Diagonal):
    def pinv(self, y, **options):
        return super().pinv(y, **options) * y.abs().max()


class RealSpectrum(LinearOperator):
    """Real images to half of their complex spectrum."""

    domain = "real"

    def __init__(self):
        super().__init__((4, 5), (4, 3))

    def _forward(self, x):
        return torch.fft.rfft2(x, norm="ortho")


class FullSpectrum(LinearOperator):
    """Real or complex images to their spectrum; adjoint by autograd."""

    def __init__(self):
        super().__init__((4, 5), (4, 5))

    def _forward(self, x):
        return torch.fft.fft2(x, norm="ortho")


class Spectrum(LinearOperator):
    """Complex images to their centred spectrum along one axis, with an adjoint to spoil."""

    domain = "complex"

    def __init__(self):
        super().__init__((4, 5), (4, 5))
        self.register_buffer("gain", 1 + torch.rand(4, 5, generator=torch.Generator().manual_seed(0)))

    def _forward(self, x):
        return torch.fft.fft(self.gain * x, dim=-1, norm="ortho")

    def _adjoint(self, y):
        return self.gain * torch.fft.ifft(y, dim=-1, norm="ortho")


class NoConjugate(Spectrum):
    def _adjoint(self, y):
        return self.gain * torch.fft.fft(y, dim=-1, norm="ortho")


class NoConjugateOfRealImages(RealSpectrum):
    def _adjoint(self, y):
        return super()._adjoint(y.conj())


class ShiftedByOne(Spectrum):
    def _adjoint(self, y):
        return super()._adjoint(y).roll(1, -1)


class FlippedData(Spectrum):
    def _adjoint(self, y):
        return super()._adjoint(y.flip(-2))


class WithoutOrtho(Spectrum):
    def _adjoint(self, y):
        return self.gain * torch.fft.ifft(y, dim=-1)


class WeightedOneWay(Diagonal):
    def _forward(self, x):
        return x.roll(1, -1) * self.d

    def _adjoint(self, y):
        return y.roll(-1, -1)


FAULTS = [
    (WrongAdjoint, "dense_adjoint", r"B equals 1.01 A\^H: a scale factor is missing or superfluous"),
    (NoConjugate, "dense_adjoint", r"B equals A\^T, not A\^H: the conjugate is missing"),
    (NoConjugateOfRealImages, "dense_adjoint", r"B equals A\^T, not A\^H: the conjugate is missing"),
    (ShiftedByOne, "dense_adjoint", r"the image, which the adjoint gives rolled by \+1 along image axis 1\."),
    (FlippedData, "dense_adjoint", r"the data, which the adjoint takes flipped along data axis 0\."),
    (
        WithoutOrtho,
        "dense_adjoint",
        r"one over the root of the length of image axis 1: is there an FFT without",
    ),
    (WeightedOneWay, "dense_adjoint", r"B = D A\^H with a factor of its own for every pixel, from 0\.5"),
    (WrongAdjoint, "dense_adjoint", r"\|B - A\^H\| is 1.0e-02 of \|A\|, expected at most 1.0e-05"),
    (TooApproximateAdjoint, "dense_adjoint", "at most 1.0e-03 for an adjoint declared as approximate"),
    (
        WrongAdjoint,
        "adjoint",
        r"<Ax, y> and <x, A\^H y> differ by 9.9e-03, .* for 3 of 3 seeds, expected at most 1.0e-03",
    ),
    (
        Float32Inside,
        "double_precision",
        "forward in torch.float64 is linear to .*e-0. only, expected 1e-10",
    ),
    (MadeOnCPU, "device", r"forward on meta mixes devices: .*ones made a tensor of shape \(4, 5\) on cpu"),
    (
        WritesOnCPU,
        "device",
        "forward on meta writes into a tensor that lies elsewhere: zeros made a tensor of shape",
    ),
    (
        DetachedParameter,
        "learnable_parameters",
        "the gradient of adjoint with respect to parameter 0 is 0 .*cut from the graph",
    ),
    (WrongAdjoint, "gradients", "differs from finite differences"),
    (Magnitude, "linearity", "forward in torch.float32 is not linear: relative error"),
    (Offset, "linearity", "forward in torch.float32 is not linear: relative error"),
    (InPlace, "input_unchanged", "forward in torch.float32 changes its input"),
    (ReturnsInput, "input_unchanged", "pinv in torch.float32 returns a view of its input"),
    (AssumesContiguous, "noncontiguous", "forward of a (strided|transposed) input differs"),
    (MixesItems, "batch_equals_loop", "forward of a batch differs from a loop"),
    (Random, "deterministic", "pinv gives two different results"),
    (NormTooSmall, "norm_bound", r"norm\(\) is .* below the largest singular value"),
    (NormTooLarge, "norm_bound", "expected at most 2 times the largest singular value"),
    (WrongGram, "gram", "gram in torch.float32 differs from the adjoint after the forward"),
    (PinvOfOtherSign, "pinv", r"A pinv\(y\) leaves 200% of clean data"),
    (PinvWithNaN, "pinv", "pinv gives NaN"),
    (PinvOfItemsOnly, "batch_equals_loop", "returned shape"),
    (WrongSolution, "solve_gram", "with .* Identity differs from the dense solution: relative error 1.0e-03"),
    (IgnoresItemWeights, "solve_gram", "differs from the dense solution"),
    (IndefinitePreconditioner, "preconditioner", "has eigenvalues from -1.0e"),
    (AsymmetricPreconditioner, "preconditioner", "is not Hermitian"),
    (HarmfulPreconditioner, "preconditioner", "conjugate gradients need .* steps with the preconditioner"),
    (DiffersInDouble, "dtypes", "forward differs in single and double precision: relative error 1.0e-03"),
    (AcceptsComplex, "dtypes", "accepts torch.complex64; with domain='real' it must refuse it"),
    (NotPicklable, "pickle_and_state_dict", "Pickl|pickle|local object"),
    (KeepsOldState, "pickle_and_state_dict", "a copy with the state loaded gives another result"),
    (CutsTheGraph, "gradients", "not have been used in the graph"),
    (LooksAtValues, "vmap", "item"),
    (WrongShape, "shapes", "returned shape"),
    (SilentAboutShapes, "shapes", "does not name"),
    (EmptyBatchFails, "empty_batch", "max"),
]


def failure(operator, check):
    """The message with which a check fails; empty if it passes."""
    return judge(operator_checks(operator)[check]).message


@pytest.mark.parametrize(
    "operator",
    [
        Diagonal(),
        Identity((3, 4)),
        Diagonal((6,)),
        ApproximateAdjoint(),
        RealSpectrum(),
        FullSpectrum(),
        Learnable(),
    ],
)
def test_a_faultless_operator_passes_every_check(operator):
    names = check_operator(operator)
    assert names == list(operator_checks(operator))
    assert {"dense_adjoint", "gradients", "vmap", "norm_bound", "pickle_and_state_dict"} <= set(names)


@pytest.mark.parametrize(("fault", "check", "said"), FAULTS)
def test_a_fault_is_caught_by_its_check(fault, check, said):
    assert re.search(said, failure(fault(), check))


def test_every_check_has_a_fault_that_it_catches():
    assert {check for _, check, _ in FAULTS} == set(operator_checks(Diagonal()))


def test_all_failures_are_reported_together():
    with pytest.raises(
        AssertionError, match=r"(?s)RandomAndWrong fails 2 checks\ndeterministic: .*\ngram: .*"
    ):
        check_operator(RandomAndWrong())


def test_an_expected_failure_must_fail():
    reason = "the norm is a rough bound"
    assert check_operator(NormTooLarge(), expected_failures={"norm_bound": reason})
    with pytest.raises(
        AssertionError, match=f"norm_bound: passed, although it is expected to fail .{reason}"
    ):
        check_operator(Diagonal(), expected_failures={"norm_bound": reason})
    with pytest.raises(
        ValueError, match="no such check: norm_bounds; did you mean 'norm_bound'. The checks are shapes,"
    ):
        check_operator(Diagonal(), expected_failures={"norm_bounds": reason})


def test_an_operator_too_large_for_a_matrix_is_refused():
    with pytest.raises(
        ValueError, match="too large to be written as a matrix of 4096 x 4096: check a smaller"
    ):
        check_operator(Identity((64, 64)))


def test_conjugate_gradients_are_counted():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 4.0, 4.0, 9.0]))
    assert conjugate_gradient_iterations(matrix, tolerance=1e-10) == 3  # three distinct eigenvalues
    assert conjugate_gradient_iterations(matrix, torch.linalg.inv(matrix)) == 1
    assert conjugate_gradient_iterations(matrix, tolerance=1e-10, most=2) == 2
