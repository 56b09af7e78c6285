"""Memory: sizes in words, what is free, what a computation takes."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VARIABLE = "RECON_MEMORY"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def as_bytes(size: int | float | str) -> int:
    """A number of bytes from itself or from a text such as "4GiB", "500 MB".

    Raises:
        ValueError: anything else, or nothing at all.
    """
    text = re.fullmatch(r"\s*(\d+\.?\d*(?:e\d+)?)\s*([kmgt]?i?b)?\s*", str(size), re.IGNORECASE)
    unit = _UNITS.get((text[2] or "").upper()) if text else None
    count = 0 if text is None or unit is None or isinstance(size, bool) else int(float(text[1]) * unit)
    if count < 1:
        raise ValueError(f"a memory size is a number of bytes > 0, or a text such as '4GiB', got {size!r}")
    return count


def in_words(size: float) -> str:
    """A number of bytes as people read it, such as "1.2 GiB"."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"


def budget_of(memory: int | float | str | None) -> int | None:
    """The budget that was asked for: the argument, else the environment's RECON_MEMORY, else None."""
    if memory is not None:
        return as_bytes(memory)
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return None
    try:
        return as_bytes(given)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: {error}") from None


def free_on(device: torch.device) -> int:
    """Bytes that are free on a device: of a GPU's memory, or of the machine's and of its container's limit."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserved
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(free, max(0, int(limit.read_text()) - int(used.read_text())))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def peak_of(device: torch.device) -> int:
    """Most bytes that this process has held so far: of a GPU's memory in tensors, else resident in memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def size_of(tensors: Any) -> int:
    """Bytes of all tensors in a nested list, tuple or mapping."""
    return sum(
        leaf.numel() * leaf.element_size() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)
    )


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


class Meter(TorchDispatchMode):
    """Counts the bytes of the tensors that a computation holds at once.

    Every operation of PyTorch inside the block shows what it takes and gives; a storage counts until it is gone.
    What an operation needs for itself alone (the workspace of an FFT) is not seen.

    Attributes:
        peak: most bytes held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or not size:
            return
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, key, size).atexit = False

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


@contextmanager
def measured(device: torch.device) -> Iterator[list[int]]:
    """Measure the block: the list that it yields holds the bytes at the most, after the block.

    On a GPU the allocator counts, and the process's own peak (`peak_of`) is what it was or larger.
    """
    peak: list[int] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            yield peak
            peak.append(torch.cuda.max_memory_allocated(device) - before)
        else:
            meter = Meter()
            with meter:
                yield peak
            peak.append(meter.peak)
