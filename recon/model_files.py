"""A trained model in a folder: weights as safetensors, a model card for programs (JSON) and for people (README.md)."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from recon import registry
from recon.files import written_whole
from recon.learned import LearnedPrior, ModelError
from recon.parameters import Param
from recon.provenance import plain

FORMAT = "recon model 1"
WEIGHTS, CARD, README = "weights.safetensors", "card.json", "README.md"


def save_model(prior: LearnedPrior, folder: str | Path, *, half: bool = False) -> Path:
    """Write weights, card and README into a folder; returns it.

    Args:
        prior: made by `recon.train`, or with a card that names its architecture.
        folder: where to; files of an earlier model are replaced.
        half: store weights as float16, which halves the file.

    A network that was not made by a registered name is loaded by `load_model` with an untrained one beside it.
    """
    folder = Path(folder)
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in prior.network.state_dict().items()
    }
    with written_whole(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT})
        temporary.chmod(0o644)  # safetensors' own files are for their owner alone
        digest = _sha256(temporary)
    card = {
        "format": FORMAT,
        **card_of(prior.network),
        **prior.card,
        "parameters": sum(parameter.numel() for parameter in prior.network.parameters()),
        "value_range": list(prior.value_range or ()),
        "image_range": None if prior.image_range is None else list(prior.image_range),
        "unit": prior.unit,
        "complex_as": prior.channels.complex_as,
        "sigma_range": None if prior.sigma_range is None else list(prior.sigma_range),
        "end_to_end": prior.end_to_end,
        "operator": prior.operator,
        "weights": {"file": WEIGHTS, "sha256": digest, "dtype": "float16" if half else "float32"},
    }
    card = _plain(card)
    prior.card = card
    with written_whole(folder / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", "utf-8")
    with written_whole(folder / README) as temporary:
        temporary.write_text(readme(card), "utf-8")
    return folder


def load_model(
    folder: Annotated[Path, Param("the folder of the model")],
    weight: Annotated[float | None, Param("weight of the prior; the model's own without it", ge=0)] = None,
    any_operator: Annotated[bool, Param("use it with another operator than it was trained with")] = False,
    network: Annotated[
        nn.Module | None, Param("an untrained network, for those that no plugin registers")
    ] = None,
) -> LearnedPrior:
    """Load what `save_model` wrote, on the CPU, ready for use.

    Raises:
        FileNotFoundError: there is no model.
        ModelError: a damaged card or other weights than the card's, weights of another architecture, an unknown one.
    """
    folder = Path(folder)
    card = read_card(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has a model card but no {WEIGHTS}: copy the whole folder")
    if _sha256(path) != card["weights"]["sha256"]:
        raise ModelError(
            f"{path} does not fit its card (its SHA-256 is another): it is damaged or of another training; copy the "
            "whole folder again"
        )
    network = _network(card, folder) if network is None else network
    _load_weights(network, path, card)
    operator = card["operator"]
    prior = LearnedPrior(
        network,
        value_range=(card["value_range"][0], card["value_range"][1]),
        image_range=None if card["image_range"] is None else (card["image_range"][0], card["image_range"][1]),
        unit=card["unit"],
        complex_as=card["complex_as"],
        sigma_range=None if card["sigma_range"] is None else (card["sigma_range"][0], card["sigma_range"][1]),
        end_to_end=card["end_to_end"],
        operator=None if any_operator else operator,
        weight=weight,
        card=card,
    )
    return prior


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model, checked.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it is damaged, or of another version.
    """
    path = folder / CARD
    if not path.is_file():
        there = "no such folder" if not folder.exists() else f"it has no {CARD}"
        raise FileNotFoundError(f"there is no trained model in {folder} ({there}): recon train writes one")
    try:
        card = json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not a readable model card: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(f"{path} is not a model card of this version of recon (it should say {FORMAT!r})")
    needed = ("architecture", "parameters", "value_range", "image_range", "unit", "complex_as", "sigma_range")
    for name in (*needed, "end_to_end", "operator", "weights"):
        if name not in card:
            raise ModelError(f"{path} says nothing of {name!r}: it is damaged")
    for name in ("value_range", "image_range", "sigma_range"):
        if card[name] is not None and not _is_range(card[name]):
            raise ModelError(f"{path}: {name} must be [low, high] with low < high, it is {card[name]}")
    return card


def _network(card: dict[str, Any], folder: Path) -> nn.Module:
    """The untrained network that the card names."""
    architecture = card["architecture"]
    if architecture.get("arguments") is None:
        raise ModelError(
            f"{folder} holds a network of the class {architecture['name']}, which no plugin registers: pass an "
            "untrained one, recon.prior(..., network=...)"
        )
    try:
        network = registry.make("network", (architecture["name"], architecture["arguments"]))
    except (LookupError, TypeError, ValueError, ImportError) as error:
        raise ModelError(
            f"{folder} needs the network {architecture.get('name')!r}, which cannot be made here: {error}"
        ) from error
    assert isinstance(network, nn.Module)
    return network


def _load_weights(network: nn.Module, path: Path, card: dict[str, Any]) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable file of weights: {error}") from None
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        have, need = tensors.get(name), wanted.get(name)
        if have is None or need is None or have.shape != need.shape:
            found = "no such weights" if have is None else f"weights {tuple(have.shape)}"
            expected = "has none of that name" if need is None else f"needs {tuple(need.shape)}"
            raise ModelError(
                f"{path} is of another architecture than {card['architecture']['name']}: {name}: {found}, the "
                f"network {expected}"
            )
    network.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()})


def readme(card: dict[str, Any]) -> str:
    """The card for people, in Markdown."""
    role = "Reconstruction in one step" if card["end_to_end"] else "Denoiser for plug-and-play"
    architecture = card["architecture"]
    lines = [f"# {role}: {architecture['name']}", ""]
    usage = 'recon.solve(op, recon.prior("."), y)'
    lines += [f"```python\n{usage}\n```", "", "| | |", "|---|---|"]
    facts: dict[str, Any] = {
        "architecture": f"{architecture['name']} {json.dumps(architecture['arguments'] or {})}",
        "parameters": card["parameters"],
        "unit of the images": card["unit"] or "none",
        "range of the images": card["image_range"] or "any: say it when solving",
        "complex images as": card["complex_as"],
        "noise levels (of the range)": card["sigma_range"],
        "operator": None if card["operator"] is None else json.dumps(card["operator"]["description"]),
        "weights": f"{card['weights']['file']}, {card['weights']['dtype']}, SHA-256 {card['weights']['sha256']}",
    }
    for group in ("objective", "data", "training", "metrics", "versions"):
        for name, value in dict(card.get(group) or {}).items():
            facts[f"{group}: {name}"] = value
    for name in ("licence", "credits", "notes"):
        facts[name] = card.get(name)
    for name, value in facts.items():
        if value not in (None, "", [], {}):
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"| {name} | {text.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """A value that JSON can hold, whole: long lists too."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return plain(value)


def _is_range(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    numbers = all(isinstance(bound, int | float) and math.isfinite(bound) for bound in value)
    return numbers and value[0] < value[1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def card_of(network: nn.Module) -> dict[str, Any]:
    """The beginnings of a card: the architecture, by the mark that the registry left, else its class."""
    from recon.provenance import identify

    known = identify("network", network)
    if known is None:
        kind = type(network)
        architecture = {"name": f"{kind.__module__}.{kind.__qualname__}", "version": None, "arguments": None}
    else:
        name, version, arguments = known
        architecture = {"name": name, "version": version, "arguments": _plain(arguments)}
    return {"architecture": architecture}
