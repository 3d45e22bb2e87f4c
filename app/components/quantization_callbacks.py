"""The callbacks behind app.components.quantization: a layer is chosen, and bits that are edited go into the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from dash import ALL, Dash, Input, Output, State, no_update
from dash.exceptions import PreventUpdate

from analyzer.errors import HotbenchError
from app import workbench
from app.components.optimize_state import form_of
from app.components.optimizer_card import part_id
from app.components.options_form import PART, SWITCH
from app.components.quantization import (
    DETAIL,
    EDITOR,
    GRID,
    LAYERS,
    ROOM,
    SHOWN,
    editor_panel,
    editor_rows,
    layer_detail,
)
from app.views.loaded import Cache, loaded_run
from app.views.quantization import (
    AUTO,
    NAME,
    BitsRow,
    QuantizationProof,
    bits_rows,
    layers_option,
    newest_view,
    quantization_proof,
)
from app.web.context import context

MOST_CANDIDATES = 5
"""So many of a run's newest candidates are looked at for measured losses."""
_proofs = Cache(8)


def proof_of(experiment: str) -> QuantizationProof | None:
    """Return an experiment's compression, from memory where it was asked for before. Raises RecordError if damaged."""
    store = context().store
    entry = store.find(experiment, ("experiment",))

    def make() -> tuple[QuantizationProof | None]:
        candidate = workbench.read_proof(store, entry.id).candidate
        # In a tuple: "not compressed" is an answer to keep too.
        return (quantization_proof(entry.id, candidate) if candidate is not None else None,)

    found: tuple[QuantizationProof | None] = _proofs.get((str(store.folder(entry)), entry.digest), make)
    return found[0]


def rows_of(run: str, settings: Mapping[str, str]) -> tuple[list[BitsRow] | str, bool]:
    """Return the layers of a run with their bits (or why there are none), and whether losses are known."""
    store = context().store
    value = loaded_run(store, run)
    measured = _newest(value.id)
    return bits_rows(value, settings, measured), measured is not None


def _newest(run: str) -> Any:
    from optimizers.candidate import load_candidate

    store = context().store
    entries = sorted(store.entries("candidate"), key=lambda entry: entry.created, reverse=True)
    own = [entry for entry in entries if entry.parent == run and NAME in entry.summary.get("optimizers", ())]
    found = []
    for folder, digest in [(store.folder(entry), entry.digest) for entry in own[:MOST_CANDIDATES]]:
        # A damaged candidate is told where its experiment is shown.
        with suppress(HotbenchError):
            found.append(_proofs.get((str(folder), digest), partial(load_candidate, folder)))
    return newest_view(found)


def edited(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the option "layers" of the editor's rows; layers that cannot be chosen for are left out."""
    return layers_option(
        [(str(row.get("name", "")), str(row.get("bits") or AUTO)) for row in rows if not row.get("why")]
    )


def register(app: Dash) -> None:
    """Declare them on `app`."""
    values = {"part": PART, "optimizer": NAME, "option": ALL}
    switches = {"part": SWITCH, "optimizer": NAME, "option": ALL}

    @app.callback(
        Output(ROOM, "children"),
        Input("optimize-run", "data"),
        Input(part_id("signature", NAME), "data"),
        State(values, "value"),
        State(switches, "checked"),
        State(values, "id"),
        State(switches, "id"),
    )
    def _room(run: str, _changed: Any, texts: Any, checks: Any, names: Any, switched: Any) -> Any:
        found, known = rows_of(run, form_of(NAME, texts, names, checks, switched).settings)
        # Where there is nothing to choose for, the plan above or the form says why.
        return [] if isinstance(found, str) else editor_panel(found, known)

    @app.callback(
        Output(EDITOR, "rowData"),
        Input(values, "value"),
        State(switches, "checked"),
        State(values, "id"),
        State(switches, "id"),
        State("optimize-run", "data"),
        prevent_initial_call=True,
    )
    def _follow(texts: Any, checks: Any, names: Any, switched: Any, run: str) -> Any:
        found, _ = rows_of(run, form_of(NAME, texts, names, checks, switched).settings)
        return no_update if isinstance(found, str) else editor_rows(found)

    @app.callback(
        Output(LAYERS, "value"),
        Input(EDITOR, "cellValueChanged"),
        State(EDITOR, "rowData"),
        prevent_initial_call=True,
    )
    def _edit(changed: Any, rows: Sequence[Mapping[str, Any]] | None) -> Any:
        if not changed or not rows:
            raise PreventUpdate
        return edited(rows)


def register_experiment(app: Dash) -> None:
    """Declare what the page of an experiment needs on `app`."""

    @app.callback(Output(DETAIL, "children"), Input(GRID, "selectedRows"), State(SHOWN, "data"))
    def _chosen(rows: Any, shown: Mapping[str, str] | None) -> Any:
        name = _chosen_name(rows)
        proof = proof_of(shown["experiment"]) if shown and name is not None else None
        layer = proof.layer(name) if proof is not None and name is not None else None
        if layer is None:
            raise PreventUpdate
        return layer_detail(layer)


def _chosen_name(rows: Any) -> str | None:
    """Return the chosen layer's name: the grid gives rows, and at first the ids that it was made with."""
    found: Any = None
    if isinstance(rows, Mapping):
        found = next(iter(rows.get("ids") or ()), None)
    elif isinstance(rows, list) and rows and isinstance(rows[0], Mapping):
        found = rows[0].get("id")
    return None if found is None else "" if found == "(model)" else str(found)
