"""A report's values as components: the same sections, facts, tables and figures as its HTML, in the page's own look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import html

from app.components.attributes import attributes
from app.components.badge import badge, origin_badge
from app.components.card import section as card_section
from app.components.command import command_line
from app.components.empty import note
from app.components.facts import facts as fact_list
from app.components.figure import figure
from app.components.links import link
from app.components.term import explain
from app.reports.document import MEASURED, PREDICTED, Document, Fact, Item, Section, Table

PATH = "/reports"
MOST_ROWS = 40
LONGEST_DETAIL = 110


def document(value: Document, figures: Mapping[str, go.Figure], report: str = "") -> list[Any]:
    """Return a card for each section, and the terms. Headings begin at level 2.

    report: the id of a published report: its findings then lead to a remark on them.
    """
    cards = [_section(item, figures, value.id, report) for item in value.sections]
    columns = [dmc.GridCol(card, span=_span(item)) for item, card in zip(value.sections, cards, strict=True)]
    return [dmc.Grid(columns, gutter="md", align="stretch"), _terms(value)]


def _span(item: Section) -> dict[str, int]:
    return {"base": 12, "lg": 12 if item.wide else 6}


def _section(item: Section, figures: Mapping[str, go.Figure], id: str, report: str) -> dmc.Paper:
    origins = {fact.origin for fact in item.facts}
    alone = MEASURED in origins and PREDICTED not in origins
    content: list[Any] = []
    content += [_item(entry, report) for entry in item.items]
    content += [
        figure(figures[name], {"part": "report-figure", "report": id, "figure": name}, f"{item.title}: {_words(name)}")
        for name in item.figures
        if name in figures
    ]
    content += [document_facts(item.facts, mixed=PREDICTED in origins)] if item.facts else []
    content += [_table(table) for table in item.tables]
    content += [note(dmc.List([dmc.ListItem(text) for text in item.notes], size="sm"))] if item.notes else []
    content += [dmc.Stack([command_line(text) for text in item.commands], gap=6)] if item.commands else []
    right = origin_badge(False) if alone else None
    return card_section(item.title, *content, text=item.text or None, right=right, id=f"section-{item.id}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def document_facts(values: Sequence[Fact], mixed: bool = False) -> html.Div:
    """Return facts as a list; with `mixed` each says whether it was measured or predicted.

    What comes with a long explanation stands in a line of its own, below.
    """
    short = [fact for fact in values if len(fact.detail) <= LONGEST_DETAIL]
    rows = fact_list([(_label(fact, mixed), _value(fact), fact.detail) for fact in short])
    long = [_long(fact, mixed) for fact in values if len(fact.detail) > LONGEST_DETAIL]
    return html.Div([rows, *long])


def _long(fact: Fact, mixed: bool) -> html.Div:
    head = dmc.Group([html.Span(_label(fact, mixed), className="hb-line-label"), html.Strong(_value(fact))], gap="xs")
    return html.Div([head, html.Div(fact.detail, className="hb-subtitle")], className="hb-long-fact")


def _label(fact: Fact, mixed: bool) -> Any:
    if not mixed or not fact.origin:
        return fact.label
    return dmc.Group([html.Span(fact.label), origin_badge(fact.origin == PREDICTED)], gap=6)


def _value(fact: Fact) -> Any:
    return html.Span(fact.value, className="hb-predicted") if fact.origin == PREDICTED else fact.value


def _item(item: Item, report: str) -> html.Div:
    predicted = [fact for fact in item.facts if fact.origin == PREDICTED]
    head = dmc.Group([dmc.Title(item.title, order=3, className="hb-small-title hb-break"), *_tag(item)], gap="xs")
    parts: list[Any] = [head, dmc.Text(item.text, size="sm", c="dimmed")]
    parts += [document_facts(predicted, mixed=True)] if predicted else []
    if item.evidence:
        head = dmc.Group([html.Span("Evidence", className="hb-line-label"), origin_badge(False)], gap="xs")
        parts += [head, document_facts(item.evidence)]
    if item.id and report:
        parts.append(link("Remark on this finding", PATH, report=report, anchor=f"finding:{item.id}"))
    return html.Div(dmc.Stack(parts, gap="xs"), className="hb-item")


def _tag(item: Item) -> list[Any]:
    return [badge(item.tag)] if item.tag else []


def _table(table: Table) -> html.Div:
    head = html.Tr([html.Th(column, scope="col", className=_align(table, column)) for column in table.columns])
    rows = [_row(table, row, index) for index, row in enumerate(table.rows[:MOST_ROWS])]
    more = len(table.rows) - len(rows)
    caption = table.caption + (f" (the first {len(rows)} of {len(table.rows):,})" if more > 0 else "")
    content = html.Table([html.Caption(caption, className="hb-hidden"), html.Thead(head), html.Tbody(rows)])
    scroll = html.Div(content, className="hb-report-table", tabIndex=0, role="region", **attributes(aria_label=caption))
    return html.Div([html.Div(caption, className="hb-small-title", **attributes(aria_hidden="true")), scroll])


def _row(table: Table, row: Sequence[str], index: int) -> html.Tr:
    depth = table.depths[index] if table.depths else 0
    first = html.Th(row[0], scope="row", style={"paddingLeft": f"{8 + 14 * depth}px"})
    rest = [html.Td(cell, className=_align(table, name)) for cell, name in zip(row[1:], table.columns[1:], strict=True)]
    return html.Tr([first, *rest])


def _align(table: Table, column: str) -> str:
    return "hb-number" if column in table.numeric else ""


def _terms(value: Document) -> dmc.Group:
    words = [explain(name, meaning) for name, meaning in value.terms]
    return dmc.Group([html.Span("Terms:", className="hb-line-label"), *words], gap="md")
