"""Arrays given in any form become tensors; what is computed from a buffer follows the buffer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from recon_operators.arrays import Derived, as_mask, as_tensor


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ([[1, 2], [3, 4]], torch.float32),
        ([0.5, 1.5], torch.float32),
        ([1j, 2.0], torch.complex64),
        ((True, False), torch.float32),
        (np.array([1.0, 2.0]), torch.float64),
        (np.array([1.0, 2.0], dtype=np.float32), torch.float32),
        (np.array([1, 2]), torch.float32),
        (np.array([1j]), torch.complex128),
        (np.array([1.0, 2.0], dtype=">f4"), torch.float32),
        (np.array([1.0, 2.0], dtype=np.longdouble), torch.float64),
        (torch.tensor([1, 2]), torch.float32),
        (torch.tensor([1.0], dtype=torch.float64), torch.float64),
    ],
)
def test_numbers_of_every_kind_become_a_tensor_and_double_precision_stays(given, dtype):
    tensor = as_tensor(given, "kernel")
    assert tensor.dtype == dtype
    assert np.array_equal(tensor.numpy(), np.asarray(given))


def test_the_tensor_is_a_copy_even_of_a_read_only_or_conjugated_array():
    array = np.arange(3.0)
    tensor = as_tensor(array, "kernel")
    array[0] = 9
    assert tensor[0] == 0
    array.flags.writeable = False
    assert as_tensor(array, "kernel")[0] == 9
    maps = torch.tensor([1j])
    assert not as_tensor(maps.conj(), "maps").is_conj()


def test_a_path_is_loaded(tmp_path):
    path = tmp_path / "mask.npy"
    np.save(path, np.array([[1, 0], [0, 1]], dtype=np.uint8))
    assert as_mask(str(path)).tolist() == [[1, 0], [0, 1]]
    assert as_mask(path).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ([[1, 2], [3]], ValueError, "kernel must be a rectangular array"),
        (["a", "b"], TypeError, "kernel must hold numbers"),
        ([1.0, float("nan"), float("inf")], ValueError, "kernel holds 2 NaN or infinite values of 3"),
        ([], ValueError, "kernel holds no value"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(given, error, said):
    with pytest.raises(error, match=said):
        as_tensor(given, "kernel")


def test_a_mask_holds_zeros_and_ones_only():
    with pytest.raises(ValueError, match=r"only 0 .* and 1 .*got 0\.5, 2: threshold it first.*mask > 0\.5"):
        as_mask([[0, 1], [0.5, 2]])
    with pytest.raises(ValueError, match=r"got 2, 3, 4, 5 and 250 other values"):
        as_mask(np.arange(256))
    with pytest.raises(ValueError, match=r"mask of shape \(2, 3\) has no 1"):
        as_mask(np.zeros((2, 3)))
    assert as_mask(torch.tensor([True, False])).tolist() == [1, 0]
    assert as_mask([1 + 0j, 0]).dtype == torch.float32


def test_derived_values_are_kept_until_the_buffer_changes():
    derived, source, calls = Derived(), torch.ones(3), []

    def double():
        calls.append(1)
        return 2 * source

    first = derived.get("twice", source, double)
    assert derived.get("twice", source, double) is first
    source.add_(1)
    assert derived.get("twice", source, double).tolist() == [4, 4, 4]
    assert len(calls) == 2
    other = source.clone()
    assert derived.get("twice", other, lambda: other) is other
    for twin in (copy.deepcopy(derived), pickle.loads(pickle.dumps(derived))):
        assert twin.get("twice", other, lambda: "new") == "new"


def test_derived_values_made_in_inference_mode_serve_autograd_later():
    derived, source = Derived(), torch.ones(2)
    with torch.inference_mode():
        derived.get("twice", source, lambda: 2 * source)
    x = torch.ones(2, requires_grad=True)
    (x * derived.get("twice", source, lambda: None)).sum().backward()
    assert x.grad.tolist() == [2, 2]
    with torch.inference_mode():
        inference = torch.ones(2)
    assert derived.get("of inference", inference, lambda: inference + 1).tolist() == [2, 2]
