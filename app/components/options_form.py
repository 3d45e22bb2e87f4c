"""A form derived from an optimizer's options: what the dataclass says is all that it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc

from analyzer.errors import HotbenchError
from app.views.optimize import OptionField, option_error, read_max_error, settings_of

MAX_ERROR_FIELD = "--max-error"
"""Of the request, not of an optimizer: no option is called so."""

PART, SWITCH = "optimize-option", "optimize-switch"


@dataclass(frozen=True, slots=True)
class Form:
    """What a person filled in, as text: the settings that differ from the defaults, and the error allowed."""

    optimizer: str
    settings: Mapping[str, str]
    max_error: str = ""


def option_id(optimizer: str, option: str, part: str = PART) -> dict[str, str]:
    """Return the id of one option's input."""
    return {"part": part, "optimizer": optimizer, "option": option}


def read_form(optimizer: str, fields: Sequence[OptionField], values: Mapping[str, object]) -> Form:
    """Return the form of `values` by option."""
    return Form(optimizer, settings_of(optimizer, fields, values), str(values.get(MAX_ERROR_FIELD) or "").strip())


def form_errors(form: Form) -> dict[str, str]:
    """Return what is wrong by option, in words; "" is what is wrong with the options together."""
    errors = {}
    for key in form.settings:
        error = option_error(form.optimizer, form.settings, key)
        if error:
            errors[key.partition(".")[2]] = error
    try:
        read_max_error(form.max_error)
    except HotbenchError as error:
        errors[MAX_ERROR_FIELD] = str(error)
    together = "" if errors else option_error(form.optimizer, form.settings)
    return {**errors, "": together} if together else errors


def options_form(optimizer: str, fields: Sequence[OptionField]) -> dmc.SimpleGrid:
    """Return an input for each option, and one for the error that the verdict allows.

    Numbers are written as text, so that 1e-5 stays 1e-5 and what is wrong is said in words, not swallowed.
    """
    allowed = dmc.TextInput(
        id=option_id(optimizer, MAX_ERROR_FIELD),
        label="Largest relative error allowed",
        description="of the outputs, by the verdict; empty: by their dtype, 1e-5 for float32",
        placeholder="by dtype",
        value="",
        debounce=400,
        inputProps={"inputMode": "decimal"},
    )
    inputs = [_input(optimizer, item) for item in fields]
    return dmc.SimpleGrid([*inputs, allowed], cols={"base": 1, "sm": 2}, spacing="md")


def _input(optimizer: str, item: OptionField) -> Any:
    about: dict[str, Any] = {"id": option_id(optimizer, item.name), "label": item.label}
    described = {**about, "description": item.help}
    if item.kind == "switch":
        switch = option_id(optimizer, item.name, SWITCH)
        return dmc.Switch(**{**described, "id": switch}, checked=item.default == "true")
    if item.kind == "choice":
        return dmc.Select(**described, data=list(item.choices), value=item.default or None, clearable=item.optional)
    mode = {"number": "decimal", "whole number": "numeric"}.get(item.kind, "text")
    empty = "default" if item.optional else ""
    return dmc.TextInput(
        **described, value=item.default, placeholder=empty, debounce=400, inputProps={"inputMode": mode}
    )
