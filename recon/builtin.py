"""The hook module of the core: registers its own solvers, noise models and metrics like any plugin."""

from __future__ import annotations

from recon.entries import Example, MetricEntry, NoiseEntry, ObjectiveEntry, PriorEntry, SolverEntry
from recon.hookspecs import hookimpl


@hookimpl
def recon_solvers() -> list[SolverEntry]:
    """The algorithms of `recon.solvers`."""
    return [
        SolverEntry(
            name="direct",
            factory="recon.solvers.direct:Direct",
            summary="the operator's direct reconstruction",
        ),
        SolverEntry(
            name="cg",
            factory="recon.solvers.cg:CG",
            summary="conjugate gradients: least squares, alone or with quadratic priors",
            needs=("adjoint",),
        ),
        SolverEntry(
            name="admm",
            factory="recon.solvers.admm:ADMM",
            summary="alternating direction method of multipliers: any sum of functionals and denoisers",
            needs=("adjoint", "prox"),
        ),
        SolverEntry(
            name="dip",
            factory="recon.solvers.dip:DIP",
            summary="deep image prior: fits a generator's weights to the data, functionals beside it",
            needs=("adjoint", "generator"),
        ),
        SolverEntry(
            name="fista",
            factory="recon.solvers.fista:FISTA",
            summary="accelerated proximal gradients: one prior on the image itself, and quadratic ones",
            needs=("adjoint", "prox"),
        ),
        SolverEntry(
            name="pdhg",
            factory="recon.solvers.pdhg:PDHG",
            summary="primal-dual hybrid gradient (Chambolle-Pock): any sum of functionals, no inner solver",
            needs=("adjoint", "prox"),
        ),
        SolverEntry(
            name="hqs",
            factory="recon.solvers.hqs:HQS",
            summary="plug-and-play by half-quadratic splitting: a denoiser at falling noise levels",
            needs=("adjoint", "denoiser"),
            examples=(
                Example(
                    expected_failures={
                        "default_stop": "its schedule ends at a noise level above zero, near the solution"
                    }
                ),
            ),
        ),
        SolverEntry(
            name="red",
            factory="recon.solvers.red:RED",
            summary="regularisation by denoising: a denoiser's residual as the gradient of the prior",
            needs=("adjoint", "denoiser"),
            examples=(
                Example(
                    expected_failures={
                        "denoiser": "it minimises the Moreau envelope of the prior, not the prior"
                    }
                ),
            ),
        ),
        SolverEntry(
            name="lsqr",
            factory="recon.solvers.lsqr:LSQR",
            summary="least squares by bidiagonalisation, alone or with quadratic priors",
            needs=("adjoint",),
        ),
        SolverEntry(
            name="sirt",
            factory="recon.solvers.sirt:SIRT",
            summary="row- and column-weighted steps, stopped early; one constraint on the image or no prior",
            needs=("adjoint", "nonnegative"),
            tags=("other objective",),
        ),
        SolverEntry(
            name="osem",
            factory="recon.solvers.osem:OSEM",
            summary="expectation maximisation of emission counts over ordered subsets; no prior",
            needs=("adjoint", "nonnegative", "subsets"),
        ),
        SolverEntry(
            name="mlem",
            factory="recon.solvers.osem:MLEM",
            summary="maximum likelihood of emission counts by expectation maximisation; no prior",
            needs=("adjoint", "nonnegative"),
        ),
        SolverEntry(
            name="feedforward",
            factory="recon.solvers.feedforward:Feedforward",
            summary="a trained network applied once to the direct reconstruction",
            needs=("network",),
        ),
        SolverEntry(
            name="splitting",
            factory="recon.solvers.splitting:Splitting",
            summary="a learned network and the data in turn, with functionals beside the data",
            needs=("adjoint", "network"),
            examples=(
                Example(
                    expected_failures={
                        "denoiser": "where it stands still x - f(x) balances the data: f is no proximal map to it",
                        "default_stop": "a few outer loops, as it was trained",
                    }
                ),
            ),
        ),
    ]


@hookimpl
def recon_objectives() -> list[ObjectiveEntry]:
    """The objectives of `recon.training`."""
    return [
        ObjectiveEntry(
            name="supervised",
            factory="recon.training.supervised:Supervised",
            summary="from the direct reconstruction to the true image, by a loss between images",
        ),
        ObjectiveEntry(
            name="denoising",
            factory="recon.training.supervised:Denoising",
            summary="a denoiser over a range of noise levels, for plug-and-play",
        ),
        ObjectiveEntry(
            name="noise2inverse",
            factory="recon.training.noise2inverse:Noise2Inverse",
            summary="from measured views alone, no true images: some splits of a scan foretell the others",
            examples=(Example(), Example({"splits": 2, "strategy": "1:X"})),
        ),
        ObjectiveEntry(
            name="ssdu",
            factory="recon.training.ssdu:SSDU",
            summary="from undersampled k-space alone, no true images: a part that is held back judges",
            examples=(Example(), Example({"ratio": 0.2, "selection": "uniform", "masks": 2})),
        ),
        ObjectiveEntry(
            name="wgan",
            factory="recon.training.wgan:WGAN",
            summary="Wasserstein critic with gradient penalty beside MSE or VGG: WGAN-VGG and its three relatives",
            examples=(
                Example({"content": "mse", "critic": "wgan_vgg_critic:channels=(4,6),features=8"}),
                Example({"content": "mse", "adversarial_weight": 0}),
            ),
        ),
        ObjectiveEntry(
            name="adversarial",
            factory="recon.training.adversarial:Adversarial",
            summary="a discriminator beside a loss to the true image",
            examples=(Example({"critic": "patchgan:channels=4,layers=1"}),),
        ),
        ObjectiveEntry(
            name="cyclegan",
            factory="recon.training.cyclegan:CycleGAN",
            summary="two networks translate between two kinds of images, without pairs",
            examples=(Example({"critic": "patchgan:channels=4,layers=1", "pool": 4}),),
        ),
        ObjectiveEntry(
            name="splitting",
            factory="recon.training.splitting:SplitTraining",
            summary="weights and inputs of a network in turn, split from the inversion; with a critic or without",
        ),
    ]


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """Priors that were trained: a model's folder by name."""
    return [
        PriorEntry(
            name="learned",
            factory="recon.model_files:load_model",
            summary="a trained network from the folder that `recon train` wrote",
            examples=(
                Example({"folder": "model/"}, expected_failures={"example": "the model is the user's own"}),
            ),
        ),
    ]


@hookimpl
def recon_noise() -> list[NoiseEntry]:
    """The noise models of `recon.simulate`."""
    return [
        NoiseEntry(
            name="gaussian",
            factory="recon.simulate:GaussianNoise",
            summary="white Gaussian noise on real data",
            tags=("zero mean",),
            examples=(Example({"std": 0.1}),),
        ),
        NoiseEntry(
            name="complex_gaussian",
            factory="recon.simulate:ComplexGaussianNoise",
            summary="white Gaussian noise on the real and on the imaginary part",
            tags=("zero mean",),
            examples=(Example({"std": 0.1}),),
        ),
        NoiseEntry(
            name="poisson",
            factory="recon.simulate:PoissonNoise",
            summary="photon noise of a transmission scan, on line integrals",
            examples=(Example({"photons": 1e4}), Example({"photons": 1e4, "electronic": 5.0})),
        ),
        NoiseEntry(
            name="lower_dose",
            factory="recon.simulate:LowerDoseNoise",
            summary="what a CT scan of lower dose has more noise, on line integrals of the full dose",
            examples=(Example({"photons": 1e5, "dose": 0.25, "electronic": 5.0}),),
        ),
    ]


@hookimpl
def recon_metrics() -> list[MetricEntry]:
    """The metrics of `recon.metrics`."""
    return [
        MetricEntry(
            name="psnr",
            factory="recon.metrics:PSNR",
            summary="peak signal-to-noise ratio [dB]",
            higher_is_better=True,
        ),
        MetricEntry(
            name="ssim",
            factory="recon.metrics:SSIM",
            summary="structural similarity; needs a data range",
            higher_is_better=True,
            examples=(Example({"data_range": 1.0}),),
        ),
        MetricEntry(
            name="mse", factory="recon.metrics:MSE", summary="mean squared error", higher_is_better=False
        ),
        MetricEntry(
            name="nmse",
            factory="recon.metrics:NMSE",
            summary="squared error over squared norm",
            higher_is_better=False,
        ),
        MetricEntry(
            name="rmse",
            factory="recon.metrics:RMSE",
            summary="root mean squared error",
            higher_is_better=False,
        ),
        MetricEntry(
            name="rmse_hu",
            factory="recon.metrics:RMSEHU",
            summary="root mean squared error in HU, of attenuation in 1/mm",
            higher_is_better=False,
        ),
        MetricEntry(
            name="vif",
            factory="recon.visual_information:VIF",
            summary="visual information fidelity in the pixel domain; needs a grey scale",
            higher_is_better=True,
            examples=(Example({"data_range": 1.0}),),
        ),
        MetricEntry(
            name="global_ssim",
            factory="recon.published_metrics:GlobalSSIM",
            summary="SSIM over one window, which flatters: for published numbers only",
            higher_is_better=True,
        ),
        MetricEntry(
            name="regressed_snr",
            factory="recon.published_metrics:RegressedSNR",
            summary="signal-to-noise ratio after an affine fit [dB]: for published numbers only",
            higher_is_better=True,
        ),
    ]
