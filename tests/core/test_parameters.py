"""Parameters: what a signature declares, what passes, what is refused and in which words."""

import collections.abc
import doctest
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Union

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recon.parameters
import recon.suggestions
from recon.parameters import (
    ArgumentNameError,
    ArgumentValueError,
    Param,
    SignatureError,
    SpecError,
    bind_arguments,
    parse_spec,
    read_parameters,
    type_name,
)

Millimetres = NewType("Millimetres", float)


def ct(
    shape: Annotated[tuple[int, int], Param("height and width", unit="px", ge=1)],
    pixel_size: Annotated[float | tuple[float, float], Param("side of a pixel", unit="mm", gt=0)] = 1.0,
    angles: int | Sequence[float] | torch.Tensor = 180,
    beam: Literal["parallel", "fan"] = "parallel",
    detectors: Annotated[int, Param("bins of the detector", ge=1)] | None = None,
    window: Annotated[str, Param("filter", choices=("ramp", "hann"))] = "ramp",
    relaxation: Annotated[float, Param("", ge=0, lt=2)] = 1.0,
    weight: float | Literal["auto"] = "auto",
    exact: bool = False,
) -> dict[str, Any]:
    return locals()


def bind(factory: Callable[..., Any] = ct, /, **arguments: Any) -> dict[str, Any]:
    return bind_arguments("operator ct", read_parameters(factory), arguments)


def convert(annotation: Any, value: Any) -> Any:
    def factory(x: Any) -> None: ...

    factory.__annotations__["x"] = annotation
    return bind(factory, x=value)["x"]


# Reading a signature


def test_a_signature_declares_name_type_default_unit_and_bounds():
    declared = {parameter.name: parameter for parameter in read_parameters(ct)}
    assert list(declared) == [
        "shape", "pixel_size", "angles", "beam", "detectors", "window", "relaxation", "weight", "exact",
    ]  # fmt: skip
    assert str(declared["shape"]) == "shape: tuple[int, int] (required)"
    assert str(declared["pixel_size"]) == "pixel_size: float | tuple[float, float] = 1.0 mm"
    assert declared["pixel_size"].about.description == "side of a pixel"
    assert declared["detectors"].about.description == "bins of the detector", "Param inside a union"
    assert declared["relaxation"].bounds == ">= 0, < 2"
    assert declared["angles"].type_name == "int | Sequence[float] | Tensor"
    assert declared["weight"].type_name == "float | 'auto'"
    assert declared["shape"].required
    assert not declared["exact"].required


def test_declarations_are_json():
    declared = {parameter.name: parameter.as_dict() for parameter in read_parameters(ct)}
    assert json.loads(json.dumps(declared)) == declared
    assert declared["shape"] == {
        "name": "shape",
        "type": "tuple[int, int]",
        "required": True,
        "description": "height and width",
        "unit": "px",
        "ge": 1,
    }
    assert declared["beam"]["choices"] == ["parallel", "fan"]
    assert declared["window"]["choices"] == ["ramp", "hann"]
    assert declared["detectors"]["default"] is None


def test_a_default_that_json_cannot_hold_is_described():
    def factory(
        a: Any = torch.float32,
        b: float = float("inf"),
        c: Path = Path("x"),
        d: dict[int, tuple[int, int]] = {1: (2, 3)},  # noqa: B006
    ): ...

    defaults = [parameter.as_dict()["default"] for parameter in read_parameters(factory)]
    assert defaults == ["torch.float32", "inf", "x", {"1": [2, 3]}]


def test_classes_dataclasses_partials_and_callables_are_read_alike():
    class ByInit:
        def __init__(self, size: int = 3): ...

    class ByNew:
        def __new__(cls, size: int = 3): ...

    @dataclass
    class AsDataclass:
        size: int = 3
        names: list[str] = field(default_factory=list)

    class AsCallable:
        def __call__(self, size: int = 3): ...

    class Inherited(ByInit): ...

    def with_two(size: int, other: int): ...

    for factory in (ByInit, ByNew, AsCallable(), Inherited, functools.partial(with_two, size=3)):
        first = read_parameters(factory)[0]
        assert (first.name, first.annotation, first.default) == ("size", int, 3), factory
    assert [parameter.type_name for parameter in read_parameters(AsDataclass)] == ["int", "list[str]"]


LATE = """
from __future__ import annotations
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from recon.parameters import Param
if TYPE_CHECKING:
    from torch import Tensor
    import torch

class Late:
    def __init__(
        self,
        size: Annotated[int, Param("side", ge=1)],
        mask: Tensor | Sequence[float] | None = None,
        other: torch.Tensor | None = None,
    ): ...

@dataclass
class LateData:
    size: int
"""


def test_textual_annotations_are_resolved_even_for_names_that_exist_for_type_checkers_only():
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(LATE, namespace)
    size, mask, other = read_parameters(namespace["Late"])
    assert size.annotation == Annotated[int, Param("side", ge=1)]
    assert mask.type_name == "Tensor | Sequence[float] | None"
    assert other.type_name == "torch.Tensor | None", "left as written"
    tensor = torch.ones(2)
    assert mask.coerce(tensor) is tensor, "recognised by the name of its class"
    assert mask.coerce([1, 2]) == (1.0, 2.0)
    assert other.coerce(tensor) is tensor
    with pytest.raises(ArgumentValueError, match=r"^size=0 must be >= 1$"):
        size.coerce(0)


def test_type_aliases_and_old_unions_are_understood():
    assert convert(Millimetres, "2.5") == 2.5
    assert convert(Optional[int], "none") is None  # noqa: UP045
    assert convert(Union[int, str], "7x") == "7x"  # noqa: UP007
    assert type_name(Optional[Millimetres]) == "float | None"  # noqa: UP045
    assert type_name(collections.abc.Callable[[int], str]) == "callable"
    assert type_name(tuple[int, ...]) == "tuple[int, ...]"


def test_hidden_parameters_are_refused():
    for hiding in (lambda *args: None, lambda **kwargs: None, eval("lambda x, /: None")):
        with pytest.raises(SignatureError, match=r"hides its parameters behind .*; spell them out"):
            read_parameters(hiding)
    with pytest.raises(SignatureError, match="does not tell its signature"):
        read_parameters(dict)


# Binding


def test_values_come_back_complete_and_in_order():
    values = bind(angles=30, shape=[64, 32])
    assert values == {
        "shape": (64, 32), "pixel_size": 1.0, "angles": 30, "beam": "parallel", "detectors": None,
        "window": "ramp", "relaxation": 1.0, "weight": "auto", "exact": False,
    }  # fmt: skip
    assert list(values) == [parameter.name for parameter in read_parameters(ct)]


def test_binding_again_what_was_bound_changes_nothing():
    values = bind(shape=(3, 4), pixel_size="[0.5, 2]", detectors="none", weight="1e-3")
    assert bind(**values) == values


def test_an_unknown_parameter_is_answered_with_the_closest_and_all():
    def disc(size: int = 3, pixel_size: float = 1.0): ...

    with pytest.raises(ArgumentNameError) as caught:
        bind_arguments("operator ct_parallel", read_parameters(disc), {"sise": 1})
    assert str(caught.value) == (
        "operator ct_parallel has no parameter 'sise'; did you mean 'size'? "
        "It takes: size: int = 3, pixel_size: float = 1.0."
    )
    with pytest.raises(ArgumentNameError, match=r"no parameter 'Pixel-Size'; did you mean 'pixel_size'\?"):
        bind(disc, **{"Pixel-Size": 1})
    with pytest.raises(ArgumentNameError, match=r"has no parameter 'x'\. It takes no arguments\.$"):
        bind(lambda: None, x=1)


def test_a_missing_argument_is_named_with_its_meaning():
    with pytest.raises(
        ArgumentNameError, match=r"^operator ct needs 'shape' \(height and width\)\. It takes: shape"
    ):
        bind(angles=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 4)}, "operator ct: shape[0]=0 must be >= 1 px"),
        (
            {"shape": (4, 4, 4)},
            "operator ct: shape=(4, 4, 4) must be 2 whole numbers in brackets like (2,3), not 3",
        ),
        ({"shape": 4}, "operator ct: shape=4 must be 2 whole numbers in brackets like (2,3)"),
        ({"shape": (4, 4.5)}, "operator ct: shape[1]=4.5 must be a whole number"),
        ({"pixel_size": 0}, "operator ct: pixel_size=0.0 must be > 0 mm"),
        ({"pixel_size": [1, -2]}, "operator ct: pixel_size[1]=-2.0 must be > 0 mm"),
        (
            {"pixel_size": "wide"},
            "operator ct: pixel_size='wide' must be a number or 2 numbers in brackets like (0.5,1)",
        ),
        ({"pixel_size": float("nan")}, "operator ct: pixel_size=nan must be a number"),
        ({"beam": "cone"}, "operator ct: beam='cone' is not one of parallel, fan"),
        ({"window": "box"}, "operator ct: window='box' is not one of ramp, hann"),
        ({"detectors": 0}, "operator ct: detectors=0 must be >= 1"),
        ({"detectors": "many"}, "operator ct: detectors='many' must be a whole number or none"),
        ({"relaxation": 2}, "operator ct: relaxation=2.0 must be < 2"),
        ({"relaxation": "nan"}, "operator ct: relaxation='nan' must be a number"),
        ({"relaxation": True}, "operator ct: relaxation=True must be a number"),
        ({"relaxation": None}, "operator ct: relaxation=None must be a number"),
        ({"weight": "atuo"}, "operator ct: weight='atuo' must be a number or 'auto'"),
        ({"exact": "maybe"}, "operator ct: exact='maybe' must be true or false"),
        ({"exact": 1}, "operator ct: exact=1 must be true or false"),
        (
            {"angles": "all"},
            "operator ct: angles='all' must be a whole number, numbers in brackets like (0.5,1) or a Tensor",
        ),
    ],
)
def test_a_wrong_value_is_refused_naming_it_and_what_it_must_be(arguments: dict[str, Any], message: str):
    with pytest.raises(ArgumentValueError) as caught:
        bind(**{"shape": (4, 4), **arguments})
    assert str(caught.value) == message


def test_long_values_are_shortened_in_messages():
    with pytest.raises(ArgumentValueError) as caught:
        bind(shape=np.zeros((100, 100)))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


# Coercion


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, "12", 12),
        (int, "1e3", 1000),
        (int, 3.0, 3),
        (int, np.int64(7), 7),
        (int, torch.tensor(7), 7),
        (int, 10**30, 10**30),
        (float, 3, 3.0),
        (float, "1e-3", 1e-3),
        (float, "inf", float("inf")),
        (float, np.float32(0.5), 0.5),
        (float, torch.tensor(0.5), 0.5),
        (bool, "Yes", True),
        (bool, "off", False),
        (bool, np.True_, True),
        (str, "60", "60"),
        (Path, "a/b", Path("a/b")),
        (Literal[1, 2], "2", 2),
        (Literal["Ramp"], "ramp", "Ramp"),
        (int | None, "None", None),
        (int | None, None, None),
        (int | float, 2.0, 2.0),
        (int | float, "2", 2),
        (int | float, "2.5", 2.5),
        (bool | int, True, True),
        (bool | int, "1", 1),
        (bool | int, "true", True),
        (str | int, "7", "7"),
        (str | None, "none", "none"),
        (tuple[int, ...], "[1, 2, 3]", (1, 2, 3)),
        (tuple[int, ...], "()", ()),
        (tuple[int, ...], "(1,)", (1,)),
        (tuple[int, ...], np.arange(3), (0, 1, 2)),
        (list[float], (1, 2), [1.0, 2.0]),
        (Sequence[str], "[a, 'b,c']", ("a", "b,c")),
        (tuple[tuple[int, int], ...], "[[1,2],[3,4]]", ((1, 2), (3, 4))),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, int], torch.Size((4, 5)), (4, 5)),
        (torch.Tensor, "[[1, 0], [0.5, true]]", [[1, 0], [0.5, True]]),
        (torch.Tensor, [[1, 0]], [[1, 0]]),
        (Any, "1e3", "1e3"),
        (Any, [1], [1]),
    ],
)
def test_values_become_the_declared_type(annotation: Any, value: Any, expected: Any):
    result = convert(annotation, value)
    assert result == expected
    assert type(result) is type(expected)


def test_tensors_pass_untouched_where_tensors_are_declared():
    angles = torch.linspace(0, 1, 5, requires_grad=True)
    assert bind(shape=(4, 4), angles=angles)["angles"] is angles
    parameter = torch.nn.Parameter(torch.ones(2))
    assert convert(torch.Tensor | None, parameter) is parameter
    assert bind(shape=(4, 4), angles=torch.ones(2).numpy())["angles"] == (1.0, 1.0)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "1.5"), (int, True), (int, "inf"), (float, "x"), (float, 1j), (str, 3), (Path, 3), (bool, "2"),
        (tuple[int, ...], {1: 2}), (tuple[int, ...], b"12"), (tuple[int, ...], torch.tensor(3)),
        (tuple[int, ...], "[1"), (torch.Tensor, "brain"), (Literal[1], True), (None, 1),
    ],
)  # fmt: skip
def test_other_values_are_refused(annotation: Any, value: Any):
    with pytest.raises(ArgumentValueError, match=r"^operator ct: x="):
        convert(annotation, value)


def test_the_default_passes_even_if_its_own_annotation_excludes_it():
    def careless(
        weight: Annotated[float, Param("", ge=1)] = None,  # type: ignore[assignment]  # noqa: RUF013
        size: Annotated[int, Param("", ge=1)] = 0,
    ): ...

    assert bind(careless, weight=None, size=0) == {"weight": None, "size": 0}


@given(st.integers() | st.floats(allow_nan=False))
def test_every_number_survives_the_way_through_text(number: float):
    assert convert(float, repr(number) if isinstance(number, float) else number) == float(number)
    assert convert(type(number), str(number)) == number


# Specs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tv", ("tv", {})),
        (" tv ", ("tv", {})),
        ("acme/tv:weight=1e-3", ("acme/tv", {"weight": "1e-3"})),
        ("ct:angles=60,shape=[4, 5]", ("ct", {"angles": "60", "shape": "[4, 5]"})),
        ("ct:shape=(4,5),", ("ct", {"shape": "(4,5)"})),
        ("mask:mask=[[1,0],[0,1]]", ("mask", {"mask": "[[1,0],[0,1]]"})),
        ("blur:path=C:/a=b,title='a, b'", ("blur", {"path": "C:/a=b", "title": "a, b"})),
        ("blur:title=''", ("blur", {"title": ""})),
        ("blur:title=it's", ("blur", {"title": "it's"})),
    ],
)
def test_specs_are_split_into_name_and_arguments(text: str, expected: tuple[str, dict[str, str]]):
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no name"),
        (":a=1", "has no name"),
        ("ct:", "nothing follows the colon"),
        ("ct:60", "'60' in 'ct:60' is not of the form arg=value"),
        ("ct:=60", "is not of the form arg=value"),
        ("ct:a=", "'a' in 'ct:a=' has no value; write a='' for an empty text"),
        ("ct:a=1,a=2", "'a' is given twice"),
        ("ct:a=[1,2", "missing ']'"),
        ("ct:a=(1,2]", "unexpected ']'"),
        ("ct:a=1)", "unexpected ')'"),
        ("ct:a='b", 'missing "\'"'),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused(text: str, message: str):
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert message in str(caught.value)


words = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
numbers = st.integers() | st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_characters="'", exclude_categories=["Cs", "Cc"]), max_size=10)


@settings(max_examples=50)
@given(words, st.dictionaries(words, st.one_of(numbers, st.lists(numbers).map(tuple), texts), max_size=5))
def test_a_spec_written_by_a_program_reads_back(name: str, arguments: dict[str, Any]):
    def written(value: Any) -> str:
        return (
            f"'{value}'"
            if isinstance(value, str)
            else repr(list(value) if isinstance(value, tuple) else value)
        )

    spec = (
        name + ":" * bool(arguments) + ",".join(f"{key}={written(value)}" for key, value in arguments.items())
    )
    read, texts_read = parse_spec(spec)
    assert read == name
    types = {key: str if isinstance(value, str) else type(value) for key, value in arguments.items()}
    sequence = tuple[int | float, ...]
    for key, value in arguments.items():
        assert convert(sequence if types[key] is tuple else types[key], texts_read[key]) == value


def test_arguments_of_a_spec_without_a_declared_type_are_read_as_plain_values():
    def anything(a, b, c, d, e): ...

    _, arguments = parse_spec("x:a=1,b=0.5,c=[1,none,[true]],d='1',e=word")
    values = bind(anything, **arguments)
    assert values == {"a": 1, "b": 0.5, "c": [1, None, [True]], "d": "1", "e": "word"}
    assert type(values["e"]) is str


def test_a_text_parameter_gets_plain_text():
    _, arguments = parse_spec("x:window=hann,shape=[4,4]")
    assert type(bind(**arguments)["window"]) is str


# The module


@pytest.mark.parametrize("module", [recon.parameters, recon.specs, recon.annotations, recon.suggestions])
def test_the_examples_in_the_docstrings_run(module: Any):
    assert doctest.testmod(module).failed == 0


def test_param_flags_a_misspelt_keyword():
    with pytest.raises(TypeError, match="untis"):
        Param("x", untis="mm")  # type: ignore[call-arg]


def test_importing_the_module_imports_no_heavy_library():
    code = "import sys, recon.parameters; print(*{'torch', 'numpy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True).stdout.strip()
        == ""
    )
