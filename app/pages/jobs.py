"""All jobs: what runs, what waits, how each one ended, and the log of the chosen one as it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, MATCH, Dash, Input, Output, State, dcc, html, no_update

from app.components.ago import ago
from app.components.attributes import attributes
from app.components.badge import job_badge
from app.components.card import page_heading, section
from app.components.client import client
from app.components.command import command_line
from app.components.empty import empty
from app.components.icons import icon
from app.components.jobs import duration, job_progress, live_jobs, place_of
from app.components.links import href, link_button
from app.components.role import allowed, needs_role
from app.jobs.job import Job, JobEvent
from app.units import moment
from app.views.jobs import KIND_WORDS, command_of
from app.web.access import require
from app.web.context import context

PATH = "/jobs"
TITLE = "Jobs"
ICON = "jobs"
NEEDS_RUN = False
SHOWN_JOBS = 100
_NOTHING = "none"
_NO_LOG = "Nothing was said so far."


def layout(query: Mapping[str, str]) -> Any:
    """Return the lists of jobs, and one job above them when the address names it."""
    chosen = context().jobs.get(query["job"]) if query.get("job") else None
    about = "One at a time on each machine: what runs beside a measurement changes it."
    return dmc.Stack(
        [
            page_heading("Jobs", about),
            *([job_detail(chosen)] if chosen else []),
            html.Div(job_lists(chosen.id if chosen else ""), id=_of("jobs-lists", chosen.id if chosen else _NOTHING)),
        ]
    )


def job_lists(chosen: str) -> Any:
    """Return the cards of the live jobs and the table of the ended ones."""
    jobs = context().jobs
    live, ended = live_jobs(), jobs.list(live=False, limit=SHOWN_JOBS)
    if not live and not ended:
        text = "A job is a capture, an optimization, a comparison or an export. Start one from the runs page."
        return empty("No job yet", text, link_button("To the runs", "/runs", icon="runs", primary=True), icon="jobs")
    parts: list[Any] = []
    waiting = [job for job in live if job.id != chosen]
    if waiting:
        parts += [] if chosen else needs_role("cancelling a job")
        parts.append(section("Running and waiting", *[job_progress(job, "list") for job in waiting]))
    if ended:
        limit = f"The latest {SHOWN_JOBS}." if len(ended) == SHOWN_JOBS else None
        parts.append(section("Ended", _table(ended, chosen), text=limit))
    return dmc.Stack(parts)


def job_detail(job: Job) -> dmc.Paper:
    """Return one job with its command, where and for whom it was done, and its log."""
    again = dmc.Button(
        "Run again", id=_of("job-again", job.id), variant="default", size="compact-md", leftSection=icon("redo", 16),
        disabled=not allowed(),
    )  # fmt: skip
    facts = [
        ("Kind", KIND_WORDS.get(job.kind, job.kind)),
        ("Asked for", f"{moment(job.created)}, by {job.user}"),
        ("Done on", place_of(job)),
        ("Job", job.id),
    ]
    command = command_of(job)
    cancel = [command_line(f"hotbench jobs --cancel {job.id}", "Cancel it from the command line")] if job.live else []
    return section(
        html.Span(job.title, className="hb-break"),
        job_progress(job, "detail", heading=False),
        dmc.SimpleGrid([_fact(*fact) for fact in facts], cols={"base": 2, "md": 4}, spacing="sm"),
        *needs_role("cancelling a job or running it again"),
        *([command_line(command)] if command else []),
        *cancel,
        dmc.Stack(
            [
                dmc.Title(["Log ", html.Span("(times in UTC)", className="hb-job-facts")], order=3, size="h5"),
                log_box(job.id, log_of(job.id)),
            ],
            gap=6,
        ),
        right=dmc.Group(
            [html.Div(again, id=_of("job-again-box", job.id), hidden=job.live), _close()], gap="xs", wrap="nowrap"
        ),
    )


def log_of(id: str) -> tuple[JobEvent, ...]:
    """Return the lines of a job's log."""
    return context().jobs.events(job=id, kinds=("log",))


def log_box(id: str, lines: Sequence[JobEvent]) -> html.Div:
    """Return the log; assets/joblog.js appends what comes."""
    last = lines[-1].id if lines else 0
    shown = [[line.created, line.text] for line in lines]
    return html.Div(
        [
            dcc.Store(id=_of("job-log", id), data={"job": id, "last": last, "lines": shown}),
            html.Pre(
                _log_lines(lines), id=_of("job-log-lines", id), className="hb-log", tabIndex=0,
                **attributes(aria_label="Log of the job", role="log"),
            ),
        ]
    )  # fmt: skip


def register(app: Dash) -> None:
    """Declare the lists that follow the jobs, the log that grows, and the act of running again."""

    # An answer that was on its way when another job was chosen must not land in that one's place: hence MATCH.
    @app.callback(
        Output(_of("jobs-lists", MATCH), "children"),
        Input("jobs-changed", "data"),
        State(_of("jobs-lists", MATCH), "id"),
        prevent_initial_call=True,
    )
    def _follow(_changed: object, id: Mapping[str, str]) -> Any:
        return job_lists("" if id["job"] == _NOTHING else id["job"])

    @app.callback(
        Output(_of("job-again-box", MATCH), "hidden"),
        Input("jobs-changed", "data"),
        State(_of("job-again-box", MATCH), "id"),
        prevent_initial_call=True,
    )
    def _offer_again(_changed: object, id: Mapping[str, str]) -> bool:
        return context().jobs.get(id["job"]).live

    client(
        app,
        "growLog",
        Output(_of("job-log", MATCH), "data"),
        Output(_of("job-log-lines", MATCH), "children"),
        Input("job-events", "data"),
        State(_of("job-log", MATCH), "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("address", "href", allow_duplicate=True),
        Input(_of("job-again", ALL), "n_clicks"),
        State(_of("job-again", ALL), "id"),
        prevent_initial_call=True,
    )
    def _again(clicks: Sequence[int | None], ids: Sequence[Mapping[str, str]]) -> Any:
        return href("/jobs", job=run_again(ids[0]["job"]).id) if any(clicks) else no_update


def run_again(id: str) -> Job:
    """Return a new job that does what an ended one did. Raises Forbidden for who may not."""
    who = require("editor")
    jobs = context().jobs
    job = jobs.get(id)
    return jobs.submit(job.kind, job.arguments, title=job.title, user=who.name, needs=job.needs, about=job.about)


def _table(jobs: Sequence[Job], chosen: str) -> dmc.TableScrollContainer:
    names = ("State", "Job", "Where", "Who", "When", "Took")
    head = dmc.TableThead(dmc.TableTr([dmc.TableTh(name) for name in names]))
    body = dmc.TableTbody([_row(job, job.id == chosen) for job in jobs])
    table = dmc.Table([head, body], verticalSpacing="xs", className="hb-job-table")
    return dmc.TableScrollContainer(table, minWidth=720, type="native")


def _row(job: Job, chosen: bool) -> dmc.TableTr:
    title = dmc.Anchor(job.title, href=href("/jobs", job=job.id), size="sm", fw=600)
    cells = [job_badge(job.state), title, place_of(job), job.user, ago(job.created), duration(job)]
    return dmc.TableTr(
        [dmc.TableTd(cell) for cell in cells], className="hb-job-row", **{"data-chosen": "true" if chosen else "false"}
    )


def _of(part: str, job: Any) -> dict[str, Any]:
    return {"type": part, "job": job}


def _fact(name: str, value: str) -> html.Div:
    return html.Div([dmc.Text(name, size="xs", c="dimmed"), dmc.Text(value, size="sm", className="hb-break")])


def _close() -> dmc.Anchor:
    return dmc.Anchor(
        icon("close", 18), href="/jobs", className="hb-job-close", underline="never", **{"aria-label": "Close this job"}
    )


def _log_lines(lines: Sequence[JobEvent]) -> Any:
    if not lines:
        return html.Span(_NO_LOG, className="hb-log-empty")
    return [
        html.Div([html.Span(line.created[11:19], className="hb-log-time"), line.text], className="hb-log-line")
        for line in lines
    ]
