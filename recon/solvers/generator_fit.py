"""What it means to fit a generator to a problem: its images in the problem's units, its input, its objective."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recon.linear import real_dtype
from recon.priors import Denoiser, Generator
from recon.problem import Problem
from recon.solvers.algorithm import per_item
from recon.solvers.parallel_networks import ParallelNetworks

MARGIN = 0.1
"""By how much of its width the range of the direct reconstruction is widened at each end."""
SEEDS = 2**31


class GeneratorFit:
    """The generator of a problem and how well its images fit the data; built once, used for any of the items.

    Args:
        problem: with one generator among its priors.
        together: whether the networks of several items run as one.
        reg_noise: standard deviation of the noise on the input.
        held_out: share of the samples kept back.

    Raises:
        ValueError: priors that cannot be fitted, or a generator of other images.
        MemoryError: a network that does not fit into memory for images of this size.
    """

    def __init__(self, problem: Problem, *, together: bool, reg_noise: float, held_out: float) -> None:
        check_priors(problem)
        generator = problem.fitted_generator
        assert generator is not None
        count = generator.fixed_input.shape[0]
        if count not in (1, problem.items):
            raise ValueError(
                f"the fixed input of the generator, a prior, has {count} items, expected 1, or {problem.items} as "
                "the data"
            )
        self.generator, self.fixed = generator, generator.fixed_input
        self.seed, self.reg_noise, self.held_out = problem.seed, reg_noise, held_out
        shape = problem.operator.domain_shape
        self.networks = ParallelNetworks(generator, shape, is_complex=problem.is_complex, together=together)
        check_memory(self.networks.network, self.fixed[:1], problem.items, shape)
        self.kept_back = _kept_back(problem, held_out) if held_out else None

    def images(self, theta: Tensor, low: Tensor, high: Tensor, inputs: Tensor) -> Tensor:
        """The networks' images, their values mapped to the range of each item ``(B,)``."""
        image = self.networks(theta, inputs)
        if self.generator.value_range is None:
            return image
        bottom, top = self.generator.value_range
        real = real_dtype(image.dtype)
        factor = ((high - low) / (top - bottom)).to(real)
        offset = per_item(low.to(real) - factor * bottom, image)
        if image.is_complex():
            offset = torch.complex(offset, offset)
        return per_item(factor, image) * image + offset

    def inputs(self, own: Sequence[Tensor], iteration: int | None) -> Tensor:
        """The fixed input, of each item its own where there are such, with an iteration's noise, the same for all.

        The noise is drawn from seed and iteration, so that a resumed run meets it again.
        """
        fixed = own[0] if own else self.fixed
        if self.reg_noise == 0 or iteration is None:
            return fixed
        stream = torch.Generator(fixed.device).manual_seed((self.seed * 1_000_003 + iteration) % SEEDS)
        real = real_dtype(fixed.dtype)
        noise = torch.randn(fixed[:1].shape, generator=stream, device=fixed.device, dtype=real)
        return fixed + self.reg_noise * noise

    def objective(self, problem: Problem, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """f(A x; y) + sum_i g_i(K_i x) relative to f of a blank image; the error on samples kept back, if any are.

        Constraints are projected onto, with the gradient of the image itself: a pixel that is clipped must find its
        way back. Samples kept back have their data in the place of what is predicted, which no data term minds.
        """
        image = image + (problem.project(image.detach()) - image.detach())
        predicted = problem.operator(image)
        errors = []
        if self.kept_back is not None:
            squares = torch.where(self.kept_back, (predicted - problem.y).abs().square(), 0).flatten(1).sum(1)
            energy = torch.where(self.kept_back, problem.y.abs().square(), 0).flatten(1).sum(1)
            errors = [squares.double() / energy.double().clamp_min(1e-30)]
            predicted = torch.where(self.kept_back, problem.y, predicted)
        objective = problem.item_fidelity.value(predicted, problem.y) + problem.penalty(image)
        blank = 0.5 * problem.item_fidelity.weighted_norm(problem.y).double().square()
        return objective.double() / torch.where(blank > 0, blank, torch.ones_like(blank)), errors

    def too_large(self, problem: Problem) -> MemoryError:
        """The error for a pass that the device had no memory for: what fits, as far as the network alone tells."""
        shape = problem.operator.domain_shape
        try:
            check_memory(self.networks.network, self.fixed[:1], problem.items, shape)
        except MemoryError as error:
            return error
        half = " x ".join(str(max(1, side // 2)) for side in shape)
        return MemoryError(
            f"no memory left on {problem.y.device} for {problem.items} images of {shape}: others use it too, or the "
            f"operator needs much. Try fewer images at once, images of {half}, or a smaller network"
        )


def value_range(problem: Problem) -> tuple[Tensor, Tensor]:
    """The range of each item's values ``(B,)``: given, or that of the direct reconstruction widened at each end.

    A first image counts too. For complex images the largest magnitude bounds the real and the imaginary part.
    """
    direct = problem.operator.pinv(problem.usable_data)
    if problem.x0 is not None:
        direct = torch.stack([direct, problem.x0], 1)
    values = direct.abs() if problem.is_complex else direct
    high = values.flatten(1).amax(1).double()
    low = -high if problem.is_complex else values.flatten(1).amin(1).double()
    given = problem.image_range
    if given is not None:
        least = -given[1] if problem.is_complex else given[0]
        return torch.full_like(low, least), torch.full_like(high, given[1])
    width = torch.where(high > low, high - low, torch.ones_like(high))
    return low - MARGIN * width, high + MARGIN * width


def check_memory(network: nn.Module, inputs: Tensor, items: int, shape: Sequence[int]) -> None:
    """Refuse a fit that the device has no memory for, before it tries.

    Raises:
        MemoryError: says what is needed, what there is, and which size of image would fit.
    """
    try:
        needed = 2 * items * memory_needed(network, inputs)  # forward, and the gradients of what it keeps
    except (RuntimeError, NotImplementedError, TypeError):
        return  # a network that can only be run: it will tell
    there = memory_there(inputs.device)
    if there is None or needed <= there:
        return
    side = (there / needed) ** (1 / len(shape))
    fitting = " x ".join(str(max(1, int(length * side))) for length in shape)
    images = f"{items} image{'s' if items > 1 else ''} of {' x '.join(map(str, shape))}"
    raise MemoryError(
        f"fitting the generator to {images} needs about "
        f"{needed / 2**30:.1f} GiB, and {there / 2**30:.1f} GiB are there: images of about {fitting} fit"
        + (f", or {int(items * there / needed)} of them at once" if needed <= items * there else "")
        + "; or take a smaller network, such as 'dip:preset=small_256'"
    )


def memory_needed(network: nn.Module, inputs: Tensor) -> int:
    """Bytes that one forward pass keeps for its gradient, found without computing anything.

    Raises:
        RuntimeError: a network that torch's meta device cannot run.
    """
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        kept.append(tensor)  # no address is given out twice
        return tensor

    unknown = copy.deepcopy(network).to("meta").train()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        unknown(torch.empty(inputs.shape, dtype=inputs.dtype, device="meta"))
    return sum(sizes.values())


def memory_there(device: torch.device) -> int | None:
    """Bytes of memory that the device can give; None: unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return None
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return None


def _kept_back(problem: Problem, share: float) -> Tensor:
    """Mask of the samples kept back from the fit, the same for every item: drawn among those measured."""
    stream = torch.Generator().manual_seed(problem.seed)
    chance = torch.rand(problem.operator.range_shape, generator=stream).to(problem.y.device)
    mask = (chance < share) & (problem._counted > 0).reshape(-1, *chance.shape).all(0)
    if not bool(mask.any()):
        raise ValueError(f"held_out={share} keeps no sample back: give a larger share")
    return mask


def check_priors(problem: Problem) -> None:
    """Raise ValueError unless there is one generator, with nothing beside it but functionals."""
    members = [] if problem.prior is None else problem.prior.members
    generators = [member for member in members if isinstance(member, Generator)]
    if len(generators) != 1:
        raise ValueError(
            f"solver='dip' fits one generator as prior, got {len(generators)}: use the prior 'dip', alone or in a "
            "sum such as 'dip + tv'"
        )
    for member in members:
        if isinstance(member, Denoiser):
            raise ValueError(
                f"solver='dip' differentiates what is beside the generator, but the prior {type(member).__name__} is a "
                "denoiser, which has no value: use functionals such as 'tv', or solver='admm' without the generator"
            )
