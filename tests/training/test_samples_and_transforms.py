"""What a network is shown: sources, splits, transforms, patches, simulated data, and their order."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage
from small_trainings import squares

import recon
from recon.simulate import as_noise
from recon.training.loader import Loader
from recon.training.sources import Images, Pairs, Unpaired, as_source, split
from recon.training.transforms import Augmentation, Transform, as_augmentation


def loader(source, **settings):
    settings = {"batch_size": 4, "image_range": (0.0, 1.0), **settings}
    return Loader(source, list(range(len(source))), **settings)


def test_flips_and_right_angles_are_exact():
    image = torch.rand(2, 5, 5)
    assert torch.equal(Transform(flip_rows=True)(image), image.flip(-2))
    assert torch.equal(Transform(flip_columns=True, turns=1)(image), torch.rot90(image.flip(-1), 1, (-2, -1)))
    wide = torch.rand(4, 6)
    assert Transform(turns=1)(wide).shape == (4, 6)
    assert torch.equal(Transform(turns=3)(wide), torch.rot90(wide, 2, (-2, -1)))


@pytest.mark.parametrize("shape", [(33, 33), (24, 40)])
def test_rotation_and_scaling_are_those_of_scipy(shape):
    rows, columns = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in shape)
    image = torch.exp(-((rows[:, None] - 2) ** 2 + (columns - 4) ** 2) / 20)
    angle, scale = math.radians(20), 1.1
    turned = Transform(angle=angle, scale=scale)(image)
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / scale
    centre = torch.tensor([(side - 1) / 2 for side in shape])
    offset = centre - matrix @ centre
    wanted = ndimage.affine_transform(
        image.numpy(), matrix.numpy(), offset=offset.numpy(), order=1, mode="nearest"
    )
    torch.testing.assert_close(turned, torch.from_numpy(wanted), rtol=0, atol=1e-5)  # float32 grid


def test_translation_is_a_part_of_the_side():
    image = torch.zeros(20, 10)
    image[10, 5] = 1
    moved = Transform(shift=(0.1, 0.2))(image)
    assert float(moved[8, 3]) == pytest.approx(1, abs=1e-5)


def test_transforms_of_complex_images_are_those_of_their_parts():
    image = torch.randn(9, 9, dtype=torch.complex64)
    transform = Transform(angle=0.3, scale=0.9, turns=1, negate=True)
    turned = transform(image)
    assert torch.equal(turned.real, transform(image.real))
    assert torch.equal(turned.imag, transform(image.imag))


def test_transforms_are_joint_for_pairs_unless_asked_otherwise():
    images = squares(8)
    source = as_source((images.clone(), images))
    augmentation = as_augmentation("flip, turns, rotate, translate, scale")
    for batch in loader(source, augmentation=augmentation).epoch(0):
        assert torch.equal(batch.input, batch.target)
        assert not torch.equal(batch.target, images[batch.index])
    apart = next(loader(source, augmentation=augmentation, independent=True).epoch(0))
    assert not torch.equal(apart.input, apart.target)


def test_every_epoch_shows_every_image_once_and_transforms_anew():
    images = squares(8)
    made = loader(as_source(images), augmentation=Augmentation(rotate=30))
    seen = [torch.cat([batch.index for batch in made.epoch(number)]).tolist() for number in (0, 1)]
    assert all(sorted(order) == list(range(8)) for order in seen) and seen[0] != seen[1]
    first, second = (torch.cat([batch.target for batch in made.epoch(number)]) for number in (0, 1))
    back = [order.index(3) for order in seen]
    assert not torch.equal(first[back[0]], second[back[1]])
    again = torch.cat([batch.target for batch in made.epoch(1)])
    assert torch.equal(second, again)


def test_an_epoch_from_its_middle_is_the_rest_of_it():
    made = loader(as_source(squares(16)), augmentation=Augmentation(rotate=30, flip=0.5))
    whole = list(made.epoch(2))
    rest = list(made.epoch(2, start=2))
    assert len(whole) == 4 and len(rest) == 2
    assert torch.equal(rest[0].target, whole[2].target) and torch.equal(rest[0].index, whole[2].index)


def test_workers_give_the_same_batches(operator):
    settings = {"op": operator, "noise": as_noise("gaussian:std=0.1"), "augmentation": Augmentation(rotate=9)}
    here = list(loader(as_source(squares(8)), **settings).epoch(1))
    there = list(loader(as_source(squares(8)), workers=1, **settings).epoch(1))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.input, other.input) and torch.equal(one.data, other.data)


def test_two_processes_share_the_batches_of_one():
    source = as_source(squares(16))
    alone = [set(batch.index.tolist()) for batch in loader(source).epoch(0)]
    parts = [
        [set(batch.index.tolist()) for batch in loader(source, rank=rank, ranks=2).epoch(0)]
        for rank in (0, 1)
    ]
    assert alone == [first | second for first, second in zip(*parts, strict=True)]
    assert all(first.isdisjoint(second) for first, second in zip(*parts, strict=True))


def test_simulated_noise_depends_on_seed_epoch_and_place_alone(operator):
    images = squares(8)
    noise = as_noise("gaussian:std=0.1")

    def data(number, batch_size, seed=0):
        made = loader(as_source(images), op=operator, noise=noise, batch_size=batch_size, seed=seed)
        pairs = [(batch.index, batch.data) for batch in made.epoch(number)]
        places, values = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
        return values[places.argsort()]

    assert torch.equal(data(0, 4), data(0, 8))
    assert not torch.equal(data(0, 4), data(1, 4))
    assert not torch.equal(data(0, 4), data(0, 4, seed=1))
    residual = (data(0, 4) - operator(images))[:, operator.mask > 0]
    assert float(residual.std()) == pytest.approx(0.1, rel=0.1)
    assert bool((data(0, 4)[:, operator.mask == 0] == 0).all())  # nothing is measured there


def test_images_and_data_are_mapped_to_the_networks_range(operator):
    images = squares(4) * 100 - 20
    made = loader(as_source(images), op=operator, image_range=(-20.0, 80.0))
    batch = next(made.epoch(0))
    torch.testing.assert_close(batch.target, (images[batch.index] + 20) / 100)
    torch.testing.assert_close(batch.data, operator(batch.target), rtol=0, atol=1e-6)
    torch.testing.assert_close(made.from_network(batch.target), images[batch.index])


def test_patches_are_cut_at_the_same_place_of_both():
    images = torch.rand(4, 20, 24)
    made = loader(as_source((images * 0.5, images)), patch=8, patches=3)
    batches = list(made.epoch(0))
    assert sum(len(batch) for batch in batches) == 12
    for batch in batches:
        assert batch.target.shape == (4, 8, 8)
        assert torch.equal(batch.input, batch.target * 0.5)
    with pytest.raises(ValueError, match="smaller than a patch of 32"):
        next(loader(as_source(images), patch=32).epoch(0))


def test_unpaired_samples_are_independent():
    first, second = squares(6, seed=1), squares(9, seed=2)
    source = Unpaired(first, second)
    targets = [[source.sample(2, draw=draw).target for draw in range(5)] for _ in range(2)]
    assert all(torch.equal(source.sample(2, draw=draw).input, first[2]) for draw in range(3))
    assert len({float(target.sum()) for target in targets[0]}) > 1
    assert all(torch.equal(a, b) for a, b in zip(*targets, strict=True))
    assert not isinstance(source, Pairs)


class Patients:
    """Twelve slices of four patients."""

    def __len__(self):
        return 12

    def __getitem__(self, place):
        return squares(12)[place]

    def patient_of(self, place):
        return f"patient {place // 3}"


def test_a_split_keeps_patients_together():
    source = as_source(Patients())
    for seed in range(5):
        training, held = split(source, 0.25, seed)
        assert sorted(training + held) == list(range(12)) and len(held) == 3
        assert {place // 3 for place in training}.isdisjoint({place // 3 for place in held})
    with pytest.raises(ValueError, match="hold out all of 1 patient or image.*validation=0"):
        split(as_source(squares(1)), 0.5, 0)


def test_a_folder_is_read_and_its_subfolders_are_patients(tmp_path):
    import numpy as np

    for patient in ("a", "b"):
        (tmp_path / patient).mkdir()
        for number in range(2):
            np.save(tmp_path / patient / f"{number}.npy", squares(3, seed=number).numpy())
    source = as_source(str(tmp_path))
    assert isinstance(source, Images) and len(source) == 12
    assert torch.equal(source.sample(4).target, squares(3, seed=1)[1])
    assert {source.group(place) for place in range(6)} == {"a"}
    training, held = split(source, 0.5, 0)
    assert len(training) == len(held) == 6


def test_problem_files_are_pairs_with_their_operator(tmp_path, operator):
    for number, image in enumerate(squares(4)):
        y = operator.measure(image, noise="gaussian:std=0.1", seed=number)
        recon.Problem(operator, y, reference=image).save(tmp_path / f"{number}.h5")
    prior = recon.train("unet:channels=2,levels=2", data=tmp_path, epochs=1, batch=2, validation=0)
    assert prior.end_to_end and prior.card["data"]["source"].startswith("4 problems")
    other = recon.operator("mask", mask=1 - operator.mask)
    recon.Problem(other, other(squares(1)[0]), reference=squares(1)[0]).save(tmp_path / "9.h5")
    with pytest.raises(ValueError, match="another operator"):
        as_source(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((squares(3), squares(4)), "3 inputs beside 4 true images"),
        ((squares(3, 16), squares(3, 12)), "does not match"),
        ([], "empty"),
        (squares(3) * float("nan"), "NaN"),
        (squares(1)[0], "single image"),
        ([squares(1, 16)[0], squares(1, 12)[0]], "of different shapes"),
    ],
)
def test_data_that_do_not_fit(data, message):
    with pytest.raises(ValueError, match=message):
        recon.train(
            "unet:channels=2,levels=2", data=data, epochs=1, batch=2, validation=0,
            objective="supervised" if isinstance(data, tuple) else "denoising",
        )  # fmt: skip


def test_what_is_no_data():
    with pytest.raises(FileNotFoundError, match="no file or folder ./none"):
        as_source("./none")
    with pytest.raises(TypeError, match="images"):
        as_source(3)
    with pytest.raises(TypeError, match="not of pairs"):
        Unpaired((squares(2), squares(2)), squares(2))


@pytest.mark.parametrize(
    ("augment", "message"),
    [("flop", "no transform 'flop'"), ({"flip": 2}, "probability"), ({"scale": (0, 1)}, "magnification")],
)
def test_transforms_that_do_not_exist(augment, message):
    with pytest.raises(ValueError, match=message):
        as_augmentation(augment)
