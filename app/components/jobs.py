"""A job on a page, as it happens: its card, the header's button with the drawer of all jobs, and the act of cancelling.

`job_progress(job)` may stand anywhere, several times: assets/events.js keeps every card of a job true.
"""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import MATCH, Dash, Input, Output, State, dcc, html, no_update

from app.components.attributes import attributes
from app.components.badge import JOB_COLOURS
from app.components.client import client
from app.components.icons import icon
from app.components.links import href
from app.components.role import allowed, needs_role
from app.jobs.job import LOCAL, Job
from app.store.workers import Workers
from app.units import MISSING
from app.views.jobs import duration_words, elapsed_seconds, place_needed, place_words, result_link, stage_words, told
from app.web.access import person, require
from app.web.context import context

DRAWER_JOBS = 12
_HIDDEN, _SHOWN = {"display": "none"}, {"display": "block"}


def job_progress(job: Job, where: str = "page", heading: bool = True) -> html.Div:
    """Return a live card: what it does, how far it is, for how long; Cancel while it runs, then error or result.

    where: tells cards of one job on one page apart; `heading` False leaves title and border to what is around it.
    """
    top = [dmc.Group([_title(job), _state(job, where)], justify="space-between", gap="xs", wrap="nowrap")]
    stage = dmc.Group([*([] if heading else [_state(job, where)]), _stage(job, where)], gap="xs", wrap="nowrap", miw=0)
    return html.Div(
        [
            *(top if heading else []),
            dmc.Group(
                [stage, _percent(job, where)],
                justify="space-between",
                gap="xs",
                wrap="nowrap",
                className="hb-job-stages",
            ),
            html.Div(_bar(job, where), id=_id("bar-box", job, where), style=_SHOWN if job.live else _HIDDEN),
            html.Div(
                "" if job.live else job.error,
                id=_id("error", job, where),
                className="hb-job-error",
                style=_SHOWN if job.error and not job.live else _HIDDEN,
                **attributes(data_state=job.state),
            ),
            _foot(job, where),
        ],
        className="hb-job hb-job-card" if heading else "hb-job",
    )


def live_jobs() -> list[Job]:
    """Return the live jobs as they will be done: what runs, then what waits, the oldest first."""
    return sorted(context().jobs.list(live=True), key=lambda job: (job.state != "running", job.created))


def elapsed(job: Job) -> html.Span:
    """Return how long the job has run; assets/events.js counts on."""
    seconds = elapsed_seconds(job)
    return html.Span(
        className="hb-elapsed",
        title="time since it began",
        **attributes(data_job=job.id, data_state=job.state, data_seconds="" if seconds is None else f"{seconds:.1f}"),
    )


def header_button() -> html.Div:
    """Return the header's button with the number of live jobs, and the drawer that it opens."""
    jobs = context().jobs
    version = jobs.last_event()
    live = jobs.list(live=True)
    button = dmc.ActionIcon(
        icon("jobs"), variant="default", size="lg", id="jobs-button",
        **{"aria-label": f"Jobs: {len(live) or 'none'} running", "aria-haspopup": "dialog"},
    )  # fmt: skip
    count = dmc.Indicator(
        button, label=str(len(live)), disabled=not live, size=18, color="indigo.8", offset=4, id="jobs-count"
    )
    feed = {"version": version, "person": person().name, "jobs": {job.id: told(job) for job in live}}
    lost = html.Div(
        [icon("warning", 16), "Connection lost: trying again. What you see may be old."],
        id="connection-lost", className="hb-lost", hidden=True, role="status",
    )  # fmt: skip
    return html.Div([dcc.Store(id="job-feed", data=feed), count, jobs_drawer(), lost])


def jobs_drawer() -> dmc.Drawer:
    """Return the drawer, empty until it is opened."""
    return dmc.Drawer(
        html.Div(id="jobs-drawer-list"),
        id="jobs-drawer",
        title="Jobs",
        position="right",
        size="min(440px, 100vw)",
        closeButtonProps={"aria-label": "Close the jobs"},
    )


def drawer_list() -> Any:
    """Return the drawer's content: live jobs first, then the latest ended ones."""
    live = live_jobs()
    ended = context().jobs.list(live=False, limit=max(DRAWER_JOBS - len(live), 3))
    if not live and not ended:
        return dmc.Text("Nothing was asked for yet. Captures and optimizations show up here as they run.", size="sm")
    cards = [job_progress(job, "drawer") for job in (*live, *ended)]
    return dmc.Stack(
        [
            *(needs_role("cancelling a job") if live else []),
            *cards,
            dmc.Anchor("All jobs", href="/jobs", size="sm", fw=600),
        ],
        gap="sm",
    )


def register(app: Dash) -> None:
    """Declare the stream of events, the cards, the drawer and the act of cancelling."""
    client(app, "connectJobs", Input("job-feed", "data"))
    client(
        app,
        "countJobs",
        Output("jobs-count", "label"),
        Output("jobs-count", "disabled"),
        Output("jobs-button", "aria-label"),
        Input("job-events", "data"),
        Input("job-feed", "data"),
    )
    client(
        app,
        "showJob",
        # In the order in which assets/events.js returns them.
        Output(_match("state"), "children"),
        Output(_match("state"), "color"),
        Output(_match("stage"), "children"),
        Output(_match("percent"), "children"),
        Output(_match("bar"), "value"),
        Output(_match("bar-box"), "style"),
        Output(_match("error"), "children"),
        Output(_match("error"), "style"),
        Output(_match("error"), "data-state"),
        Output(_match("link"), "children"),
        Output(_match("cancel"), "style"),
        Input("job-events", "data"),
        State(_match("state"), "id"),
    )

    @app.callback(Output("jobs-drawer", "opened"), Input("jobs-button", "n_clicks"), prevent_initial_call=True)
    def _open(_clicks: int) -> bool:
        return True

    @app.callback(
        Output("jobs-drawer-list", "children"),
        Input("jobs-drawer", "opened"),
        Input("jobs-changed", "data"),
        prevent_initial_call=True,
    )
    def _fill(opened: bool, _changed: object) -> Any:
        return drawer_list() if opened else no_update

    @app.callback(
        Output(_match("cancel"), "disabled"),
        Input(_match("cancel"), "n_clicks"),
        State(_match("cancel"), "id"),
        prevent_initial_call=True,
    )
    def _cancel(clicks: int | None, id: dict[str, str]) -> Any:
        if not clicks:
            return no_update
        context().jobs.cancel(id["job"], require("editor").name)
        return True


def _id(part: str, job: Job, where: str) -> dict[str, str]:
    return {"type": f"job-{part}", "job": job.id, "where": where}


def _match(part: str) -> dict[str, Any]:
    return {"type": f"job-{part}", "job": MATCH, "where": MATCH}


def _title(job: Job) -> dmc.Anchor:
    return dmc.Anchor(
        job.title, href=href("/jobs", job=job.id), fw=600, c="var(--mantine-color-text)", className="hb-job-title"
    )


def _state(job: Job, where: str) -> dmc.Badge:
    return dmc.Badge(
        job.state,
        color=JOB_COLOURS.get(job.state, "gray"),
        variant="light",
        radius="sm",
        tt="none",
        className="hb-badge",
        id=_id("state", job, where),
    )


def _stage(job: Job, where: str) -> html.Span:
    return html.Span(stage_words(job), id=_id("stage", job, where), className="hb-job-stage")


def _percent(job: Job, where: str) -> html.Span:
    text = f"{100 * job.fraction:.0f} %" if job.state == "running" else ""
    return html.Span(text, id=_id("percent", job, where), className="hb-job-percent")


def _bar(job: Job, where: str) -> dmc.Progress:
    return dmc.Progress(
        value=round(100 * job.fraction),
        color="indigo",
        size="md",
        animated=True,
        transitionDuration=200,
        id=_id("bar", job, where),
        **{"aria-label": f"Progress of {job.title}"},
    )


def _foot(job: Job, where: str) -> dmc.Group:
    link = result_link(job)
    cancel = dmc.Button(
        "Cancel", variant="default", size="compact-sm", leftSection=icon("stop", 14), id=_id("cancel", job, where),
        disabled=not allowed(),
        style={"display": "inline-flex" if job.live and not job.cancel else "none"},
        **{"aria-label": f"Cancel {job.title}"},
    )  # fmt: skip
    facts = html.Span([elapsed(job), html.Span(place_of(job)), html.Span(f"for {job.user}")], className="hb-job-facts")
    shown = dmc.Anchor(link.text, href=link.href, size="sm", fw=600) if link else None
    return dmc.Group([facts, html.Span(shown, id=_id("link", job, where)), cancel], gap="sm", justify="space-between")


def place_of(job: Job) -> str:
    """Return in words where the job is, was or will be done."""
    if LOCAL in (job.place, place_needed(job)):
        return place_words(job, {})
    return place_words(job, {worker.id: worker.name for worker in Workers(context().store.database).list()})


def duration(job: Job) -> str:
    """Return how long an ended job ran, in words."""
    seconds = elapsed_seconds(job)
    return MISSING if seconds is None else duration_words(seconds)
