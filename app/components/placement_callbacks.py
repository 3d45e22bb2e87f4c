"""The callbacks behind app.components.placement: a world and a cluster are tried on the captured run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, State, no_update

from app import workbench
from app.components.placement import (
    BUCKET,
    CLUSTER,
    CLUSTER_CHOICE,
    FORM,
    ROOM,
    SHOWN,
    WORLD,
    WORLD_CHOICE,
    outlook_panel,
    what_if_panel,
)
from app.views.loaded import Cache, derived
from app.views.placement import (
    PlacementForm,
    PlacementProof,
    cluster_names,
    outlook_of,
    placement_proof,
    read_form,
    step_profile,
)
from app.web.context import context

if TYPE_CHECKING:
    from optimizers.placement.plans import StepProfile
    from optimizers.placement.views import PlacementView

_proofs = Cache(8)


def proof_of(experiment: str) -> PlacementProof | None:
    """Return an experiment's placement, from memory where it was asked for before. Raises RecordError if damaged."""
    store = context().store
    entry = store.find(experiment, ("experiment",))

    def make() -> tuple[PlacementProof | None]:
        candidate = workbench.read_proof(store, entry.id).candidate
        # In a tuple: "no placement" is an answer to keep too.
        return (placement_proof(entry.id, candidate) if candidate is not None else None,)

    found: tuple[PlacementProof | None] = _proofs.get((str(store.folder(entry)), entry.digest), make)
    return found[0]


def profile_of_run(run: str) -> StepProfile | str:
    """Return a run's step, from memory where it was asked for before; or why workers cannot share it."""
    found: StepProfile | str = derived(context().store, run, "placement profile", step_profile)
    return found


def outlook_of_run(
    run: str, world_size: object, cluster: object, bucket: object, averaging: object = "all-reduce"
) -> PlacementView | str:
    """Return what the form's workers would take, simulated, or why that cannot be said."""
    form = read_form(world_size, cluster, bucket, averaging)
    profile = profile_of_run(run)
    if isinstance(form, str) or isinstance(profile, str):
        return form if isinstance(form, str) else str(profile)
    # Not kept: it takes a tenth of a second, and calibrating in between changes it.
    return outlook_of(profile, form)


def register(app: Dash) -> None:
    """Declare them on `app`."""

    @app.callback(
        Output(ROOM, "children"),
        Input("optimize-run", "data"),
        State(WORLD, "value"),
        State(CLUSTER, "value"),
    )
    def _room(run: str, world: str | None, cluster: str | None) -> Any:
        if isinstance(profile_of_run(run), str):
            # The plan above says why.
            return []
        form = read_form(world, cluster)
        chosen = form if isinstance(form, PlacementForm) else PlacementForm(2, "")
        return what_if_panel(chosen.world_size, chosen.cluster, cluster_names())

    @app.callback(
        Output(WORLD, "value"),
        Output(CLUSTER, "value"),
        Input(WORLD_CHOICE, "value"),
        Input(CLUSTER_CHOICE, "value"),
        State(WORLD, "value"),
        State(CLUSTER, "value"),
        prevent_initial_call=True,
    )
    def _chosen(world: str | None, cluster: str | None, written: str | None, named: str | None) -> Any:
        return (
            world if world and world != written else no_update,
            cluster if cluster and cluster != named else no_update,
        )

    @app.callback(
        Output(SHOWN, "children"),
        Input(WORLD_CHOICE, "id"),
        Input(WORLD, "value"),
        Input(CLUSTER, "value"),
        Input(BUCKET, "value"),
        Input(FORM, "value"),
        State("optimize-run", "data"),
    )
    def _simulate(_there: str, world: Any, cluster: Any, bucket: Any, averaging: Any, run: str) -> Any:
        return outlook_panel(outlook_of_run(run, world, cluster, bucket, averaging))
