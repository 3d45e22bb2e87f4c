"""What would make the run's model faster or smaller, and what it gave: plan, apply, proof, undo, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, MATCH, Dash, Input, Output, State, ctx, dcc, no_update
from dash.exceptions import PreventUpdate

from analyzer.errors import HotbenchError
from app.components import (
    largest_batch_callbacks,
    placement,
    placement_callbacks,
    quantization,
    quantization_callbacks,
    swap_callbacks,
)
from app.components.card import page_heading
from app.components.empty import empty, note, problem
from app.components.links import link, link_button
from app.components.optimize_state import apply, attempts_of, command_of, form_of, of_card, planned, result
from app.components.optimizer_card import (
    TOGETHER,
    latest_panel,
    optimizer_card,
    part_id,
    plan_command,
    plan_panel,
    together_card,
)
from app.components.options_form import PART, SWITCH, form_errors
from app.components.role import allowed
from app.components.swap import what_if_room
from app.components.targets import targets_panel
from app.views import placement as placement_view
from app.views import quantization as quantization_view
from app.views.loaded import loaded_diagnosis, run_entry
from app.views.optimize import (
    option_fields,
    signature,
)
from app.views.swap import NAME
from app.web.context import context

# The optimizers with their compiler are imported where they are used: the server starts without torch.

PATH = "/optimize"
TITLE = "Optimize"
ICON = "optimize"
NEEDS_RUN = True


def layout(query: Mapping[str, str]) -> Any:
    """Return a card for each optimizer; the one that answers the finding in the address is marked."""
    if "run" not in query:
        about = "Capture a workload first: optimizers work on a run."
        return empty("No run yet", about, link_button("To the runs", "/runs", primary=True), order=1)
    from optimizers.registry import OPTIMIZERS

    store = context().store
    entry = run_entry(store, query["run"])
    findings = loaded_diagnosis(store, entry.id).findings
    wanted = next((item for item in findings if item.id == query.get("finding")), None)
    everything = attempts_of(entry.id)
    cards = []
    for optimizer in OPTIMIZERS:
        own = of_card(everything, optimizer.name)
        about = (type(optimizer).__doc__ or "").strip().splitlines()[0]
        marked = wanted is not None and wanted.optimizer == optimizer.name
        fields = option_fields(optimizer.options)
        made = latest_panel(own), result(own), signature(own)
        tried = _TRIED.get(optimizer.name)
        own_parts = [tried()] if tried is not None else []
        cards.append(optimizer_card(optimizer.name, about, fields, *made, marked, own_parts))
    if len(OPTIMIZERS) > 1:
        own = of_card(everything, TOGETHER)
        names = [optimizer.name for optimizer in OPTIMIZERS]
        cards.append(together_card(names, latest_panel(own), result(own), signature(own)))
    return dmc.Stack(
        [
            page_heading("Optimize", [link(entry.name, "/", run=entry.id), _RULE]),
            *([] if wanted is None else [_from_finding(wanted.title, wanted.optimizer)]),
            *cards,
            dcc.Store(id="optimize-run", data=entry.id),
        ],
        gap="md",
    )


_TRIED = {
    NAME: what_if_room,
    quantization_view.NAME: quantization.editor_room,
    placement_view.NAME: placement.what_if_room,
}
"""By optimizer, what its card alone has: the place where something can be tried before it is applied."""
_RULE = ". Nothing changes until you apply it; each change is measured before it is kept, and each can be undone."


def _from_finding(title: str, optimizer: str) -> Any:
    words = f"{optimizer.capitalize()} answers it." if optimizer else "No optimizer answers it yet."
    return note(f"{title}. {words}", "You came from this finding", colour="violet")


def register(app: Dash) -> None:
    """Declare the plan, the button and the refresh."""
    swap_callbacks.register(app)
    largest_batch_callbacks.register(app)
    placement_callbacks.register(app)
    quantization_callbacks.register(app)
    values = {"part": PART, "optimizer": MATCH, "option": ALL}
    switches = {"part": SWITCH, "optimizer": MATCH, "option": ALL}

    @app.callback(
        Output(_match("plan"), "children"),
        Output(_match("targets"), "children"),
        Output(_match("command"), "children"),
        Output(_match("apply"), "disabled"),
        Output(values, "error"),
        Input(values, "value"),
        Input(switches, "checked"),
        State(values, "id"),
        State(switches, "id"),
        State("optimize-run", "data"),
        State(_match("plan"), "id"),
    )
    def _plan(texts: Any, checks: Any, names: Any, switched: Any, run: str, id: Mapping[str, str]) -> Any:
        form = form_of(id["optimizer"], texts, names, checks, switched)
        errors = form_errors(form)
        shown = [errors.get(name["option"], "") for name in names]
        if errors:
            whole = [problem(errors[""], title="These options do not go together")] if "" in errors else no_update
            return whole, no_update, no_update, True, shown
        view, findings = planned(run, form)
        same = plan_command(command_of(run, form))
        refused = bool(view.refusal) or not allowed()
        return plan_panel(view, findings), targets_panel(view), same, refused, shown

    @app.callback(
        Output(_match("latest"), "children"),
        Output(_match("result"), "children"),
        Output(_match("signature"), "data"),
        Output(_match("refused"), "children"),
        Input(_match("apply"), "n_clicks"),
        State(values, "value"),
        State(switches, "checked"),
        State(values, "id"),
        State(switches, "id"),
        State("optimize-run", "data"),
        prevent_initial_call=True,
    )
    def _apply(clicks: int | None, texts: Any, checks: Any, names: Any, switched: Any, run: str) -> Any:
        if not clicks or not isinstance(ctx.triggered_id, Mapping):
            raise PreventUpdate
        form = form_of(str(ctx.triggered_id["optimizer"]), texts, names, checks, switched)
        try:
            apply(run, form)
        except HotbenchError as error:
            return no_update, no_update, no_update, problem(str(error), title="It was not started")
        own = of_card(attempts_of(run), form.optimizer)
        return latest_panel(own), result(own), signature(own), None

    texts, checks = {"part": PART, "optimizer": ALL, "option": ALL}, {"part": SWITCH, "optimizer": ALL, "option": ALL}

    @app.callback(
        Output(part_id("latest", TOGETHER), "children", allow_duplicate=True),
        Output(part_id("result", TOGETHER), "children", allow_duplicate=True),
        Output(part_id("signature", TOGETHER), "data", allow_duplicate=True),
        Output(part_id("refused", TOGETHER), "children", allow_duplicate=True),
        Input(part_id("apply-together", TOGETHER), "n_clicks"),
        State("together-names", "value"),
        State(texts, "value"),
        State(checks, "checked"),
        State(texts, "id"),
        State(checks, "id"),
        State("optimize-run", "data"),
        prevent_initial_call=True,
    )
    def _together(clicks: int | None, chosen: Any, texts: Any, checks: Any, names: Any, switched: Any, run: str) -> Any:
        if not clicks:
            raise PreventUpdate
        try:
            apply(run, *(form_of(name, texts, names, checks, switched) for name in chosen or ()))
        except HotbenchError as error:
            return no_update, no_update, no_update, problem(str(error), title="It was not started")
        own = of_card(attempts_of(run), TOGETHER)
        return latest_panel(own), result(own), signature(own), None

    @app.callback(
        Output("together-command", "children"),
        Input("together-names", "value"),
        Input(texts, "value"),
        Input(checks, "checked"),
        State(texts, "id"),
        State(checks, "id"),
        State("optimize-run", "data"),
    )
    def _together_command(chosen: Any, texts: Any, checks: Any, names: Any, switched: Any, run: str) -> Any:
        forms = [form_of(name, texts, names, checks, switched) for name in chosen or ()]
        if not forms or any(form_errors(form) for form in forms):
            return None
        return plan_command(command_of(run, *forms))

    every = {"optimizer": ALL}

    @app.callback(
        Output({"part": "optimize-latest", **every}, "children", allow_duplicate=True),
        Output({"part": "optimize-result", **every}, "children", allow_duplicate=True),
        Output({"part": "optimize-signature", **every}, "data", allow_duplicate=True),
        Input("jobs-changed", "data"),
        State({"part": "optimize-signature", **every}, "id"),
        State({"part": "optimize-signature", **every}, "data"),
        State("optimize-run", "data"),
        prevent_initial_call=True,
    )
    def _refresh(_changed: Any, ids: Sequence[Mapping[str, str]], known: Sequence[str], run: str) -> Any:
        everything = attempts_of(run)
        latest: list[Any] = []
        results: list[Any] = []
        signatures: list[Any] = []
        for id, before in zip(ids, known, strict=True):
            own = of_card(everything, id["optimizer"])
            changed = signature(own) != before
            latest.append(latest_panel(own) if changed else no_update)
            results.append(result(own) if changed else no_update)
            signatures.append(signature(own) if changed else no_update)
        return latest, results, signatures


def _match(part: str) -> dict[str, Any]:
    return {"part": f"optimize-{part}", "optimizer": MATCH}
