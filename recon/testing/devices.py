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

_WRITES = (
    "copy_",
    "__setitem__",
    "index_put_",
    "index_add_",
    "index_copy_",
    "scatter_",
    "scatter_add_",
    "add_",
)
_MIXED = ("on the same device", "on the expected device")
"""What torch says where tensors on two devices meet: on CUDA, and on meta."""
_REMEDY = "Make tensors with device=x.device, or register them as buffers"


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
        calls: from a copy and its device to names and calls; their input is made here.

    Raises:
        AssertionError: a result lies elsewhere, or tensors on two devices met.
        unittest.SkipTest: there is no CUDA device, and the meta device, whose tensors have no values, cannot
            run this object because it looks at values.
    """
    for _, call in calls(module, torch.device("cpu")):
        call()  # what fails here already is no matter of devices
    device = torch.device("cuda" if torch.cuda.is_available() else "meta")
    try:
        ready = list(calls(copy.deepcopy(module).to(device), device))
    except NotImplementedError as error:  # a buffer without a meta form
        raise unittest.SkipTest(f"needs a CUDA device ({_first_sentence(error)})") from error
    for name, call in ready:
        with MadeElsewhere(device) as watch, torch.no_grad():
            try:
                result = call()
            except Exception as error:
                raise _explained(error, f"{name} on {device.type}", watch) from error
        if result.device.type != device.type:
            raise AssertionError(
                f"{name} of input on {device.type} lies on {result.device}: {watch.first or 'moved there'}. {_REMEDY}"
            )


def _explained(error: Exception, name: str, watch: MadeElsewhere) -> Exception:
    """A failure if tensors on two devices met; on the meta device anything else says nothing."""
    text = str(error)
    if isinstance(error, NotImplementedError) and watch.first and watch.last in _WRITES:
        return AssertionError(f"{name} writes into a tensor that lies elsewhere: {watch.first}. {_REMEDY}")
    if isinstance(error, RuntimeError) and any(words in text for words in _MIXED):
        made = f"{watch.first}. " if watch.first else ""
        return AssertionError(f"{name} mixes devices: {_first_sentence(error)}. {made}{_REMEDY}")
    if watch.device.type == "meta":
        return unittest.SkipTest(f"needs a CUDA device ({_first_sentence(error)})")
    return error


def _first_sentence(error: Exception) -> str:
    """Of the message: torch goes on with all the backends that it has."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(". ")[0].rstrip(".")
