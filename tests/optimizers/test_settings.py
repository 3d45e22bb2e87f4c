from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from analyzer.errors import HotbenchError
from optimizers import registry
from optimizers.fusion.optimizer import FusionOptions
from optimizers.plan import Options
from optimizers.settings import parse_settings, read_options


@dataclass(frozen=True)
class MadeUpOptions(Options):
    steps: int = 3
    rate: float = 0.5
    fast: bool = False
    limit: float | None = None
    method: Literal["plain", "hessian"] = "plain"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give at least 1")


class MadeUp:
    name: ClassVar[str] = "made-up"
    options: ClassVar[type[Options]] = MadeUpOptions


@pytest.fixture(autouse=True)
def only_made_up(monkeypatch):
    monkeypatch.setattr(registry, "OPTIMIZERS", (MadeUp(),))


def read(*texts):
    return read_options(["made-up"], parse_settings(texts))["made-up"]


def test_defaults_hold_where_nothing_is_set():
    assert read() == MadeUpOptions()


def test_each_type_is_read():
    texts = ("steps=7", "rate=1e-3", "fast=True", "limit=2", "method=hessian")
    assert read(*(f"made-up.{text}" for text in texts)) == MadeUpOptions(7, 1e-3, True, 2.0, "hessian")
    assert read("made-up.limit=none").limit is None


def test_the_example_that_the_message_gives_is_accepted():
    with pytest.raises(HotbenchError, match="such as") as caught:
        parse_settings(["steps=7"])
    option, _, value = str(caught.value).rpartition(" ")[2].removeprefix("fusion.").partition("=")
    assert getattr(FusionOptions(**{option: float(value)}), option) == float(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps=7", "not NAME.OPTION=VALUE"),
        ("made-up.steps", "not NAME.OPTION=VALUE"),
        ("made-up.stepz=7", "no option 'stepz'; it has: steps, rate"),
        ("made-up.steps=many", "write a whole number"),
        ("made-up.rate=many", "write a number"),
        ("made-up.rate=inf", "made-up.rate=inf: write a finite number"),
        ("made-up.limit=nan", "write a finite number"),
        ("made-up.fast=yes", "write true or false"),
        ("made-up.method=other", "choose one of plain, hessian"),
        ("other.steps=7", "'other' is not among the optimizers in use"),
        ("made-up.steps=0", "give at least 1"),
    ],
)
def test_bad_settings_give_one_line(text, message):
    with pytest.raises(HotbenchError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_an_unknown_optimizer_lists_what_there_is():
    with pytest.raises(HotbenchError, match="no optimizer 'none'; known: made-up"):
        registry.optimizer_named("none")
