"""DeepInverse: its physics, denoisers and priors as ours, and ours in its algorithms."""

import copy
import pickle

import pytest
import torch
from our_operators import MAPS, MASK, OURS, SINGLE, relative
from recon_bridges import from_deepinv, to_deepinv
from recon_operators import Blur, CartesianMRI
from recon_priors import L1, NonNegative, Tikhonov, TotalVariation

import recon
from recon.testing import check_operator, check_prior

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:deepinv")
LOCAL = {"pickle_and_state_dict": "DeepInverse's noise models keep local functions, which cannot be pickled"}
TINY = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))

PHYSICS = {
    "tomography": (lambda d: d.Tomography(angles=6, img_width=8, normalize=False), {}, "any"),
    "mri": (lambda d: d.MRI(mask=MASK, img_size=(2, 5, 6)), {}, "complex"),
    "coils": (lambda d: d.MultiCoilMRI(mask=MASK, coil_maps=MAPS[None], img_size=(2, 5, 6)), {}, "complex"),
    "grey inpainting": (lambda d: d.Inpainting((1, 5, 6), mask=MASK[None]), {}, "any"),
    "colour inpainting": (lambda d: d.Inpainting((3, 5, 6), mask=MASK.expand(3, 5, 6)), {}, "any"),
    "blur": (lambda d: d.Blur(TINY, padding="circular"), {"img_size": (1, 6, 7)}, "any"),
    "fourier blur": (lambda d: d.BlurFFT((1, 6, 7), TINY), {}, "any"),
    "vector data": (lambda d: d.CompressedSensing(m=10, img_size=(1, 5, 5)), {}, "any"),
    "decolorize": (lambda d: d.Decolorize(), {"img_size": (3, 4, 4)}, "any"),
}
SHAPES = {
    "tomography": ((8, 8), (12, 6)),
    "coils": ((5, 6), (3, 5, 6)),
    "colour inpainting": ((3, 5, 6), (3, 5, 6)),
    "vector data": ((5, 5), (10,)),
    "decolorize": ((3, 4, 4), (1, 4, 4)),
}


@pytest.mark.parametrize("name", PHYSICS)
def test_physics_conforms(deepinv, name):
    make, settings, domain = PHYSICS[name]
    op = from_deepinv(make(deepinv.physics), **settings)
    assert op.domain == domain
    assert op.adjoint_kind == "exact"
    assert (op.domain_shape, op.range_shape) == SHAPES.get(name, (op.domain_shape, op.range_shape))
    check_operator(op, expected_failures=LOCAL | SINGLE)


def test_closed_forms_are_used_where_they_hold(deepinv):
    """`Decolorize` offers a singular value decomposition that is none: it is tried before it is used."""
    identity = [recon.Identity((5, 6))]
    b = torch.randn(2, 5, 6, dtype=torch.complex64)
    op = from_deepinv(deepinv.physics.MRI(mask=MASK, img_size=(2, 5, 6)))
    x = op.solve_gram(b, [torch.tensor([0.1, 0.5]).reshape(2, 1, 1)], identity)
    assert relative(op.gram(x) + torch.tensor([0.1, 0.5]).reshape(2, 1, 1) * x, b) < 1e-5
    false = from_deepinv(deepinv.physics.Decolorize(), img_size=(3, 4, 4))
    assert false.solve_gram(torch.ones(1, 3, 4, 4), [0.1], [recon.Identity((3, 4, 4))]) is None


def test_an_unmatched_back_projection_is_declared_approximate(deepinv):
    physics = deepinv.physics.Tomography(angles=6, img_width=8, normalize=False, adjoint_via_backprop=False)
    op = from_deepinv(physics)
    assert op.adjoint_kind == "approximate"
    check_operator(op, expected_failures=LOCAL | SINGLE)


def test_their_mri_is_our_mri(deepinv):
    theirs = from_deepinv(deepinv.physics.MultiCoilMRI(mask=MASK, coil_maps=MAPS[None], img_size=(2, 5, 6)))
    ours = CartesianMRI(MASK, MAPS)
    x = torch.randn(2, 5, 6, dtype=torch.complex64)
    assert relative(theirs(x), ours(x)) < 1e-6
    assert relative(theirs.adjoint(theirs(x)), ours.adjoint(ours(x))) < 1e-6


def test_it_moves_to_double_precision_with_its_buffers(deepinv):
    op = from_deepinv(deepinv.physics.Blur(TINY, padding="circular"), img_size=(1, 6, 7)).double()
    x = torch.randn(6, 7, dtype=torch.float64)
    single = copy.deepcopy(op).float()
    assert 1e-9 < relative(single(x), op(x)) < 1e-6
    y = torch.randn(6, 7, dtype=torch.float64)
    assert abs(float((op(x) * y).sum() - (x * op.adjoint(y)).sum())) < 1e-12


@pytest.mark.parametrize("name", OURS)
def test_our_operators_pass_their_adjoint_test_and_come_back_equal(deepinv, name):
    ours = OURS[name]()
    physics = to_deepinv(ours)
    assert float(physics.adjointness_test(num_samples=4)) < 1e-5
    back = from_deepinv(physics)
    check_operator(back, expected_failures=LOCAL)
    assert (back.domain_shape, back.range_shape) == (ours.domain_shape, ours.range_shape)
    x = torch.randn(2, *ours.domain_shape, dtype=torch.complex64 if name == "mri" else torch.float32)
    assert relative(back(x), ours(x)) < 1e-6


DEBLURRING = Blur(shape=(12, 12), kernel=("gaussian", 0.5))


def blurred() -> torch.Tensor:
    image = torch.zeros(1, 12, 12)
    image[:, 3:9, 4:8] = 1
    return DEBLURRING(image) + 0.02 * torch.randn(1, 12, 12)


def solved(prior) -> torch.Tensor:
    """Our answer in double precision, to residuals of 1e-6."""
    y = blurred().double()
    stop = recon.SmallResiduals(1e-6) | recon.MaxIterations(5000)
    return recon.solve(DEBLURRING, prior, y, solver="admm", stop=stop).image.float()


@pytest.mark.parametrize(
    ("ours", "make"),
    [
        (L1(0.05), lambda optim: optim.L1Prior()),
        (Tikhonov(0.05), lambda optim: optim.Tikhonov()),
        (TotalVariation(0.05), lambda optim: optim.TVPrior(n_it_max=100)),
    ],
    ids=["l1", "tikhonov", "tv"],
)
def test_our_solver_with_their_prior(deepinv, ours, make):
    theirs = from_deepinv(make(deepinv.optim), weight=0.05)
    y = blurred()
    stop = recon.SmallResiduals(1e-4) | recon.MaxIterations(40)
    found = recon.solve(DEBLURRING, theirs, y, solver="admm", stop=stop).image
    torch.manual_seed(0)
    truth = solved(ours)
    assert relative(found, truth) < (1e-2 if isinstance(ours, TotalVariation) else 1e-3)  # its inner loop
    assert float(theirs(truth)) == pytest.approx(float(ours(truth)), rel=1e-4)


@pytest.mark.parametrize(
    "ours",
    [L1(0.05), TotalVariation(0.05) + NonNegative()],
    ids=["l1", "tv and nonnegative"],
)
def test_their_algorithm_with_our_operator_and_prior(deepinv, ours):
    physics, prior = to_deepinv(DEBLURRING), to_deepinv(ours)
    model = deepinv.optim.FISTA(
        data_fidelity=deepinv.optim.L2(), prior=prior, stepsize=0.99, lambda_reg=1.0, max_iter=15
    )
    found = model(blurred()[:, None], physics)[:, 0]
    torch.manual_seed(0)
    assert relative(found, solved(ours)) < 5e-3  # 15 iterations


def test_an_automatic_weight_is_left_to_their_algorithm(deepinv):
    x = torch.randn(1, 1, 4, 4)
    prior = to_deepinv(L1())
    assert float(prior(x)) == pytest.approx(float(x.abs().sum()), rel=1e-6)
    assert torch.allclose(prior.prox(x, gamma=0.3), torch.nn.functional.softshrink(x, 0.3), atol=1e-6)
    per_item = prior.prox(torch.cat([x, x]), gamma=torch.tensor([0.3, 0.0]).reshape(2, 1, 1, 1))
    assert torch.allclose(per_item[:1], prior.prox(x, gamma=0.3))
    assert torch.equal(per_item[1:], x)


@pytest.mark.parametrize(
    "make",
    [
        lambda d: from_deepinv(d.models.MedianFilter()),
        lambda d: from_deepinv(d.models.DRUNet(1, 1, nc=(4, 4, 4, 4), nb=1, pretrained=None)),
        lambda d: from_deepinv(d.models.TVDenoiser(n_it_max=20)),
        lambda d: from_deepinv(d.optim.L1Prior(), weight=0.1),
    ],
    ids=["median", "drunet", "tv denoiser", "l1"],
)
def test_their_priors_conform(deepinv, make):
    check_prior(make(deepinv))


def test_total_variation_depends_on_its_image_only(deepinv):
    """DeepInverse's module goes on from its last image, and stops for a whole batch at once."""
    prior = from_deepinv(deepinv.optim.TVPrior(n_it_max=20), weight=0.1)
    images = torch.rand(2, 8, 8) * torch.tensor([1.0, 50.0]).reshape(2, 1, 1)
    together = prior.prox(images, torch.tensor([1.0, 3.0]).reshape(2, 1, 1))
    assert torch.equal(prior.prox(images[:1], 1.0), together[:1])
    assert torch.equal(prior.prox(images[1:], 3.0), together[1:])


def test_a_denoiser_is_called_as_theirs_and_back(deepinv):
    net = deepinv.models.DRUNet(1, 1, nc=(4, 4, 4, 4), nb=1, pretrained=None).eval()
    prior = from_deepinv(net)
    x = torch.rand(2, 9, 10)
    with torch.no_grad():
        assert relative(prior.denoise(x, 0.1), net(x[:, None], 0.1)[:, 0]) < 1e-6
        back = to_deepinv(prior)
        assert relative(back.prox(x[:, None], sigma_denoiser=0.1), net(x[:, None], 0.1)) < 1e-6
        wide = to_deepinv(from_deepinv(net, value_range=(0, 255)))
        expected = net(255 * x[:, None], 25.5) / 255
        assert relative(wide.prox(x[:, None], sigma_denoiser=0.1), expected) < 1e-5
    assert from_deepinv(deepinv.optim.PnP(net)).module.module is net


def test_plug_and_play_with_their_denoiser_in_our_solver(deepinv):
    """The same image as with a prior of ours that calls the denoiser itself."""

    class Median(recon.Denoiser):
        def denoise(self, x, sigma):
            return deepinv.models.MedianFilter(kernel_size=3)(x[:, None], 0.0)[:, 0]

    bridged = from_deepinv(deepinv.models.MedianFilter(kernel_size=3), weight=1e-3)
    problem = recon.Problem(DEBLURRING, blurred(), image_range=(0, 1))
    stop = recon.MaxIterations(15)
    found = recon.solve(problem, bridged, stop=stop).image
    assert relative(found, recon.solve(problem, Median(1e-3), stop=stop).image) < 1e-5


def test_plug_and_play_with_our_denoiser_in_their_algorithm(deepinv):
    """The same image as with their own prior of that denoiser."""
    y, physics = blurred()[:, None], to_deepinv(DEBLURRING)
    median = deepinv.models.MedianFilter(kernel_size=3)
    settings = {"data_fidelity": deepinv.optim.L2(), "sigma_denoiser": 0.03, "stepsize": 0.9, "max_iter": 10}
    theirs = deepinv.optim.PGD(prior=deepinv.optim.PnP(median), **settings)(y, physics)
    ours = deepinv.optim.PGD(prior=to_deepinv(from_deepinv(median)), **settings)(y, physics)
    assert relative(ours, theirs) < 1e-5


def test_the_registered_prior_is_made_by_name(deepinv):
    prior = recon.prior("deepinv:model=MedianFilter")
    assert isinstance(prior.module.module, deepinv.models.MedianFilter)


def test_weights_of_a_named_network_come_from_a_file(deepinv, tmp_path):
    net = deepinv.models.DnCNN(1, 1, pretrained=None)
    torch.save(net.state_dict(), tmp_path / "dncnn.pth")
    prior = recon.prior("deepinv", model="DnCNN", weights=str(tmp_path / "dncnn.pth"))
    x = torch.rand(1, 8, 8)
    with torch.no_grad():
        assert torch.equal(prior.denoise(x, 0.1), net.eval()(x[:, None], 0.1)[:, 0])
    with pytest.raises(ValueError, match="DnCNN is a trained network: give weights=FILE"):
        recon.prior("deepinv:model=DnCNN")
    with pytest.raises(ValueError, match="no denoiser 'DnCN'; it has .*DnCNN"):
        recon.prior("deepinv:model=DnCN")
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        recon.prior("deepinv", model="DnCNN", weights=str(tmp_path / "missing.pth"))
    with pytest.raises(TypeError, match="MedianFilter has no weights"):
        recon.prior("deepinv", model="MedianFilter", download=True)


def test_ours_in_their_classes_pickle(deepinv):
    x = torch.rand(1, 1, 12, 12)
    prior = pickle.loads(pickle.dumps(to_deepinv(TotalVariation(0.1))))
    assert torch.equal(prior(x), to_deepinv(TotalVariation(0.1))(x))
    physics = copy.deepcopy(to_deepinv(DEBLURRING))
    assert torch.equal(physics.A(x), DEBLURRING(x))


def test_wrong_input_says_what_and_what_to_do(deepinv):
    physics, optim = deepinv.physics, deepinv.optim
    with pytest.raises(TypeError, match=r"Haze is not linear"):
        from_deepinv(physics.Haze())
    with pytest.raises(ValueError, match=r"does not say which images it takes: pass img_size"):
        from_deepinv(physics.Blur(TINY))
    with pytest.raises(ValueError, match=r"channels='add' fits a physics of one channel"):
        from_deepinv(physics.Inpainting((3, 5, 6), mask=MASK.expand(3, 5, 6)), channels="add")
    with pytest.raises(ValueError, match=r"channels='complex' needs real and imaginary"):
        from_deepinv(physics.Inpainting((1, 5, 6), mask=MASK[None]), channels="complex")
    stacked = physics.stack(physics.Inpainting((1, 5, 6), mask=MASK[None]), physics.Denoising())
    with pytest.raises(TypeError, match=r"several tensors.*recon.stack"):
        from_deepinv(stacked, img_size=(1, 5, 6))
    with pytest.raises(TypeError, match=r"bridge the denoiser inside"):
        from_deepinv(optim.RED(deepinv.models.MedianFilter()))
    with pytest.raises(TypeError, match=r"no proximal map of its own"):
        from_deepinv(optim.Prior(g=lambda x: x.square().sum()))
    with pytest.raises(
        TypeError, match=r"got torch.nn.*Conv2d: for any other network use recon_bridges.denoiser"
    ):
        from_deepinv(torch.nn.Conv2d(1, 1, 3))
    with pytest.raises(TypeError, match=r"to_deepinv takes a recon operator or prior, got int"):
        to_deepinv(3)
    with pytest.raises(TypeError, match=r"acts on real images: channels='complex'"):
        to_deepinv(OURS["ct"](), channels="complex")
    with pytest.raises(TypeError, match=r"has no proximal map: only functionals"):
        to_deepinv(L1(0.1) + from_deepinv(deepinv.models.MedianFilter()))
