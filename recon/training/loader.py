"""Batches of a source: the order of an epoch, transforms, simulated data, patches, and the network's range."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon.simulate import Noise
from recon.training.objective import Batch, seeded
from recon.training.sources import Measurements, Sample, Unpaired
from recon.training.transforms import Augmentation

ORDER, TRANSFORM, TRANSFORM_TARGET, PATCH, NOISE = range(101, 106)  # streams of random numbers
OUTSIDE = 0.05  # of the range: how far values may lie outside a range that was given


@dataclasses.dataclass
class Loader:
    """Makes batches; a sample is a function of the seed, the epoch and its place alone.

    Attributes:
        source: where samples come from.
        places: which of them, in the source's numbers.
        batch_size: samples of a batch, of all processes together.
        image_range: (low, high) of the images' values, mapped to [0, 1]; of complex magnitudes (0, high).
        range_given: the user said so: images outside of it are refused.
        op: the operator, or None.
        noise: what simulated data have, or None.
        pinv: options of ``op.pinv``, by which inputs are made.
        augmentation: random transforms.
        independent: whether a pair's images are transformed each on its own.
        patch: side of the patches [px], or None for whole images.
        patches: patches of an image in an epoch.
        seed: of everything random.
        fixed: samples are the same in every epoch, untransformed and in order (validation).
        steady: samples are the same in every epoch, and none is left out; their order differs.
        rank: number of this process.
        ranks: how many processes there are.
        device: where batches go.
    """

    source: Any
    places: Sequence[int]
    batch_size: int
    image_range: tuple[float, float]
    range_given: bool = True
    op: LinearOperator | None = None
    noise: Noise | None = None
    pinv: dict[str, Any] = dataclasses.field(default_factory=dict)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    independent: bool = False
    patch: int | None = None
    patches: int = 1
    seed: int = 0
    fixed: bool = False
    steady: bool = False
    rank: int = 0
    ranks: int = 1
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    needs: tuple[str, ...] = ("input", "target")
    workers: int = 0
    _constant: Tensor | None = None

    @property
    def batches(self) -> int:
        """How many batches an epoch has, of every process."""
        each = self.batch_size // self.ranks
        items = len(self.places) * (1 if self.fixed else self.patches)
        if self.fixed or self.steady:
            return -(-items // (each * self.ranks))
        return max(1, items // (each * self.ranks))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from the batch `start` on."""
        keys = self._keys(number)[start:]
        if not self.workers:
            for key in keys:
                yield self._batch(*self._read(key))
            return
        from torch.utils.data import DataLoader

        loading: DataLoader[Any] = DataLoader(
            _Reader(self, keys), batch_size=None, num_workers=self.workers, collate_fn=_as_is
        )
        for read in loading:
            yield self._batch(*read)

    def stream(self, number: int) -> int:
        """The seed of an epoch."""
        epoch = -1 if self.fixed else -2 if self.steady else number
        state = torch.randint(2**62, (), generator=seeded(self.seed, epoch, ORDER))
        return int(state)

    def _keys(self, number: int) -> list[tuple[int, list[int]]]:
        """(epoch's seed, places) of each batch of this process."""
        each = self.batch_size // self.ranks
        if self.fixed:
            order = list(range(len(self.places)))
        else:
            generator = seeded(self.seed, number, ORDER)
            order = torch.randperm(len(self.places) * self.patches, generator=generator).tolist()
            most = len(order) if self.steady else self.batches * each * self.ranks
            while len(order) < most:  # fewer images than one batch: they come again
                order = order + order[: most - len(order)]
            order = order[:most]
        mine = order[self.rank :: self.ranks]
        stream = self.stream(number)
        return [(stream, mine[first : first + each]) for first in range(0, len(mine), each)]

    # One sample, on the CPU: this part runs in workers

    def _read(self, key: tuple[int, list[int]]) -> tuple[int, list[int], list[Sample]]:
        stream, order = key
        return stream, order, [self._sample(stream, place) for place in order]

    def _sample(self, stream: int, place: int) -> Sample:
        """The transformed sample; `place` counts patches."""
        number = self.places[place % len(self.places)]
        if isinstance(self.source, Unpaired):
            sample = self.source.sample(number, draw=stream)
        else:
            sample = self.source.sample(number)
        if self.fixed or self.augmentation.is_none:
            return self._cut(sample, stream, place) if self.op is None else sample
        if sample.data is not None:
            raise ValueError(
                "measured data cannot be turned with their image: leave augment out, or give images alone and let "
                "op and noise simulate the data"
            )
        first = self.augmentation.draw(seeded(stream, place, TRANSFORM))
        apart = self.independent or isinstance(self.source, Unpaired)
        second = self.augmentation.draw(seeded(stream, place, TRANSFORM_TARGET)) if apart else first
        sample = Sample(
            target=None if sample.target is None else second(sample.target),
            input=None if sample.input is None else first(sample.input),
        )
        return self._cut(sample, stream, place) if self.op is None else sample

    def _cut(self, sample: Sample, stream: int, place: int) -> Sample:
        """A random patch, at the same place of both images of a pair; the middle one in validation."""
        if self.patch is None:
            return sample
        generator = seeded(stream, place, PATCH)
        changed: dict[str, Tensor] = {}
        corner: tuple[int, int] | None = None
        for name in ("target", "input"):
            image = getattr(sample, name)
            if image is None:
                continue
            if corner is None or isinstance(self.source, Unpaired):
                corner = self._corner(image, generator)
            changed[name] = image[..., corner[0] : corner[0] + self.patch, corner[1] : corner[1] + self.patch]
        return Sample(**changed)

    def _corner(self, image: Tensor, generator: torch.Generator) -> tuple[int, int]:
        assert self.patch is not None
        room = [side - self.patch for side in image.shape[-2:]]
        if min(room) < 0:
            raise ValueError(
                f"an image of {tuple(image.shape)} is smaller than a patch of {self.patch} pixels: say patch="
                f"{min(image.shape[-2:])} or less"
            )
        if self.fixed:
            return room[0] // 2, room[1] // 2
        first, second = (int(torch.randint(space + 1, (), generator=generator)) for space in room)
        return first, second

    # A batch, on the device

    def _batch(self, stream: int, order: Sequence[int], samples: Sequence[Sample]) -> Batch:
        target = self._stacked([sample.target for sample in samples], "images")
        given = self._stacked([sample.input for sample in samples], "inputs")
        data = self._stacked([sample.data for sample in samples], "data")
        for label, images in (("image", target), ("input", given)):
            if images is not None and self.range_given:
                self._check_range(images, label)
        if self.op is not None:
            given, target, data = self._measured(target, data, stream, order)
        return Batch(
            input=None if given is None else self.to_network(given),
            target=None if target is None else self.to_network(target),
            data=None if data is None else self._data_to_network(data),
            op=self.op,
            index=torch.tensor(list(order)),
            seed=stream,
        )

    def _measured(
        self, target: Tensor | None, data: Tensor | None, stream: int, order: Sequence[int]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Input, target and data of the operator."""
        op = self.op
        assert op is not None
        if target is not None and tuple(target.shape[1:]) != tuple(op.domain_shape):
            raise ValueError(
                f"images {tuple(target.shape[1:])} do not fit {type(op).__name__}, which takes "
                f"{tuple(op.domain_shape)}: make the operator for that shape"
            )
        if data is None and {"input", "data"} & set(self.needs):
            assert target is not None
            data = op(target)
            if self.noise is not None:
                item = len(op.range_shape)
                noisy = [
                    self.noise(
                        data[number : number + 1],
                        item_ndim=item,
                        seed=stream & 0x7FFFFFFF,
                        sample_mask=op.sample_mask,
                        first_item=place,
                    )
                    for number, place in enumerate(order)
                ]
                data = torch.cat(noisy)
        given = op.pinv(data, **self.pinv) if data is not None and "input" in self.needs else None
        if self.patch is None:
            return given, target, data
        pairs = [
            self._cut(Sample(target=one, input=other), stream, place)
            for one, other, place in zip(
                [None] * len(order) if target is None else target,
                [None] * len(order) if given is None else given,
                order,
                strict=True,
            )
        ]
        cut_input = self._stacked([pair.input for pair in pairs], "inputs")
        return cut_input, self._stacked([pair.target for pair in pairs], "images"), None

    def _stacked(self, tensors: Sequence[Tensor | None], label: str) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        if not present:
            return None
        if len(present) != len(tensors):
            raise ValueError(f"some samples of the data set have {label} and others have none")
        shapes = {tuple(tensor.shape) for tensor in present}
        if len(shapes) > 1:
            first, second = sorted(shapes)[:2]
            remedy = (
                ""
                if self.op is not None
                else f"say patch={min(map(min, shapes))} to cut patches, batch=1, or "
            )
            raise ValueError(
                f"{label} of different shapes, such as {first} and {second}, cannot be batched: {remedy}bring them to "
                "one size"
            )
        if any(tensor.is_complex() for tensor in present):
            present = [tensor.to(torch.complex64) for tensor in present]
        return torch.stack(present).to(self.device)

    def _check_range(self, images: Tensor, label: str) -> None:
        low, high = self.image_range
        slack = OUTSIDE * (high - low)
        values = images.abs() if images.is_complex() else images
        least, most = float(values.min()), float(values.max())
        signed = self.augmentation.negate > 0 and not self.fixed
        wrong = most > high + slack or (least < low - slack and not signed)
        if label == "input":  # noise and artefacts go further than images do
            wrong = max(abs(most), abs(least)) > 100 * max(abs(high), abs(low))
        if wrong:
            raise ValueError(
                f"an {label} has values from {least:.4g} to {most:.4g}, outside image_range=({low:g}, {high:g}): "
                "give the range that the images have, in their unit"
            )

    def to_network(self, images: Tensor) -> Tensor:
        """Images mapped from `image_range` to [0, 1]."""
        low, high = self.image_range
        return (images - low) / (high - low) if low else images / high

    def from_network(self, images: Tensor) -> Tensor:
        """The inverse of `to_network`."""
        low, high = self.image_range
        return images * (high - low) + low if low else images * high

    def _data_to_network(self, data: Tensor) -> Tensor:
        """Data of images mapped to [0, 1]: A((x - low) / (high - low)) = (A x - low A 1) / (high - low)."""
        low, high = self.image_range
        if not low:
            return data / high
        assert self.op is not None
        if self._constant is None:
            self._constant = self.op(torch.full(self.op.domain_shape, low, device=self.device))
        return (data - self._constant) / (high - low)


class _Reader(torch.utils.data.Dataset[Any]):
    """What a worker process reads: samples of one batch each."""

    def __init__(self, loader: Loader, keys: Sequence[Any]) -> None:
        self.loader = dataclasses.replace(loader, op=None if loader.op is None else _MARK)  # type: ignore[arg-type]
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Any:
        return self.loader._read(self.keys[number])


_MARK = object()  # stands for an operator in workers, which do not apply it


def _as_is(read: Any) -> Any:
    return read


def has_complex_images(sample: Sample, op: LinearOperator | None) -> bool:
    """Whether the images of a sample are complex, as far as it and the operator tell."""
    if op is not None and op.domain == "complex":
        return True
    shown = sample.target if sample.target is not None else sample.input
    if shown is not None:
        return shown.is_complex()
    return sample.data is not None and sample.data.is_complex() and op is not None and op.domain == "any"


def shape_of(batch: Batch) -> tuple[int, ...]:
    """The shape of one image of a batch; of data alone, that of the operator's images."""
    image = batch.target if batch.target is not None else batch.input
    if image is not None:
        return tuple(image.shape[1:])
    assert batch.op is not None
    return tuple(batch.op.domain_shape)


def measured_range(
    source: Any, places: Sequence[int], op: LinearOperator | None = None, pinv: dict[str, Any] | None = None
) -> tuple[float, float]:
    """(low, high) of the images' values, of 256 of them at most, evenly spread; low is 0 unless values are negative.

    Of measured data alone, (0, high) of their direct reconstructions, of 64 of them at most: high is the value below
    which 99.9 % of a reconstruction's magnitudes lie, since noise goes further than images do. It has four digits, so
    that another device, whose last digits differ, takes the same.

    Raises:
        ValueError: images of one value only.
    """
    if isinstance(source, Measurements):
        return 0.0, _direct_height(source, places, op, pinv or {})
    step = max(1, len(places) // 256)
    low, high = 0.0, 0.0
    for place in places[::step]:
        sample = source.sample(place)
        image = sample.target if sample.target is not None else sample.input
        if image is None:
            continue
        if image.is_complex():
            high = max(high, float(image.abs().max()))
        else:
            low, high = min(low, float(image.min())), max(high, float(image.max()))
    if not low < high:
        raise ValueError("the images are zero everywhere: nothing to train on")
    return low, high


def _direct_height(
    source: Measurements, places: Sequence[int], op: LinearOperator | None, pinv: dict[str, Any]
) -> float:
    assert op is not None
    high = 0.0
    for place in places[:: max(1, len(places) // 64)]:
        data = source.sample(place).data
        assert data is not None
        with torch.no_grad():
            values = op.pinv(data.to(op.device), **pinv).abs().flatten()
        high = max(high, float(values.kthvalue(max(1, round(0.999 * len(values)))).values))
    if not high > 0:
        raise ValueError(
            "the direct reconstructions are zero nearly everywhere: give image_range=(low, high)"
        )
    return float(f"{high:.4g}")
