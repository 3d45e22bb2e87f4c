"""What goes to stdout and what to stderr."""

import io
import json
import math
import sys

import pytest
from rich.text import Text

from app import tables
from app.terminal import Terminal, store_option
from tests.app.values import HOSTILE, report_diagnosis, report_ops, report_run


def test_json_is_one_object_and_valid_even_for_infinities(capsys):
    Terminal(as_json=True).result({"a": math.inf, "b": [math.nan, 1.5]}, Text("for people"))
    out, err = capsys.readouterr()
    assert json.loads(out, parse_constant=pytest.fail) == {"a": "inf", "b": ["nan", 1.5]} and err == ""


def test_people_get_no_json(capsys):
    Terminal().result({"a": 1}, Text("for people"))
    assert capsys.readouterr().out == "for people\n"


def test_a_command_to_copy_is_never_cut(capsys):
    command = "hotbench optimize run-1 --store /" + "x" * 300
    Terminal().show(tables.next_commands("Next", [command]))
    assert capsys.readouterr().out == f"Next\n  {command}\n"


def test_progress_without_a_terminal_is_a_line_a_stage_on_stderr(capsys):
    with Terminal(as_json=True).progress("work") as progress:
        for fraction in (0.0, 0.1, 0.2):
            progress("first", fraction)
        progress(f"second {HOSTILE}", 0.5)
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[0] == " 10 % first" and len(err.splitlines()) == 2 and "\x1b" not in err


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Terminal().progress("work") as progress:
        progress("first [red]stage[/red]", 0.5)
    assert "first (red)stage(/red)" in screen.getvalue() or "work" in screen.getvalue()


def test_tables_hold_on_a_narrow_terminal_and_hostile_names_stay_text(capsys):
    terminal = Terminal()
    run = report_run()
    terminal.show(tables.run_lines(run), tables.hot_ops(report_ops(), 80), tables.findings(report_diagnosis(run)))
    terminal.show(tables.hot_ops(report_ops(), 110), tables.memory({"input": 3, "peak": 3}))
    out = capsys.readouterr().out
    assert "\x1b" not in out and "1.02 ms" in out and "█" in out and "\n peak" not in out


def test_an_empty_run_has_tables_too(capsys):
    Terminal().show(tables.hot_ops([], 80), tables.memory({}))
    assert "Hot ops" in capsys.readouterr().out


def test_a_store_with_a_blank_in_its_name_is_quoted():
    assert store_option(None) == "" and store_option("my runs") == " --store 'my runs'"
