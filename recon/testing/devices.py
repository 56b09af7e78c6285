"""Does an object keep its results on the device of its input? Tried on CUDA, else on torch's meta device."""

from __future__ import annotations

import copy
import unittest
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Call = tuple[str, Callable[[], Tensor]]


class MadeElsewhere(TorchFunctionMode):
    """Remembers the first call inside the block that made a tensor on another device than `device`.

    Single numbers do not count: torch moves those by itself.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.first, self.last = device, "", ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.last = getattr(func, "__name__", str(func))
        result = func(*args, **(kwargs or {}))
        elsewhere = isinstance(result, Tensor) and result.device.type != self.device.type
        if elsewhere and result.ndim and not self.first:
            self.first = f"{self.last} made a tensor of shape {tuple(result.shape)} on {result.device}"
        return result


def require_device_kept(module: nn.Module, calls: Callable[[Any, torch.device], Iterable[Call]]) -> None:
    """Move a copy of the module, and require the result of each call on it to lie on the same device.

    Args:
        module: what is tried.
        calls: from the moved copy and its device to names and calls; their input is made here.

    Raises:
        AssertionError: a result lies elsewhere, or tensors on two devices met.
        unittest.SkipTest: there is no CUDA device, and the meta device, whose tensors have no values, cannot
            run this object because it looks at values.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "meta")
    try:
        moved = copy.deepcopy(module).to(device)
        ready = list(calls(moved, device))
    except NotImplementedError as error:
        raise unittest.SkipTest(f"needs a CUDA device ({_first_line(error)})") from error
    for name, call in ready:
        with MadeElsewhere(device) as watch, torch.no_grad():
            try:
                result = call()
            except NotImplementedError as error:
                if watch.first and watch.last in ("copy_", "__setitem__", "index_put_", "add_", "index_add_"):
                    raise AssertionError(
                        f"{name} on {device.type} writes into a tensor that lies elsewhere: {watch.first}. "
                        "Make it with device=x.device, or register it as a buffer"
                    ) from error
                raise unittest.SkipTest(f"needs a CUDA device ({_first_line(error)})") from error
            except (RuntimeError, TypeError) as error:
                if "numpy" in str(error) or device.type not in str(error):
                    if device.type == "meta":
                        raise unittest.SkipTest(f"needs a CUDA device ({_first_line(error)})") from error
                    raise
                raise AssertionError(
                    f"{name} on {device.type} mixes devices: {_first_line(error)} "
                    f"{watch.first}. Make tensors with device=x.device, or register them as buffers"
                ) from error
        if result.device.type != device.type:
            raise AssertionError(
                f"{name} of input on {device.type} lies on {result.device}: {watch.first or 'moved there'}. "
                "Make tensors with device=x.device, or register them as buffers"
            )


def _first_line(error: Exception) -> str:
    """The first sentence: torch goes on with all the backends that it has."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(". ")[0]
