"""Sizes in words, what is free, and what a computation takes."""

from __future__ import annotations

import pytest
import torch

from recon.memory import as_bytes, free_on, in_words, measured, peak_of, ran_out

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (1, 1),
        (2.5e9, 2_500_000_000),
        ("4GiB", 4 * 2**30),
        (" 1.5 gib", 3 * 2**29),
        ("500 MB", 500_000_000),
        ("64kB", 64_000),
        ("7", 7),
        ("1e6", 1_000_000),
    ],
)
def test_sizes(text: float | str, count: int) -> None:
    assert as_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "GiB", "4 apples", "-4GiB", "0", 0, -1, True, float("nan"), float("inf"), "4 iB"]
)
def test_what_is_no_size_is_refused(text: float | str) -> None:
    with pytest.raises(ValueError, match="a memory size is a number of bytes > 0"):
        as_bytes(text)


def test_in_words() -> None:
    assert [in_words(size) for size in (3, 1024, 1.5 * 2**30, 2**40)] == ["3 B", "1 KiB", "1.5 GiB", "1 TiB"]


def test_the_meter_sees_what_is_held_at_once() -> None:
    size = 4 * 10**6
    with measured(CPU) as peak:
        x = torch.ones(10**6)
        for _ in range(5):
            x = x + 1  # two at once
        y = x.reshape(10, -1).mT[1:]  # views are no memory
        y.contiguous()  # a third after the loop has let go of the second
    assert size * 2 <= peak[0] <= size * 2.1


def test_the_meter_sees_the_backward_pass() -> None:
    x = torch.ones(10**6, requires_grad=True)
    with measured(CPU) as peak:
        x.sin().exp().square().sum().backward()
    assert peak[0] >= 4 * 4 * 10**6, "x, and what the derivatives of sin, exp and square need"


def test_measuring_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with measured(CPU):
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected)


def test_the_peak_of_the_process_holds_what_was_allocated() -> None:
    before = peak_of(CPU)
    torch.ones(before // 4 + 2**24)  # as many bytes as the peak, and 64 MiB
    assert peak_of(CPU) > before
    assert free_on(CPU) > 2**24


def test_errors_of_memory_are_told_apart() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**56)
    assert ran_out(error.value) and ran_out(MemoryError()) and not ran_out(RuntimeError("shape"))
