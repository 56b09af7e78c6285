"""The two ways into pytest, `conformance_test` and ``-p recon.testing.plugin``, run in a pytest of their own."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

HOOKS = """
import recon

@recon.hookimpl
def recon_operators():
    yield recon.OperatorEntry(
        name="double", factory="acme_parts:Double", summary="x to 2 x",
        examples=(
            recon.Example({"shape": (2, 3)}),
            recon.Example({"shape": (2, 2), "bound": 9.0}, expected_failures={"norm_bound": "a rough bound"}),
        ),
    )
    yield recon.OperatorEntry(
        name="needy", factory="acme_parts:Absent", summary="needs a library", requires=("surely_absent",)
    )
"""
PARTS = """
from typing import Annotated
import recon

class Double(recon.LinearOperator):
    def __init__(
        self,
        shape: Annotated[tuple[int, int], recon.Param("image shape", unit="px", ge=1)],
        bound: Annotated[float, recon.Param("what norm() says", ge=0)] = 2.0,
    ):
        super().__init__(shape, shape)
        self.bound = bound

    def _forward(self, x):
        return 2 * x

    def _adjoint(self, y):
        return FACTOR * y

    def _norm(self):
        return self.bound
"""


@pytest.fixture
def acme(pytester, monkeypatch):
    """A distribution recon-acme in the test folder, installed as far as importlib.metadata can see."""
    for name in ("RECON_PLUGINS", "RECON_DISABLE_PLUGINS", "RECON_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))

    def install(factor="2", hooks=HOOKS):
        pytester.makepyfile(acme=hooks, acme_parts=PARTS.replace("FACTOR", factor))
        info = pytester.mkdir("recon_acme-1.0.dist-info")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recon-acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[recon]\nacme = acme\n")
        pytester.makepyprojecttoml(
            '[project]\nname = "recon-acme"\nversion = "1.0"\n[project.entry-points.recon]\nacme = "acme"\n'
        )

    return install


def test_a_whole_test_file_of_two_lines(pytester, acme):
    acme()
    pytester.makepyfile(
        test_conformance="""
        from recon.testing import conformance_test

        test_conformance = conformance_test("recon-acme")
        """
    )
    result = pytester.runpytest_subprocess("-v", "-rsx", "-W", "error")
    assert result.ret == 0
    outcomes = result.parseoutcomes()
    assert outcomes["xfailed"] == 1
    assert outcomes["skipped"] == 2
    result.stdout.fnmatch_lines(
        [
            "*test_conformance[[]recon-acme:acme::light_hooks] PASSED*",
            "*test_conformance[[]recon-acme/double[[]0[]]::dense_adjoint] PASSED*",
            "SKIPPED*needs surely_absent: install surely_absent",
            "XFAIL *recon-acme/double[[]1[]]::norm_bound[]] - a rough bound",
        ]
    )


def test_a_fault_and_a_failure_that_does_not_fail_are_failures(pytester, acme):
    acme(factor="2.02", hooks=HOOKS.replace('"bound": 9.0', '"bound": 2.0'))
    pytester.makepyfile(
        "from recon.testing import conformance_test\ntest_it = conformance_test('recon-acme', 'operator')"
    )
    result = pytester.runpytest_subprocess("-q", "-k", "norm_bound or dense_adjoint")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*AssertionError: the adjoint's matrix B is not A^H*B equals 1.01 A^H*"])
    result.stdout.fnmatch_lines(["*XPASS(strict)* a rough bound", "FAILED*double[[]1[]]::norm_bound]*"])


def test_the_plugin_checks_the_project_in_the_root_folder(pytester, acme):
    acme()
    result = pytester.runpytest_subprocess("-p", "recon.testing.plugin", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "recon-acme:acme::light_hooks PASSED*",
            "recon-acme/double[[]0[]]::adjoint PASSED*",
            "recon-acme/double[[]1[]]::norm_bound XFAIL*",
            "recon-acme/needy::factory SKIPPED*",
        ],
        consecutive=False,
    )
    chosen = pytester.runpytest_subprocess("-p", "recon.testing.plugin", "-k", "dense_adjoint")
    assert chosen.parseoutcomes() == {"passed": 2, "deselected": result.parseoutcomes()["passed"] - 2 + 3}


def test_the_plugin_shows_what_was_measured_without_a_traceback(pytester, acme):
    acme(factor="2.02")
    result = pytester.runpytest_subprocess("-p", "recon.testing.plugin", "-k", "dense_adjoint")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["recon-acme/double[[]0[]]::dense_adjoint: the adjoint's matrix B*B equals 1.01 A^H*"]
    )
    result.stdout.no_fnmatch_line("*operator_matrices.py*")


def test_the_plugin_checks_what_it_is_told_beside_other_tests(pytester, acme):
    acme()
    pytester.makepyfile(test_own="def test_own(): pass")
    result = pytester.runpytest_subprocess(
        "-p", "recon.testing.plugin", "--recon-plugin", "recon", "--recon-kind", "noise", "-v"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_own.py::test_own PASSED*", "recon/poisson[[]0[]]::seeded PASSED*"])
    result.stdout.no_fnmatch_line("*recon-acme/*")


def test_the_plugin_adds_nothing_to_other_projects(pytester):
    pytester.makepyprojecttoml('[project]\nname = "other"\nversion = "1"\n')
    pytester.makepyfile(test_own="def test_own(): pass")
    assert pytester.runpytest_subprocess("-p", "recon.testing.plugin").parseoutcomes() == {"passed": 1}


def test_an_unknown_distribution_is_a_usage_error(pytester):
    result = pytester.runpytest_subprocess("-p", "recon.testing.plugin", "--recon-plugin", "reconn")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--recon-plugin reconn: no item or distribution is called 'reconn'; did you mean 'recon'?*"]
    )


def test_the_registry_fixture_is_empty_and_leaves_nothing_behind(pytester, acme):
    acme()
    pytester.makepyfile(
        """
        import recon
        from recon import registry

        class Plugin:
            @recon.hookimpl
            def recon_priors(self):
                return [recon.PriorEntry(name="tiny", factory="fractions:Fraction", summary="A number")]

        def test_isolated(recon_registry):
            assert registry.items("operator") == ()
            recon_registry.add(Plugin(), name="mine:plugin")
            assert [found.name for found in registry.items("prior")] == ["mine/tiny"]

        def test_after():
            assert "mine/tiny" not in [found.name for found in registry.items("prior")]
            assert "recon/mask" in [found.name for found in registry.items("operator")]
        """
    )
    result = pytester.runpytest_subprocess("-p", "recon.testing.plugin", "-k", "isolated or after")
    assert result.parseoutcomes()["passed"] == 2


def test_no_pytest_is_loaded_with_the_kit_unasked():
    assert [point for point in entry_points(group="pytest11") if point.value.startswith("recon")] == []


def test_the_plugin_module_imports_no_library():
    code = (
        "import sys, recon.testing.plugin; "
        "print(sorted({'torch', 'numpy', 'recon.registry', 'recon.testing.generation'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
