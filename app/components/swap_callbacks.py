"""The callbacks behind app.components.swap: a budget is tried on the captured run, and goes into the form."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, Patch, State, no_update
from dash.exceptions import PreventUpdate

from analyzer.errors import HotbenchError
from app import workbench
from app.components.swap import (
    ALLOW,
    BUDGET,
    CURVE,
    FOLDER,
    ROOM,
    SHOWN,
    SLIDER,
    simulated_panel,
    what_if_panel,
)
from app.views.loaded import Cache, derived
from app.views.swap import Simulated, SwapProof, WhatIf, simulate_budget, swap_proof, what_if
from app.web.context import context

_proofs = Cache(8)


def proof_of(experiment: str) -> SwapProof | None:
    """Return an experiment's swap, from memory where it was asked for before. Raises RecordError for a damaged one."""
    store = context().store
    entry = store.find(experiment, ("experiment",))

    def make() -> tuple[SwapProof | None]:
        candidate = workbench.read_proof(store, entry.id).candidate
        # In a tuple: "no swap" is an answer to keep too.
        return (swap_proof(entry.id, candidate) if candidate is not None else None,)

    found: tuple[SwapProof | None] = _proofs.get((str(store.folder(entry)), entry.digest), make)
    return found[0]


def step_of(run: str, allow: str, folder: str) -> WhatIf | str:
    """Return the run's step to plan for budgets, from memory where it was asked for before; or why it cannot be."""
    from optimizers.swap.optimizer import SwapOptions

    try:
        methods = SwapOptions(allow=allow).methods
    except HotbenchError as error:
        return str(error)
    key = f"budgets {','.join(methods)} {folder}"
    found: WhatIf | str = derived(context().store, run, key, lambda value: what_if(value, methods, folder))
    return found


def simulated_of(run: str, allow: str, folder: str, budget: str) -> tuple[WhatIf, Simulated | str] | str:
    """Return the step and what a budget gives on it, both simulated; or why the step cannot be simulated."""
    step = step_of(run, allow, folder)
    # Not kept: a plan takes milliseconds, and a slider's many budgets would push everything else out of memory.
    return step if isinstance(step, str) else (step, simulate_budget(step, budget))


def register(app: Dash) -> None:
    """Declare them on `app`."""

    @app.callback(
        Output(ROOM, "children"),
        Input("optimize-run", "data"),
        Input(ALLOW, "value"),
        Input(FOLDER, "value"),
        State(BUDGET, "value"),
    )
    def _room(run: str, allow: str | None, folder: str | None, budget: str | None) -> Any:
        step = step_of(run, allow or "", (folder or "").strip())
        # Where it cannot be simulated, the plan above or the form says why.
        return [] if isinstance(step, str) else what_if_panel(step, _percent(step, budget or ""))

    @app.callback(
        Output(BUDGET, "value"),
        Input(SLIDER, "value"),
        State(BUDGET, "value"),
        State("optimize-run", "data"),
        State(ALLOW, "value"),
        State(FOLDER, "value"),
        prevent_initial_call=True,
    )
    def _slid(chosen: float | None, budget: str | None, run: str, allow: str | None, folder: str | None) -> Any:
        step = step_of(run, allow or "", (folder or "").strip())
        # A budget that was written more exactly than the slider can show stays as it is.
        if chosen is None or isinstance(step, str) or _percent(step, budget or "") == round(chosen):
            return no_update
        return f"{chosen:g}%"

    @app.callback(
        Output(SHOWN, "children"),
        Output(CURVE, "figure"),
        Input(SLIDER, "id"),
        Input(BUDGET, "value"),
        State("optimize-run", "data"),
        State(ALLOW, "value"),
        State(FOLDER, "value"),
    )
    def _simulate(_there: str, budget: str | None, run: str, allow: str | None, folder: str | None) -> Any:
        found = simulated_of(run, allow or "", (folder or "").strip(), (budget or "").strip())
        if isinstance(found, str):
            raise PreventUpdate
        step, simulated = found
        return simulated_panel(step, simulated), _marked(simulated)


def _marked(simulated: Simulated | str) -> Patch:
    """Return the change of the curve: where the chosen budget stands, or nowhere."""
    patch = Patch()
    point = None if isinstance(simulated, str) else simulated.point
    patch["data"][1]["x"] = [] if point is None else [point.budget_bytes / 2**20]
    patch["data"][1]["y"] = [] if point is None else [point.step_seconds * 1e3]
    return patch


def _percent(step: WhatIf, budget: str) -> int:
    """Return a budget as a whole share of the step's peak, rounded up; all of it where it is none."""
    simulated = simulate_budget(step, budget)
    return 100 if isinstance(simulated, str) else -(-100 * simulated.budget_bytes // max(step.peak_bytes, 1))
