"""What every test needs where optional libraries are installed."""

import importlib.util
import sys
import types

import torch

if importlib.util.find_spec("torchvision") is not None and torch.version.cuda is None:
    # torchvision comes as a CUDA build only; beside a CPU build of torch its compiled operators, which deepinv
    # never calls, are missing, and this module of it, which describes their shapes, cannot be imported.
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
