"""Checks of how an operator is called: shapes, linearity, batches, types, memory, determinism, copies."""

from __future__ import annotations

import torch

from recon.linear import LinearOperator, real_dtype
from recon.testing.devices import Call, require_device_kept
from recon.testing.measuring import DOUBLE, EXACT, relative_error, require, require_close, twins
from recon.testing.ways import all_ways, both_ways


def check_shapes(operator: LinearOperator) -> None:
    """Images become data and data images, whatever the batch axes; other shapes raise and say what fits."""
    for way in both_ways(operator):
        for batch in ((), (1,), (2,), (2, 3)):
            got = tuple(way.apply(way.draw(*batch)).shape)
            expected = (*batch, *way.target)
            require(got == expected, f"{way.name} of batch {batch} has shape {got}, expected {expected}")
        wrong = way.draw(2)[..., :1].expand(*way.draw(2).shape[:-1], way.source[-1] + 1)
        try:
            way.apply(wrong)
        except ValueError as error:
            named = all(str(side) in str(error) for side in way.source)
            require(named, f"the error for {way.name} of {wrong.shape} does not name {way.source}: {error}")
        else:
            raise AssertionError(
                f"{way.name} accepts an input of shape {tuple(wrong.shape)}; it needs (*batch, *{way.source})"
            )


def check_linearity(operator: LinearOperator) -> None:
    """A(a x + b y) = a A x + b A y for forward and adjoint, with complex factors for complex x; A 0 = 0."""
    for way in both_ways(operator):
        for dtype in way.dtypes:
            over_complex = dtype.is_complex and operator.domain != "real"
            a, b = (0.7 - 0.4j, -1.3 + 0.2j) if over_complex else (0.7, -1.3)
            x, y = (way.draw(dtype=dtype, seed=seed) for seed in (1, 2))
            what = f"{way.name} in {dtype} is not linear"
            require_close(way.apply(a * x + b * y), a * way.apply(x) + b * way.apply(y), what)
            at_zero = float(way.apply(torch.zeros_like(x)).abs().max())
            require(at_zero == 0, f"{way.name} of zeros in {dtype} reaches {at_zero:.1e}, expected 0")


def check_batch_equals_loop(operator: LinearOperator) -> None:
    """A batch gives the same as its items one by one: forward, adjoint, gram and pinv."""
    for way in all_ways(operator):
        xs = way.draw(2, 3)
        wanted = torch.stack([torch.stack([way.apply(x) for x in row]) for row in xs])
        require_close(way.apply(xs), wanted, f"{way.name} of a batch differs from a loop over its items")


def check_empty_batch(operator: LinearOperator) -> None:
    """A batch of no items gives no items, of the right shape: forward, adjoint, gram and pinv."""
    for way in all_ways(operator):
        for batch in ((0,), (2, 0)):
            got = tuple(way.apply(way.draw(*batch)).shape)
            expected = (*batch, *way.target)
            require(got == expected, f"{way.name} of an empty batch has shape {got}, expected {expected}")


def check_dtypes(operator: LinearOperator) -> None:
    """The precision of the input is kept, both precisions agree, types that do not fit raise a TypeError."""
    for way in all_ways(operator):
        for dtype in way.dtypes:
            x = way.draw(dtype=DOUBLE[dtype])
            double, single = way.apply(x), way.apply(x.to(dtype))
            for result, given in ((double, DOUBLE[dtype]), (single, dtype)):
                kept = real_dtype(result.dtype) == real_dtype(given)
                require(kept, f"{way.name} of {given} gives {result.dtype}: the precision must stay")
                is_image = way.name != "forward"
                fits = (
                    not (operator.domain == "complex" and not result.is_complex())
                    and not (operator.domain == "real" and is_image and result.is_complex())
                    and not (operator.domain == "any" and given.is_complex and not result.is_complex())
                )
                require(fits, f"{way.name} of {given} gives {result.dtype}; domain={operator.domain!r}")
            require_close(
                single.to(double.dtype), double, f"{way.name} differs in single and double precision"
            )
    for dtype in (torch.int64, torch.bool, *((torch.complex64,) if operator.domain == "real" else ())):
        try:
            operator(torch.ones(operator.domain_shape, dtype=dtype, device=operator.device))
        except TypeError:
            continue
        raise AssertionError(f"forward accepts {dtype}; with domain={operator.domain!r} it must refuse it")


def check_input_unchanged(operator: LinearOperator) -> None:
    """No map writes into its input or returns a tensor that shares memory with it."""
    for way in all_ways(operator):
        for dtype in way.dtypes:
            x = way.draw(2, dtype=dtype)
            before = x.clone()
            result = way.apply(x)
            require(torch.equal(x, before), f"{way.name} in {dtype} changes its input")
            shared = result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
            require(not shared, f"{way.name} in {dtype} returns a view of its input: return a copy")


def check_noncontiguous(operator: LinearOperator) -> None:
    """Strided, expanded and lazily conjugated inputs give the same as contiguous ones."""
    for way in both_ways(operator):
        x = way.draw(4)
        wanted = way.apply(x)
        strided = torch.stack([x, x + 1], dim=-1)[..., 0]
        require_close(way.apply(strided), wanted, f"{way.name} of a strided input differs")
        turned = x.movedim(-1, 0).contiguous().movedim(0, -1)
        require_close(way.apply(turned), wanted, f"{way.name} of a transposed input differs")
        require_close(way.apply(x[::2]), wanted[::2], f"{way.name} of every second item differs")
        expanded = way.apply(x[:1].expand_as(x))
        require_close(expanded, wanted[:1].expand_as(wanted), f"{way.name} of an expanded input differs")
        if x.is_complex():
            conjugated = way.apply(x.conj().resolve_conj())
            require_close(way.apply(x.conj()), conjugated, f"{way.name} of a conjugated view differs")


def check_deterministic(operator: LinearOperator) -> None:
    """The same input gives the same output, to the last bit."""
    for way in all_ways(operator):
        x = way.draw(2)
        require(torch.equal(way.apply(x), way.apply(x)), f"{way.name} gives two different results")


def check_pickle_and_state_dict(operator: LinearOperator) -> None:
    """A pickled copy, a deep copy, and a copy with the state loaded do the same as the operator."""
    x = both_ways(operator)[0].draw()
    wanted, normal = operator(x), operator.gram(x)

    def use(twin: LinearOperator) -> None:
        twin(x), twin.gram(x), twin.adjoint(wanted)

    for what, same in twins(operator, use).items():
        fine = torch.equal(same(x), wanted) and torch.equal(same.gram(x), normal)
        require(fine, f"{what} gives another result than the operator")


def check_double_precision(operator: LinearOperator) -> None:
    """In double precision the operator is linear to double precision: nothing inside is rounded to single."""
    for way in both_ways(operator):
        dtype = DOUBLE[way.dtypes[-1]]
        x, y = (way.draw(dtype=dtype, seed=seed) for seed in (1, 2))
        error = relative_error(way.apply(0.7 * x - 1.3 * y), 0.7 * way.apply(x) - 1.3 * way.apply(y))
        require(
            error <= EXACT,
            f"{way.name} in {dtype} is linear to {error:.1e} only, expected {EXACT:.0e}: something inside "
            "is computed in single precision (a .float(), a float32 buffer made of rounded input)",
        )


def check_device(operator: LinearOperator) -> None:
    """Results lie where the operator and its input lie; see `recon.testing.devices`."""
    forward, adjoint = both_ways(operator)

    def calls(moved: LinearOperator, device: torch.device) -> list[Call]:
        x, y = forward.draw(2).to(device), adjoint.draw(2).to(device)
        return [("forward", lambda: moved(x)), ("adjoint", lambda: moved.adjoint(y))]

    require_device_kept(operator, calls)
