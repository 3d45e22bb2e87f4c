"""Small tables: rows of components, scrolling inside where the window is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from app.components.attributes import attributes


def table(
    label: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[str] = (), **settings: Any
) -> html.Div:
    """Return a table named `label`; the first cell of a row names it, `numeric` columns are aligned right."""
    head = html.Tr([html.Th(name, scope="col", className=_align(name, numeric)) for name in columns])
    body = [_row(row, columns, numeric) for row in rows]
    content = html.Table([html.Caption(label, className="hb-hidden"), html.Thead(head), html.Tbody(body)])
    return html.Div(
        content, className="hb-report-table", tabIndex=0, role="region", **attributes(aria_label=label), **settings
    )


def _row(row: Sequence[Any], columns: Sequence[str], numeric: Sequence[str]) -> html.Tr:
    cells = [html.Td(cell, className=_align(name, numeric)) for cell, name in zip(row[1:], columns[1:], strict=True)]
    return html.Tr([html.Th(row[0], scope="row"), *cells])


def _align(name: str, numeric: Sequence[str]) -> str:
    return "hb-number" if name in numeric else ""
