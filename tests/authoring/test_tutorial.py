"""The tutorial does what it says: every page is run as a reader would, in an empty folder."""

from pathlib import Path

import pytest
from page import Block, blocks, commands, matches, run_page

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"


@pytest.mark.parametrize("page", sorted(TUTORIAL.glob("*.md")), ids=lambda page: page.stem)
def test_page(page: Path, tmp_path: Path, author_environment: dict[str, str]):
    run_page(page, tmp_path, author_environment)


# The runner itself: what it must not let pass


def fence(info: str, text: str) -> str:
    return f"```{info}\n{text}\n```\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (fence("console", "$ echo one\ntwo"), "page.md:2: `echo one` prints\none\nbut the page shows\ntwo"),
        (fence("console", "$ echo one\none\ntwo"), "prints\none\n"),
        (fence("console", "$ printf '1\\n2\\n'\n1"), "prints\n1\n2\n"),
        (fence("console", "$ false"), "`false` ends with 1"),
        (fence("console", "$ false\n$ echo $?\n0"), "`echo $?` prints\n1\n"),
        (fence("console", "$ exit 3"), "the shell ended"),
        (fence("console", "one"), "starts with a command"),
        (fence("python", "print(1)"), "page.md:2: a python block without a title is never tried"),
    ],
)
def test_a_page_that_is_wrong(tmp_path: Path, author_environment: dict[str, str], text: str, message: str):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError) as failed:
        run_page(page, tmp_path, author_environment)
    assert message in str(failed.value)


def test_a_page_that_is_right(tmp_path: Path, author_environment: dict[str, str]):
    page = tmp_path / "page.md"
    page.write_text(
        fence('python title="folder/two.py"', "print(1 +\n      1)")
        + fence("console", "$ cd folder\n$ python two.py\n2\n$ false\n$ echo $?\n1")
        + fence("console", "$ basename \\\n  $PWD\nfolder")
        + fence("text", "said, not done")
    )
    run_page(page, tmp_path, author_environment)


def test_what_counts_as_the_same_output():
    assert matches(["a  b"], ["a b   "])
    assert matches(["...", "end"], ["one", "two", "end"]) and matches(["...", "end"], ["end"])
    assert matches(["in ... s"], ["in 0.31 s"]) and not matches(["in ... s"], ["in 0.31 ms"])
    assert matches(["name ... status"], ["name status"])
    assert matches(["gain 0.42 dB"], ["gain 0.43 dB"]) and not matches(["gain 0.42 dB"], ["gain 0.44 dB"])
    assert not matches(["version 0.1.0"], ["version 0.1.1"])
    assert not matches(["21 passed"], ["20 passed"])
    assert not matches(["(a)"], ["a"]) and not matches([], ["one"]) and not matches(["one"], [])


def test_blocks_and_commands_know_their_lines():
    (block,) = blocks("# Title\n\n" + fence("console", "$ one\nsaid\n$ two"))
    assert block == Block("console", "", "$ one\nsaid\n$ two\n", 4)
    assert [(command.text, command.output, command.line) for command in commands(block)] == [
        ("one", ["said"], 4),
        ("two", [], 6),
    ]
