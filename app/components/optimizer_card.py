"""One optimizer on the Optimize page: its plan, its options, the button, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from app.components.ago import ago
from app.components.badge import badge, job_badge, origin_badge, verdict_badge
from app.components.command import command_line
from app.components.empty import note, problem
from app.components.experiment_acts import experiment_acts
from app.components.icons import icon
from app.components.jobs import job_progress
from app.components.links import link
from app.components.options_form import options_form
from app.components.role import allowed, needs_role
from app.components.term import explain
from app.components.verdict import verdict_panel
from app.units import duration, plural, quantity
from app.views.experiment_state import ExperimentState
from app.views.experiments import ProofView
from app.views.optimize import Attempt, OptionField, PlanView

TOGETHER = "(together)"
"""Stands in ids where a card is about several optimizers; no optimizer is called so."""


def part_id(part: str, optimizer: str) -> dict[str, str]:
    """Return the id of one part of an optimizer's card."""
    return {"part": f"optimize-{part}", "optimizer": optimizer}


def _part(part: str, optimizer: str, content: Any = None) -> html.Div:
    """Return a part that callbacks fill; while it is empty it takes no room."""
    return html.Div(content, id=part_id(part, optimizer), className="hb-live")


def optimizer_card(
    optimizer: str,
    about: str,
    fields: Sequence[OptionField],
    latest: Any,
    result: Any,
    signature: str,
    marked: bool,
    own: Sequence[Any] = (),
) -> dmc.Paper:
    """Return the card; its plan is filled in by a callback, since planning a large run takes a moment.

    own: what this optimizer alone shows, above its options.
    """
    heading = dmc.Group(
        [
            dmc.ThemeIcon(icon("optimize", 22), size=42, variant="light", color="indigo"),
            dmc.Stack(
                [
                    dmc.Title(optimizer.capitalize(), order=2, className="hb-section-title"),
                    dmc.Text(about, size="sm", c="dimmed"),
                ],
                gap=0,
                flex=1,
                miw=0,
            ),
        ],
        wrap="nowrap",
        align="flex-start",
    )
    children = [
        heading,
        dcc.Loading(html.Div(waiting(), id=part_id("plan", optimizer)), delay_show=300, type="dot"),
        _apply(optimizer),
        *needs_role("applying"),
        _part("refused", optimizer),
        _part("latest", optimizer, latest),
        _part("targets", optimizer),
        *own,
        _options(optimizer, fields),
        _part("command", optimizer),
        _part("result", optimizer, result),
        dcc.Store(id=part_id("signature", optimizer), data=signature),
    ]
    return dmc.Paper(
        dmc.Stack(children, gap="md"),
        p="lg",
        withBorder=True,
        className="hb-highlight" if marked else "",
        id=f"optimizer-{optimizer}",
    )


def together_card(names: Sequence[str], latest: Any, result: Any, signature: str) -> dmc.Paper:
    """Return the card that applies several optimizers to one model: each with the options of its own card."""
    words = "They apply one after the other in a fixed order, with a new capture between them, and are measured as one."
    children = [
        dmc.Title("Several together", order=2, className="hb-section-title"),
        dmc.MultiSelect(id="together-names", label="Optimizers", description=words, data=list(names), value=[]),
        dmc.Group(
            [
                dmc.Button(
                    "Apply together", id=part_id("apply-together", TOGETHER), variant="default", disabled=not allowed()
                )
            ]
        ),
        *needs_role("applying"),
        html.Div(id="together-command", className="hb-live"),
        _part("refused", TOGETHER),
        _part("latest", TOGETHER, latest),
        _part("result", TOGETHER, result),
        dcc.Store(id=part_id("signature", TOGETHER), data=signature),
    ]
    return dmc.Paper(dmc.Stack(children, gap="md"), p="lg", withBorder=True)


def waiting() -> dmc.Skeleton:
    """Return what stands where the plan will be."""
    return dmc.Skeleton(h=70, radius="md")


def _options(optimizer: str, fields: Sequence[OptionField]) -> dmc.Accordion:
    item = dmc.AccordionItem(
        [dmc.AccordionControl("Options"), dmc.AccordionPanel(options_form(optimizer, fields))], value="options"
    )
    return dmc.Accordion(item, variant="contained", order=3)


def _apply(optimizer: str) -> dmc.Group:
    button = dmc.Button(
        "Apply",
        id=part_id("apply", optimizer),
        leftSection=icon("play", 16),
        disabled=True,
        size="md",
    )
    words = (
        "Builds the optimized model in a process of its own and measures it against yours. Your files stay as they are."
    )
    return dmc.Group([button, dmc.Text(words, size="sm", c="dimmed", flex=1, miw=220)], gap="md")


def plan_panel(view: PlanView, answered: Sequence[Mapping[str, Any]]) -> dmc.Stack:
    """Return what the optimizer would do; `answered` are the run's findings that it answers, as {id, title}."""
    if view.refusal:
        return dmc.Stack([note(view.refusal, "It would not touch this run", icon="info"), *_findings(answered)])
    ops = sum(target.ops for target in view.taken)
    facts = [_gain(view), _number(f"{ops:,}", "ops", view.summary), *_time(view)]
    return dmc.Stack([dmc.Group(facts, align="flex-start", gap="xl"), *_findings(answered)], gap="md")


def _gain(view: PlanView) -> html.Div:
    estimate = view.estimate
    assert estimate is not None
    spread = f"{quantity(estimate.low, estimate.unit)} to {quantity(estimate.high, estimate.unit)}"
    what = "Speedup" if estimate.unit == "x" else "Gives back"
    return html.Div(
        [
            dmc.Group([html.Span(what, className="hb-line-label"), origin_badge(True)], gap="xs"),
            html.Div(quantity(estimate.mid, estimate.unit), className="hb-gain"),
            dmc.Box(explain(spread, f"Predicted from {estimate.basis}."), className="hb-subtitle"),
        ],
        className="hb-gain-box",
    )


def _number(value: str, label: str, text: str) -> html.Div:
    return html.Div(
        [
            html.Span("Would touch", className="hb-line-label"),
            html.Div(f"{value} {label}", className="hb-touch"),
            dmc.Text(text, size="sm", c="dimmed"),
        ]
    )


def _time(view: PlanView) -> list[html.Div]:
    """Return how long applying it is expected to take, where the plan predicts that."""
    estimate = view.compile_seconds
    if estimate is None:
        return []
    spread = f"{duration(estimate.low)} to {duration(estimate.high)}, before it is measured"
    return [
        html.Div(
            [
                dmc.Group([html.Span("Applying takes", className="hb-line-label"), origin_badge(True)], gap="xs"),
                html.Div(duration(estimate.mid), className="hb-touch"),
                dmc.Box(explain(spread, f"Predicted from {estimate.basis}."), className="hb-subtitle"),
            ],
            className="hb-gain-box",
        )
    ]


def _findings(answered: Sequence[Mapping[str, Any]]) -> list[Any]:
    if not answered:
        return []
    lines = [dmc.ListItem(link(item["title"], "/", run=item["run"], finding=item["id"])) for item in answered[:3]]
    more = [dmc.ListItem(f"and {len(answered) - 3} more on the Overview")] if len(answered) > 3 else []
    return [html.Div([html.Span("Answers", className="hb-line-label"), dmc.List([*lines, *more], size="sm")])]


def result_panel(
    attempts: Sequence[Attempt], proof: ProofView | None, state: ExperimentState | None, place: str = "optimize"
) -> list[Any]:
    """Return the newest proof in full, and the attempts before it in a list."""
    parts: list[Any] = []
    if proof is not None and state is not None:
        heading = dmc.Title("Measured result", order=3, className="hb-section-title")
        parts += [dmc.Divider(), heading, verdict_panel(proof, order=4), experiment_acts(state, place)]
    shown = state.experiment if state is not None else ""
    older = [item for item in attempts[1:] if item.experiment is None or item.experiment.id != shown]
    parts += _older(older)
    return [dmc.Stack(parts, gap="md")] if parts else []


def latest_panel(attempts: Sequence[Attempt]) -> list[Any]:
    """Return the latest request while it runs, and why nothing came of it; nothing where its proof is shown."""
    if not attempts:
        return []
    attempt = attempts[0]
    job = attempt.job
    if job is None or (job.state == "done" and not attempt.refusal):
        return []
    if job.live:
        return [job_progress(job, "optimize")]
    if attempt.refusal:
        return [note(attempt.refusal, "Refused: nothing was changed", icon="info")]
    if job.state == "failed":
        return [problem(job.error, title="The latest attempt failed: nothing was changed")]
    return [note(job.error, "The latest attempt was cancelled: nothing was changed", icon="stop")]


def _older(attempts: Sequence[Attempt]) -> list[Any]:
    if not attempts:
        return []
    lines = [dmc.ListItem(_attempt(attempt)) for attempt in attempts[:20]]
    title = f"Earlier: {plural(len(attempts), 'attempt')}"
    panel = dmc.AccordionPanel(dmc.List(lines, size="sm", spacing="xs", listStyleType="none"))
    item = dmc.AccordionItem([dmc.AccordionControl(title), panel], value="earlier")
    return [dmc.Accordion(item, variant="contained", order=3)]


def _attempt(attempt: Attempt) -> dmc.Group:
    settings = {} if attempt.job is None else attempt.job.arguments.get("settings") or {}
    chosen = ", ".join(f"{name}={value}" for name, value in settings.items()) or "default options"
    if attempt.job is None:
        chosen = "from the command line"
    words: list[Any] = [_word(attempt), ago(attempt.created), html.Span(chosen, className="hb-dim hb-break")]
    if attempt.experiment is not None:
        words.append(link("Details", "/experiments", experiment=attempt.experiment.id))
    elif attempt.job is not None:
        words.append(link("The job", "/jobs", job=attempt.job.id))
    return dmc.Group(words, gap="sm")


def _word(attempt: Attempt) -> Any:
    if attempt.experiment is not None:
        return verdict_badge(str(attempt.experiment.summary.get("verdict") or "measured"))
    if attempt.refusal:
        return badge("refused")
    return job_badge(attempt.job.state if attempt.job is not None else "done")


def plan_command(text: str) -> html.Div:
    """Return the command that does the same as the button."""
    return command_line(text)
