"""Options from text: `NAME.OPTION=VALUE` checked against the optimizer's own dataclass."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.errors import HotbenchError
from optimizers.plan import Options
from optimizers.registry import optimizer_named


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """Return {"NAME.OPTION": "VALUE"} of `NAME.OPTION=VALUE` texts. Raises HotbenchError for another form."""
    settings: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key.count(".") != 1 or not all(key.split(".")):
            raise HotbenchError(f"--set {text!r} is not NAME.OPTION=VALUE, such as fusion.min_gain=0.05")
        settings[key] = value
    return settings


def read_options(names: Sequence[str], settings: Mapping[str, str]) -> dict[str, Options]:
    """Return each named optimizer's options, defaults where `settings` is silent.

    Raises HotbenchError for an optimizer that is not requested, an unknown option or a value of the wrong type.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, text in settings.items():
        name, _, option = key.partition(".")
        if name not in given:
            raise HotbenchError(f"--set {key}={text}: {name!r} is not among the optimizers in use ({', '.join(names)})")
        kind = optimizer_named(name).options
        hints = typing.get_type_hints(kind)
        known = [field.name for field in dataclasses.fields(kind)]
        if option not in known:
            raise HotbenchError(f"--set {key}={text}: {name} has no option {option!r}; it has: {', '.join(known)}")
        given[name][option] = _read_value(key, text, hints[option])
    options = {}
    for name, values in given.items():
        try:
            options[name] = optimizer_named(name).options(**values)
        except ValueError as error:
            raise HotbenchError(f"--set for {name}: {error}") from error
        # After the options' own words, which say more.
        for option, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise HotbenchError(f"--set {name}.{option}={value}: write a finite number")
    return options


def _read_value(key: str, text: str, kind: Any) -> Any:
    """Return `text` as a value of `kind`: bool, int, float, str, a Literal, or one of these or None."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [argument for argument in typing.get_args(kind) if argument is not type(None)]
        return None if text.lower() == "none" else _read_value(key, text, inner[0])
    if origin is typing.Literal:
        choices = [str(choice) for choice in typing.get_args(kind)]
        if text not in choices:
            raise HotbenchError(f"--set {key}={text}: choose one of {', '.join(choices)}")
        return typing.get_args(kind)[choices.index(text)]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise HotbenchError(f"--set {key}={text}: write true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise HotbenchError(f"--set {key}={text}: write {_article(kind.__name__)}") from error


def _article(name: str) -> str:
    return {"int": "a whole number", "float": "a number", "str": "a text"}.get(name, f"a {name}")
