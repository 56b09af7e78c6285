"""Imports deepinv beside a CPU build of torch: torchvision's compiled half is declared, never called."""

import importlib.util
import pathlib
import re

import torch

_source = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent / "_meta_registrations.py"
_found = re.findall(r'torchvision::(\w+)|@register_meta\("(\w+)"', _source.read_text())
_library = torch.library.Library("torchvision", "DEF")
for _name in sorted({first or second for first, second in _found}):
    _library.define(f"{_name}(Tensor x) -> Tensor")

import deepinv  # noqa: E402

__all__ = ["deepinv"]
