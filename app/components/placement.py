"""Several workers on the page: an experiment's step for each backend, and other worlds, simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import html

from app.components.badge import badge, origin_badge
from app.components.card import section
from app.components.empty import note
from app.components.facts import facts
from app.components.figure import figure
from app.components.options_form import option_id
from app.components.table import table
from app.figures.placement import scale_lines, split_bars, step_course
from app.units import MISSING, mebibytes, milliseconds, percent, plural, printable
from app.views.placement import NAME, THIS_MACHINE, WORLDS, PlacementProof

if TYPE_CHECKING:
    from optimizers.placement.views import BackendView, PlacementView

ROOM, WORLD_CHOICE, CLUSTER_CHOICE, SHOWN = (
    "placement-what-if",
    "placement-worlds",
    "placement-clusters",
    "placement-shown",
)
WORLD, CLUSTER, BUCKET, FORM = (option_id(NAME, name) for name in ("world_size", "cluster", "bucket_megabytes", "form"))
_MOST_OTHERS = 6
_MOST_BUCKETS = 200


def placement_section(proof: PlacementProof) -> dmc.Paper:
    """Return the card of an experiment whose candidate trains on several workers."""
    view = proof.view
    about = (
        "Every backend trained the same model with as many workers on this machine, in turns. Compute is what the "
        "workers do, what it loses to messages beside it included; exposed communication is what the step waits for; "
        "hidden communication runs beside compute. Hatched bars and the lower figures are simulated."
    )
    return section(
        f"A step of {view.world_size} workers",
        facts(_proof_facts(proof)),
        figure(split_bars(view.backends), "placement-split", "Step time of each backend, predicted and measured",
               text=_split_words(view)),
        _backend_table(view, measured=True),
        *_reasons(view),
        *_elsewhere(view),
        *_course(view, "placement-course"),
        *_scale(view, "placement-scale"),
        html.Div([html.Span(_bucket_title(view), className="hb-small-title"), _buckets(view)], className="hb-titled"),
        *_dynamic(view),
        text=about,
        right=dmc.Group([origin_badge(False), simulated_badge()], gap=6),
        id="section-placement",
    )  # fmt: skip


def simulated_badge() -> dmc.Badge:
    """Return what stands beside every figure that a simulator gave."""
    return badge("simulated", "violet")


def _proof_facts(proof: PlacementProof) -> list[tuple[Any, Any, Any]]:
    view = proof.view
    ours = view.backend("hotbench")
    measured = ours.measured if ours is not None else None
    predicted = ours.predicted if ours is not None else None
    rows: list[tuple[Any, Any, Any]] = [
        ("Workers", f"{view.world_size:,}", printable(view.cluster)),
        ("Step, measured", milliseconds(measured.step.median if measured else None),
         f"predicted {milliseconds(predicted.step.mid if predicted else None)}"),
        ("Exposed communication, measured", milliseconds(measured.exposed.median if measured else None),
         f"predicted {milliseconds(predicted.exposed_seconds if predicted else None)}"),
        ("Hidden communication, measured", milliseconds(measured.hidden.median if measured else None),
         f"predicted {milliseconds(predicted.hidden_seconds if predicted else None)}"),
        ("Transport", printable(measured.transport) if measured else MISSING, "what the messages went through"),
        ("Registered memory", mebibytes(view.buckets.arena_bytes), "of one worker, for its buckets"),
    ]  # fmt: skip
    return rows


def _split_words(view: PlacementView) -> str:
    words = []
    for item in view.backends:
        if item.predicted is not None:
            words.append(f"{item.title}: {milliseconds(item.predicted.step.mid)} predicted")
        if item.measured is not None:
            words.append(f"{item.title}: {milliseconds(item.measured.step.median)} measured")
    return "; ".join(words) + "."


def _backend_table(view: PlacementView, measured: bool) -> Any:
    heads = ["Backend", "Step, predicted", "Low to high", "Compute", "Exposed", "Hidden", "Busiest"]
    if measured:
        # As wide as a card allows: what is busiest stands where nothing was measured.
        heads[1:] = ["Step, measured", "Exposed, measured", "Hidden, measured", *heads[1:-1]]
    rows = [_backend_row(item, measured)[: len(heads)] for item in view.backends]
    return table("Each backend", tuple(heads), rows, numeric=tuple(head for head in heads if head not in _WORDS))


_WORDS = ("Backend", "Busiest")


def _backend_row(item: BackendView, measured: bool) -> list[Any]:
    found = item.predicted
    cells: list[Any] = [item.title]
    if measured:
        split = item.measured
        cells += [
            milliseconds(split.step.median if split else None),
            milliseconds(split.exposed.median if split else None),
            milliseconds(split.hidden.median if split else None),
        ]
    if found is None:
        return [*cells, *[MISSING] * 6]
    busiest = max(found.busy.items(), key=lambda pair: pair[1], default=("", 0.0))
    return [
        *cells,
        milliseconds(found.step.mid),
        f"{milliseconds(found.step.low)} to {milliseconds(found.step.high)}",
        milliseconds(found.compute_seconds),
        milliseconds(found.exposed_seconds),
        milliseconds(found.hidden_seconds),
        f"{printable(busiest[0].rpartition(': ')[2])}, {percent(busiest[1], 0)}" if busiest[1] else MISSING,
    ]


def _elsewhere(view: PlacementView) -> list[Any]:
    if view.cluster == THIS_MACHINE:
        return []
    words = f"Nothing ran on {printable(view.cluster)}: all that is measured here is of this machine."
    return [note(words, "Predicted for one cluster, measured on another")]


def _reasons(view: PlacementView) -> list[Any]:
    return [note(printable(item.reason), f"{item.title} was not measured") for item in view.backends if item.reason]


def _course(view: PlacementView, id: str) -> list[Any]:
    if not view.spans:
        return []
    exchanges = sum(span.kind == "exchange" for span in view.spans)
    end = max(span.end_seconds for span in view.spans)
    words = f"{plural(exchanges, 'exchange')} in a step of {milliseconds(end)}, simulated."
    drawn = figure(step_course(view.spans), id, "Course of a step with our backend, simulated", text=words)
    return [_titled("Course of a step with our backend", drawn)]


def _scale(view: PlacementView, id: str) -> list[Any]:
    titles = {item.name: item.title for item in view.backends}
    most = max((point.world_size for curve in view.curves for point in curve.points), default=0)
    words = f"Simulated up to {most:,} workers, each with a batch like the run's."
    drawn = figure(
        scale_lines(view.curves, titles, view.world_size),
        id,
        "Simulated step time over the number of workers",
        text=words,
    )
    about = (
        "Each worker has a batch like the run's, so that a flat line is perfect. Costs of links and software alone; "
        "a cluster that is too small is grown by hosts like its last."
    )
    return [_titled("How it would scale", dmc.Text(about, size="sm", c="dimmed"), drawn)]


def _titled(title: str, *parts: Any) -> html.Div:
    head = dmc.Group([html.Span(title, className="hb-small-title"), simulated_badge()], gap="xs")
    return html.Div([head, *parts], className="hb-titled")


def _bucket_title(view: PlacementView) -> str:
    buckets = view.buckets
    total = mebibytes(buckets.gradient_bytes)
    more = f"; the first {_MOST_BUCKETS} are listed" if len(buckets.buckets) > _MOST_BUCKETS else ""
    return f"{plural(len(buckets.buckets), 'bucket')} of gradients, {total}, in the order in which they are sent{more}"


def _buckets(view: PlacementView) -> Any:
    rows = [
        [
            f"{bucket.index}",
            f"{len(bucket.parameters):,}",
            mebibytes(bucket.bytes),
            milliseconds(bucket.ready_seconds),
            printable(", ".join(bucket.parameters[:2])) + (", …" if len(bucket.parameters) > 2 else ""),
        ]
        for bucket in view.buckets.buckets[:_MOST_BUCKETS]
    ]
    heads = ("Bucket", "Gradients", "Size", "Ready after backward began", "Parameters")
    return table("Buckets of gradients", heads, rows, numeric=heads[1:4])


def _dynamic(view: PlacementView) -> list[Any]:
    if not view.dynamic:
        words = "Every gradient and every module's output has the same shape for every input that was tried."
        return [dmc.Text(words, size="sm", c="dimmed")]
    shown = "; ".join(f"{name}: {why}" for name, why in view.dynamic[:5])
    more = f"; and {len(view.dynamic) - 5} more" if len(view.dynamic) > 5 else ""
    return [note(printable(shown + more), "Outputs whose shape depends on the input: they would go by metadata block")]


def what_if_room() -> html.Div:
    """Return the place in the optimizer's card where other worlds can be tried; a callback fills it."""
    return html.Div(id=ROOM, className="hb-live")


def what_if_panel(world_size: int, cluster: str, clusters: tuple[str, ...]) -> list[Any]:
    """Return the choice of workers and cluster, and the place for what they give."""
    head = dmc.Group([dmc.Title("Try a cluster", order=3, className="hb-section-title"), simulated_badge()], gap="xs")
    about = (
        "Predicted anew from the captured run whenever you choose; nothing runs before Apply, which starts the workers "
        "on this machine and trains data-parallel. Pipelines and sharded plans are predictions that Apply does not "
        "carry out. Clusters are YAML files in the server's folder of clusters."
    )
    names = list(dict.fromkeys((*clusters, *([cluster] if cluster else []))))
    choices = dmc.SimpleGrid(
        [
            dmc.Select(id=WORLD_CHOICE, label="Workers that train together", data=[str(world) for world in WORLDS],
                       value=str(world_size) if world_size in WORLDS else None, placeholder=f"{world_size}",
                       allowDeselect=False),
            dmc.Select(id=CLUSTER_CHOICE, label="On which cluster", data=names, value=cluster or names[0],
                       allowDeselect=False),
        ],
        cols={"base": 1, "sm": 2},
    )  # fmt: skip
    return [dmc.Stack([head, dmc.Text(about, size="sm", c="dimmed"), choices, html.Div(id=SHOWN)])]


def outlook_panel(view: PlacementView | str) -> list[Any]:
    """Return what the chosen workers would take, simulated, or why it cannot be said."""
    if isinstance(view, str):
        return [note(printable(view), "This cannot be predicted")]
    ours = view.backend("hotbench")
    predicted = ours.predicted if ours is not None else None
    rows: list[tuple[Any, Any, Any]] = [
        ("One worker alone, as captured", milliseconds(view.single_seconds), "the run's own step"),
        ("Step with our backend, simulated", milliseconds(predicted.step.mid if predicted else None),
         f"{view.world_size:,} workers, {printable(view.cluster)}"),
        ("Waiting for messages, simulated", milliseconds(predicted.exposed_seconds if predicted else None),
         f"{milliseconds(predicted.hidden_seconds if predicted else None)} hidden behind compute"),
        ("Registered memory", mebibytes(predicted.registered_bytes if predicted else None), "of one worker"),
        ("Memory of a worker", mebibytes(predicted.memory_bytes if predicted else None),
         "fits" if predicted is None or predicted.fits else "more than there is"),
    ]  # fmt: skip
    bars = figure(
        split_bars(view.backends),
        "placement-split-simulated",
        "Predicted step time of each backend",
        text=_split_words(view),
    )
    parts = [facts(rows), bars, _backend_table(view, measured=False), *_others(view)]
    parts += [*_course(view, "placement-course-simulated"), *_scale(view, "placement-scale-simulated"), *_sources(view)]
    return [dmc.Stack(parts, gap="sm")]


def _others(view: PlacementView) -> list[Any]:
    if not view.others:
        return []
    rows = [
        [
            item.plan.title,
            milliseconds(item.step.mid),
            milliseconds(item.exposed_seconds),
            mebibytes(item.memory_bytes),
            "yes" if item.fits else "no",
            item.plan.how_to_apply,
        ]
        for item in view.others[:_MOST_OTHERS]
    ]
    heads = ("Plan", "Step, predicted", "Exposed", "Memory of a worker", "Fits", "Apply")
    drawn = table("Other ways to spread the same step", heads, rows, numeric=heads[1:4])
    return [_titled("Other ways to spread the same step", drawn)]


def _sources(view: PlacementView) -> list[Any]:
    lines = [dmc.ListItem(printable(source)) for source in view.sources]
    return [
        html.Details([html.Summary("Where these costs are from"), dmc.List(lines, size="sm")], className="hb-subtitle")
    ]
