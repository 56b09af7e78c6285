"""The sizes in which the experiments beside this file run, and the arguments that all of them take."""

import argparse
from pathlib import Path

import torch


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """OUTPUT, the size, the device and the epochs; `doc` is a script's own docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--full", dest="size", action="store_const", const="full", help="the published size: for a GPU"
    )
    sizes.add_argument(
        "--smoke", dest="size", action="store_const", const="smoke", help="seconds: does every part learn?"
    )
    parser.set_defaults(size="small")
    parser.add_argument("--device", default="auto", help="of --full; the smaller sizes run on a CPU")
    parser.add_argument("--epochs", type=int, help="other than the size's own")
    return parser


def settled(arguments: argparse.Namespace) -> argparse.Namespace:
    """One thread and the CPU for everything but the full size."""
    if arguments.size != "full":
        torch.set_num_threads(1)
        arguments.device = "cpu"
    return arguments
