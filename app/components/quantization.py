"""Compression on the page: the layers of an experiment, how sensitive each is, and bits to choose for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components.badge import badge, origin_badge
from app.components.card import section
from app.components.empty import note
from app.components.facts import facts
from app.components.figure import figure
from app.components.grid import grid
from app.components.options_form import option_id
from app.components.table import table
from app.figures.quantization import forms_key, front, sensitivity, weight_histogram
from app.units import MISSING, digits, mebibytes, percent, plural, ratio
from app.views.quantization import AUTO, NAME, BitsRow, QuantizationProof

if TYPE_CHECKING:
    from optimizers.quantization.views import FormView, LayerView

GRID, DETAIL, SHOWN = "quantization-layers", "quantization-layer", "quantization-of"
ROOM, EDITOR = "quantization-bits", "quantization-editor"
LAYERS = option_id(NAME, "layers")
BITS = (AUTO, "32", "16", "8", "4", "3", "2", "1", "prune", "low-rank")
_HEAD, _ROW, _MOST_HEIGHT = 58, 38, 400
MOST_ROWS = 5000


def quantization_section(proof: QuantizationProof) -> dmc.Paper:
    """Return the card of an experiment whose candidate has compressed layers."""
    about = (
        "Every layer was tried in every form by itself, on the model's own inputs; then mixes were measured as a whole "
        "until one passed the gate with a margin. Choose a layer to see its forms and its weights."
    )
    rows = layer_rows(proof)
    picked = next((row["id"] for row in rows if row["form"] != "float"), rows[0]["id"] if rows else "")
    return section(
        "Compression",
        facts(_totals(proof)),
        _titled("Accuracy, size and speed of the mixes measured", _front(proof)),
        _titled("How sensitive each layer is", _key(proof), _sensitivity(proof)),
        _titled("Layers", _grid(rows, picked)),
        html.Div(id=DETAIL, className="hb-live"),
        dcc.Store(id=SHOWN, data={"experiment": proof.experiment}),
        text=about,
        right=origin_badge(False),
        id=f"section-{NAME}",
    )


def _totals(proof: QuantizationProof) -> list[tuple[Any, Any, Any]]:
    view = proof.view
    chosen = next((point for point in view.points if point.chosen), None)
    taken = [layer for layer in view.layers if layer.chosen != "float"]
    counts: dict[str, int] = {}
    for layer in taken:
        counts[layer.chosen] = counts.get(layer.chosen, 0) + 1
    rows: list[tuple[Any, Any, Any]] = [
        ("Layers compressed", f"{len(taken):,}", f"of {len(view.layers):,}; {_counted(counts)}"),
    ]
    coding = " in Huffman codes" if proof.decisions.get("coding") == "huffman" else ""
    if chosen is not None:
        share = percent(chosen.bytes / view.bytes_before) if view.bytes_before else MISSING
        before = f"{share} of {mebibytes(view.bytes_before)}; the layers that were considered"
        rows += [
            ("Weights as stored", mebibytes(chosen.bytes) + coding, before),
            ("Cosine, while searching", f"{chosen.cosine:.5f}", _over(proof)),
            ("Agreement, while searching", percent(chosen.agreement, 2), _over(proof)),
            ("Step, while searching", f"{ratio(chosen.speedup)} as quick", "the verdict above measured it again"),
        ]
    return rows


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _over(proof: QuantizationProof) -> str:
    return f"over {plural(proof.view.answers, 'answer')}"


def _titled(title: str, *content: Any) -> html.Div:
    return html.Div([dmc.Title(title, order=3, className="hb-small-title"), *content], className="hb-titled")


def _front(proof: QuantizationProof) -> Any:
    view = proof.view
    if not view.points:
        return note("No mix of forms was measured as a whole.")
    drawn = front(view.points, view.bytes_before, view.gate.get("min_cosine"))
    passing = sum(not point.reason for point in view.points)
    words = f"Mixes measured: {len(view.points):,}; {passing:,} of them pass the gate."
    about = "Hollow: the gate refuses it. Diamond: chosen. Beside each, how much quicker the step became."
    shown = figure(drawn, "quantization-front", "Accuracy over size of the mixes measured", text=words)
    return html.Div([shown, dmc.Text(about, size="sm", c="dimmed")])


def _key(proof: QuantizationProof) -> dmc.Group:
    signs = [
        html.Span([html.Span(style={**_DOT, "background": colour}), name], style=_SIGNED)
        for name, colour in forms_key(proof.view.layers)
    ]
    return dmc.Group([*signs, html.Span("large: chosen", style=_SIGNED)], gap="sm", className="hb-subtitle")


_SIGNED = {"display": "inline-flex", "alignItems": "center", "gap": "6px", "fontSize": "13px"}
_DOT = {"width": "10px", "height": "10px", "borderRadius": "50%"}


def _sensitivity(proof: QuantizationProof) -> Any:
    layers = proof.view.layers
    lost = [(1 - form.cosine, layer.name) for layer in layers for form in layer.forms if not form.refusal]
    worst = max(lost, default=(0.0, ""))
    words = f"The largest loss of one layer alone is {digits(max(worst[0], 0.0))}, of {worst[1] or 'none'}."
    return figure(sensitivity(layers), "quantization-sensitivity", "Loss of each layer in each form", text=words)


def layer_rows(proof: QuantizationProof) -> list[dict[str, Any]]:
    """Return a row for each layer, in the units of the grid's headings; None where nothing is known."""
    return [_layer_row(layer) for layer in proof.view.layers[:MOST_ROWS]]


def _layer_row(layer: LayerView) -> dict[str, Any]:
    form = next((item for item in layer.forms if item.name == layer.chosen), None)
    compressed = form is not None and form.name != "float"
    return {
        "id": layer.name or "(model)",
        "name": layer.name or "the model",
        "kind": layer.kind,
        "shape": _shapes(layer.shapes),
        "form": layer.chosen,
        "bits": form.bits if form is not None else 32,
        "before": layer.bytes / 2**10,
        "after": form.bytes / 2**10 if form is not None else layer.bytes / 2**10,
        "error": form.error if form is not None and compressed else None,
        "loss": max(0.0, 1 - form.cosine) if form is not None and compressed else None,
        "seconds_before": form.seconds_float * 1e6 if form is not None else None,
        "seconds": form.seconds * 1e6 if form is not None and compressed else None,
        "why": layer.refusal or (f"shares the weights of {layer.tied}" if layer.tied else ""),
    }


def _shapes(shapes: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"{rows:,} × {columns:,}" for rows, columns in shapes[:2])
    return shown + (f" and {len(shapes) - 2} more" if len(shapes) > 2 else "")


_NUMBER = {"function": "params.value == null ? '–' : d3.format(',.3~r')(params.value)"}
_SMALL = {"function": "params.value == null ? '–' : params.value == 0 ? '0' : d3.format('.2~e')(params.value)"}


def _number(field: str, heading: str, width: int, about: str, small: bool = False) -> dict[str, Any]:
    shown = {"type": "rightAligned", "valueFormatter": _SMALL if small else _NUMBER, "headerTooltip": about}
    return {"field": field, "headerName": heading, "width": width, **shown}


def _text(field: str, heading: str, width: int, **more: Any) -> dict[str, Any]:
    return {"field": field, "headerName": heading, "width": width, "tooltipField": field, **more}


def _grid(rows: Sequence[Mapping[str, Any]], picked: str) -> Any:
    columns = [
        _text("name", "Layer", 230, filter="agTextColumnFilter"),
        _text("kind", "Kind", 110),
        _text("form", "Form", 120),
        _number("bits", "Bits", 74, "Of a stored weight"),
        _number("before", "Before, KiB", 112, "Bytes of its weights in float32"),
        _number("after", "After, KiB", 106, "Bytes of its weights as stored"),
        _number("error", "Error", 92, "|compressed - weights| / |weights|", small=True),
        _number("loss", "1 − cosine", 106, "Of the model's answers, this layer alone compressed", small=True),
        _number("seconds_before", "Before, µs", 108, "One call of the layer as it was, on a real step's inputs"),
        _number("seconds", "After, µs", 102, "One call of the layer as it is now, timed alternately"),
        _text("shape", "Shape", 140),
        _text("why", "Why it stays", 260),
    ]
    return grid(
        GRID,
        columns,
        "Layers with the form that each was given",
        rows=rows,
        options={"rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True}},
        height=_height(len(rows)),
        selectedRows={"ids": [picked]} if picked else None,
    )


def _height(rows: int) -> str:
    return f"{min(_MOST_HEIGHT, _HEAD + _ROW * max(rows, 1))}px"


def layer_detail(layer: LayerView) -> dmc.Stack:
    """Return everything that is known of one layer: its forms, each measured alone, and its weights."""
    head = dmc.Group(
        [
            dmc.Title(layer.name or "the model", order=3, className="hb-section-title hb-break"),
            badge(layer.chosen, "teal" if layer.chosen != "float" else "gray"),
        ],
        gap="xs",
    )
    parts: list[Any] = [dmc.Divider(), head, dmc.Text(f"{layer.kind}, {_shapes(layer.shapes)}", size="sm", c="dimmed")]
    if layer.refusal:
        parts.append(note(f"{layer.refusal[:1].upper()}{layer.refusal[1:]}.", "It stays as it is"))
    if layer.forms:
        rows = [_form_row(form, layer) for form in layer.forms]
        columns = ("Form", "Stored", "Error", "1 − cosine", "Agreement", "Time, µs", "Against float", "Outcome")
        parts.append(table(f"Forms of {layer.name}", columns, rows, numeric=columns[1:7]))
    for histogram in layer.histograms:
        words = f"{sum(histogram.counts):,} weights from {digits(histogram.low)} to {digits(histogram.high)}"
        count = len(histogram.centroids)
        words += f"; {count} centroids, with the range of four fifths of the codebooks" if count else ""
        shown = figure(
            weight_histogram(histogram),
            {"part": "quantization-weights", "parameter": histogram.parameter},
            f"Weights of {histogram.parameter}",
            text=words,
        )
        title = dmc.Title(histogram.parameter, order=4, className="hb-small-title hb-break")
        parts.append(html.Div([title, shown, dmc.Text(f"{words}.", size="sm", c="dimmed")]))
    return dmc.Stack(parts, gap="sm")


def _form_row(form: FormView, layer: LayerView) -> list[Any]:
    if form.refusal:
        return [form.name, *[MISSING] * 6, html.Div(form.refusal, className="hb-why")]
    outcome = html.Div(badge("chosen", "teal") if form.name == layer.chosen else MISSING, className="hb-outcome")
    gain = ratio(form.seconds_float / form.seconds) if form.seconds else MISSING
    loss = max(0.0, 1 - form.cosine)
    time = digits(form.seconds * 1e6) if form.seconds else MISSING
    agreement = percent(form.agreement, 2)
    return [form.name, mebibytes(form.bytes), digits(form.error), digits(loss), agreement, time, gain, outcome]


def editor_room() -> html.Div:
    """Return the place in the optimizer's card where bits can be chosen; a callback fills it."""
    return html.Div(id=ROOM, className="hb-live")


def editor_panel(rows: Sequence[BitsRow], known: bool) -> list[Any]:
    """Return the grid in which the bits of each layer can be chosen. known: whether an experiment measured losses."""
    losses = (
        "Found last and 1 − cosine are of the newest experiment of this run: the form that it gave the layer, and what "
        "the answers lose with this layer alone at these bits."
        if known
        else "After the first Apply, what each layer loses at its bits stands here as well."
    )
    about = (
        "auto is found by measurement, under the gate. Choose bits for a layer by a click on them (or Enter): 32 "
        f"leaves it as it is, 16 is bfloat16, 8 is int8, fewer are codebooks; prune makes the smallest weights zero, "
        f"low-rank two thin matrices (how far: the options of that name). Nothing runs before Apply. {losses}"
    )
    columns = [
        _text("name", "Layer", 250, filter="agTextColumnFilter"),
        _text("kind", "Kind", 110),
        _text("shape", "Shape", 140),
        {
            "field": "bits",
            "headerName": "Bits",
            "width": 112,
            "editable": {"function": "!params.data.why"},
            "cellEditor": "agSelectCellEditor",
            "cellEditorParams": {"values": list(BITS)},
            "singleClickEdit": True,
            "headerTooltip": "Click, or Enter, to choose",
            "cellClass": "hb-editable",
        },
        _number("before", "Now, KiB", 104, "Bytes of its weights"),
        _number("after", "Predicted, KiB", 140, "Bytes as stored at these bits; of auto, of the smallest form tried"),
        _text("found", "Found last", 116),
        _number("loss", "1 − cosine", 110, "Measured by the newest experiment, this layer alone", small=True),
        _text("why", "Why it stays", 240),
    ]
    heading = dmc.Title("Bits of each layer", order=3, className="hb-section-title")
    shown = grid(EDITOR, columns, "Layers with the bits to be tried", rows=editor_rows(rows), height=_height(len(rows)))
    return [dmc.Stack([heading, dmc.Text(about, size="sm", c="dimmed"), shown], gap="xs")]


def editor_rows(rows: Sequence[BitsRow]) -> list[dict[str, Any]]:
    """Return the rows of the editor's grid, in the units of its headings."""
    return [
        {
            "id": row.name or "(model)",
            "name": row.name or "the model",
            "kind": row.kind,
            "shape": _shapes(row.shapes),
            "bits": row.bits,
            "before": row.bytes / 2**10,
            "after": row.bytes_after / 2**10,
            "found": row.found,
            "loss": row.loss,
            "why": row.refusal,
        }
        for row in rows[:MOST_ROWS]
    ]
