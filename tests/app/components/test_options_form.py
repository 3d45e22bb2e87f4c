"""The form of an optimizer's options: one labelled input for each, values as text."""

from app.components.options_form import MAX_ERROR_FIELD, form_errors, options_form, read_form
from app.views.optimize import option_fields
from optimizers.registry import OPTIMIZERS
from tests.app.views.test_optimize import Everything


def inputs(tree):
    return [item for item in tree._traverse() if getattr(item, "id", None)]


def test_every_option_of_every_optimizer_has_a_labelled_input():
    for optimizer in OPTIMIZERS:
        fields = option_fields(optimizer.options)
        shown = inputs(options_form(optimizer.name, fields))
        assert [item.id["option"] for item in shown] == [*(item.name for item in fields), MAX_ERROR_FIELD]
        assert all(item.label for item in shown)


def test_each_kind_of_field_has_its_input():
    kinds = [type(item).__name__ for item in inputs(options_form("any", option_fields(Everything)))]
    assert kinds == ["TextInput", "TextInput", "Select", "Switch", "TextInput", "TextInput"]


def test_errors_are_told_by_field_and_all_at_once():
    fields = option_fields(OPTIMIZERS[0].options)
    form = read_form("fusion", fields, {"min_gain": "x", "max_error": "y", MAX_ERROR_FIELD: "z"})
    assert set(form_errors(form)) == {"min_gain", "max_error", MAX_ERROR_FIELD}


def test_an_untouched_form_has_neither_settings_nor_errors():
    fields = option_fields(OPTIMIZERS[0].options)
    form = read_form("fusion", fields, {item.name: item.default for item in fields})
    assert form.settings == {} and form.max_error == "" and form_errors(form) == {}
