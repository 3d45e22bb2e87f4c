"""What the Optimize page reads from the store, and the act of asking for an optimization."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.run import Run
from app import workbench
from app.components.experiment_callbacks import needs_of_run
from app.components.optimizer_card import TOGETHER, result_panel
from app.components.options_form import Form, form_errors, read_form
from app.views.experiment_state import experiment_state
from app.views.experiments import proof_view
from app.views.loaded import derived, run_entry
from app.views.optimize import (
    Attempt,
    PlanView,
    answered,
    attempts,
    command,
    of_names,
    option_fields,
    plan_view,
    read_max_error,
)
from app.web.access import require
from app.web.context import context

_MOST_JOBS = 200


def attempts_of(run: str) -> tuple[Attempt, ...]:
    """Return every request for the run that the store knows of."""
    shared = context()
    return attempts(run, shared.store.entries(), shared.jobs.list(about=run, limit=_MOST_JOBS))


def result(own: Sequence[Attempt]) -> Any:
    """Return what became of one optimizer's requests: the newest proof in full."""
    shared = context()
    made = next((item.experiment for item in own if item.experiment is not None), None)
    if made is None:
        return result_panel(own, None, None)
    proof = workbench.read_proof(shared.store, made.id)
    state = experiment_state(shared.store, shared.jobs, made.id)
    return result_panel(own, proof_view(proof.experiment, proof.candidate), state)


def planned(run: str, form: Form) -> tuple[PlanView, list[dict[str, str]]]:
    """Return the plan for these options, and the findings that it answers, from memory where they were asked before."""

    def make(value: Run) -> tuple[PlanView, list[dict[str, str]]]:
        from optimizers.pipeline import propose

        proposal = propose(value, [form.optimizer], form.settings)
        view = plan_view(proposal.plans[0] if proposal.plans else proposal.refusals[0], value)
        findings = {item.id: item.title for item in proposal.diagnosis.findings}
        ids = answered(proposal.diagnosis, form.optimizer)
        return view, [{"id": id, "title": findings[id], "run": value.id} for id in ids]

    key = f"plan {form.optimizer} {json.dumps(dict(form.settings), sort_keys=True)}"
    view, findings = derived(context().store, run, key, make)
    return view, findings


def apply(run: str, *forms: Form) -> None:
    """Ask for one optimizer, or several together, as the person of this request.

    Raises Forbidden for a viewer, HotbenchError where options are wrong or no place can do it.
    """
    who = require("editor")
    names = sorted(form.optimizer for form in forms)
    if not names:
        raise HotbenchError("no optimizer is chosen; choose those to apply together")
    wrong = next((error for form in forms for error in form_errors(form).values()), "")
    if wrong:
        raise HotbenchError(wrong)
    shared = context()
    entry = run_entry(shared.store, run)
    running = [job for job in shared.jobs.list(live=True, about=entry.id) if job.kind == "optimize"]
    if any(sorted(job.arguments.get("optimizers", ())) == names for job in running):
        raise HotbenchError(f"{' + '.join(names)} is being applied to this run already; wait for it or cancel it")
    settings, max_error = _merged(forms)
    shared.jobs.submit(
        "optimize",
        {
            "run": entry.id,
            "optimizers": names,
            "settings": settings,
            "max_error": max_error,
        },
        title=f"{' + '.join(names).capitalize()} of {entry.name}",
        user=who.name,
        needs=needs_of_run(entry.id),
        about=entry.id,
    )


def command_of(run: str, *forms: Form) -> str:
    """Return the command that does the same as `apply`."""
    settings, max_error = _merged(forms)
    return command(run, sorted(form.optimizer for form in forms), settings, max_error)


def _merged(forms: Sequence[Form]) -> tuple[dict[str, str], float | None]:
    # Of several errors that were allowed, the strictest holds for the whole.
    allowed = [error for form in forms if (error := read_max_error(form.max_error)) is not None]
    return {key: value for form in forms for key, value in form.settings.items()}, min(allowed, default=None)


def of_card(everything: Sequence[Attempt], card: str) -> tuple[Attempt, ...]:
    """Return the attempts that a card shows: an optimizer's own, or those of several together."""
    if card == TOGETHER:
        return tuple(attempt for attempt in everything if len(attempt.names) > 1)
    return of_names(everything, [card])


def form_of(optimizer: str, texts: Any, names: Any, checks: Any, switched: Any) -> Form:
    """Return the form of one optimizer from its inputs' values and ids; other optimizers' inputs are left out."""
    from optimizers.registry import optimizer_named

    pairs = [*zip(names, texts, strict=True), *zip(switched, checks, strict=True)]
    values: Mapping[str, Any] = {name["option"]: value for name, value in pairs if name["optimizer"] == optimizer}
    return read_form(optimizer, option_fields(optimizer_named(optimizer).options), values)
