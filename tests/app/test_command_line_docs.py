"""docs/command-line.md says what `--help` says: no command and no option is missing there, and none is made up."""

import argparse
import re
from pathlib import Path

import pytest

from app.cli import make_parser
from app.commands import COMMANDS

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
COMMON = {"--store", "--json", "--help"}


def sections():
    """Return {command: text of its section}; a heading may name several commands."""
    found = {}
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        if heading != "Every command":
            found |= dict.fromkeys(heading.split(" and "), body)
    return found


def usage(name):
    """Return the lines of a command's section that show how it is typed."""
    return [line for line in sections()[name].splitlines() if line.startswith(f"hotbench {name} ")] + [
        line for line in sections()[name].splitlines() if line == f"hotbench {name}"
    ]


def actions(name):
    parsers = next(
        action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)
    ).choices
    return [action for action in parsers[name]._actions if action.help != argparse.SUPPRESS]


def test_every_command_has_its_section_and_no_other():
    assert set(sections()) == {command.NAME for command in COMMANDS}


@pytest.mark.parametrize("name", [command.NAME for command in COMMANDS])
def test_the_options_shown_are_those_that_there_are(name):
    shown = set(re.findall(r"--[a-z][a-z-]*|(?<!\S)-o\b", " ".join(usage(name))))
    assert usage(name), f"no line begins with hotbench {name}"
    options = [action.option_strings for action in actions(name) if action.option_strings]
    known = {text for strings in options for text in strings}
    assert shown <= known
    missing = [strings for strings in options if not set(strings) & (shown | COMMON)]
    assert missing == []


@pytest.mark.parametrize("name", [command.NAME for command in COMMANDS])
def test_every_choice_of_an_argument_is_shown(name):
    text = " ".join(usage(name))
    for action in actions(name):
        for choice in action.choices or ():
            assert re.search(rf"\b{re.escape(str(choice))}\b", text), choice
