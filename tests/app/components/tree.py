"""Reading component trees without a browser."""

import re
from itertools import pairwise

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component


def every(tree):
    """Yield all components of a tree, also those in other properties than children."""
    if isinstance(tree, list | tuple):
        for item in tree:
            yield from every(item)
    elif isinstance(tree, Component):
        yield tree
        for name in tree._prop_names:
            yield from every(getattr(tree, name, None))


def texts(tree):
    """Return all text that a tree shows, in order, with single blanks."""
    return " ".join(" ".join(_strings(tree)).split())


def _strings(tree):
    if isinstance(tree, str | int | float):
        yield str(tree)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _strings(item)
    elif isinstance(tree, Component):
        for name in ("label", "title", "icon", "children"):
            if name != "title" or isinstance(tree, dmc.Alert | dmc.Modal):
                yield from _strings(getattr(tree, name, None))


def by_id(tree, id):
    """Return the one component with that id."""
    (found,) = (item for item in every(tree) if getattr(item, "id", None) == id)
    return found


def ids(tree):
    """Return the ids of a tree that are text."""
    return {item.id for item in every(tree) if isinstance(getattr(item, "id", None), str)}


def addresses(tree):
    """Return where a tree's links lead."""
    return [item.href for item in every(tree) if getattr(item, "href", None)]


def levels(tree):
    """Return the levels of a tree's headings, in order."""
    found = []
    for item in every(tree):
        if isinstance(item, dmc.Title):
            found.append(item.order)
        elif match := re.fullmatch(r"H([1-6])", type(item).__name__):
            found.append(int(match[1]))
    return found


def check_headings(tree):
    """Assert that there is one h1, first, and that no level is left out."""
    found = levels(tree)
    assert found[0] == 1 and found.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(found)), found


def check_labels(tree):
    """Assert that every field has a label, and every link and plain button a text or a name."""
    for item in every(tree):
        kind = type(item).__name__
        if kind in ("Select", "TextInput", "NumberInput", "TagsInput", "MultiSelect", "Textarea"):
            assert getattr(item, "label", None) or "aria-label" in item.to_plotly_json()["props"], item
        if isinstance(item, html.Button | dmc.Button | dmc.Anchor | dmc.ActionIcon):
            assert texts(item.children) or "aria-label" in item.to_plotly_json()["props"], item
