"""The hook module of the core: registers its own solvers, noise models and metrics like any plugin."""

from __future__ import annotations

from recon.entries import Example, MetricEntry, NoiseEntry, SolverEntry
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
    ]
