"""What the page shows of several workers: what became of them, and what another world would take, simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analyzer.errors import HotbenchError, RecordError

if TYPE_CHECKING:
    from analyzer.run import Run
    from optimizers.placement.plans import StepProfile
    from optimizers.placement.views import PlacementView
    from optimizers.plan import Candidate

NAME = "placement"
VIEW_FILE = "placement_view.json"
THIS_MACHINE = "this machine"
WORLDS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class PlacementProof:
    """A candidate's placement: what a page draws, and what was decided (plain values, by name)."""

    experiment: str
    view: PlacementView
    decisions: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlacementForm:
    """What a person chose, as it was written."""

    world_size: int
    cluster: str
    cap_bytes: int | None = None
    form: str = "all-reduce"


def placement_proof(experiment: str, candidate: Candidate) -> PlacementProof | None:
    """Return what a candidate keeps of its placement; None where it has none. Raises RecordError if damaged."""
    from optimizers.placement.views import decode_view

    for applied in candidate.applied:
        content = applied.blobs.get(VIEW_FILE)
        if applied.plan.optimizer == NAME and content is not None:
            return PlacementProof(experiment, _checked(decode_view(content)), dict(applied.decisions))
    return None


def _checked(view: PlacementView) -> PlacementView:
    """Return the view where it can be drawn. Raises RecordError where a span or a curve makes no sense."""
    if any(not 0.0 <= span.start_seconds <= span.end_seconds for span in view.spans):
        raise RecordError(f"{VIEW_FILE}: a task ends before it begins; optimize the run again")
    if any(point.world_size < 1 or point.step.mid < 0 for curve in view.curves for point in curve.points):
        raise RecordError(f"{VIEW_FILE}: a curve has a world of no worker or a step of no time; optimize the run again")
    return view


def step_profile(run: Run) -> StepProfile | str:
    """Return the run's step to predict worlds for, or in words why it cannot be."""
    from optimizers.placement.plans import profile_of

    try:
        return profile_of(run)
    except HotbenchError as error:
        return str(error)


def read_form(
    world_size: object, cluster: object, bucket_megabytes: object = "", form: object = "all-reduce"
) -> PlacementForm | str:
    """Return what the form's texts ask for, or in words what is wrong with them."""
    from optimizers.placement.options import PlacementOptions

    try:
        world = int(str(world_size).strip())
    except ValueError:
        return f"{str(world_size)[:40]!r} is no number of workers; write a whole one, such as 4"
    written = str(bucket_megabytes if bucket_megabytes is not None else "").strip()
    try:
        size = None if written.lower() in ("", "none") else float(written)
        where, how = str(cluster or "").strip(), str(form or "all-reduce").strip()
        options = PlacementOptions(world_size=world, cluster=where, form=how, bucket_megabytes=size)  # type: ignore[arg-type]
    except ValueError as error:
        return str(error) if isinstance(error, HotbenchError) else f"{written[:40]!r} is no size in MiB"
    return PlacementForm(options.world_size, options.cluster, options.cap_bytes, options.form)


def outlook_of(profile: StepProfile, form: PlacementForm) -> PlacementView | str:
    """Return what the chosen workers would take, simulated, or in words why that cannot be said."""
    from optimizers.placement.clusters import find_cluster
    from optimizers.placement.outlook import look_ahead

    try:
        cluster = find_cluster(form.cluster, form.world_size)
        return look_ahead(profile, form.world_size, cluster, cap_bytes=form.cap_bytes, form=form.form)
    except HotbenchError as error:
        return str(error)


def cluster_names() -> tuple[str, ...]:
    """Return the clusters that a person can choose by name."""
    from optimizers.placement.clusters import known_clusters

    return known_clusters()
