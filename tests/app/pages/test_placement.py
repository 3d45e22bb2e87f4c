"""Several workers on the page: the card of an experiment, and another world tried on a captured run."""

import json

import pytest

from analyzer.errors import RecordError
from analyzer.run import save_run, with_content_id
from app.components import placement_callbacks
from app.components.placement import ROOM, outlook_panel, what_if_panel
from app.components.placement_callbacks import outlook_of_run, profile_of_run, proof_of
from app.figures import placement as figures
from app.pages import experiments as page
from app.pages import optimize
from app.views.placement import cluster_names, read_form
from tests.app.placement import WIDTHS, placement_view, save_placement
from tests.optimizers.placement.training_runs import training_run

HERE = "this machine"


def texts(tree):
    return json.dumps(tree, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_CACHE", str(tmp_path))
    placement_callbacks._proofs._values.clear()


@pytest.fixture
def trained(desk):
    """Return the id of a training run in the desk's store."""
    run = with_content_id(training_run(WIDTHS))
    desk.store.save("run", lambda folder: save_run(run, folder), name="training", created=run.created)
    return run.id


@pytest.fixture(scope="module")
def view():
    return placement_view()


def test_an_experiment_shows_measured_beside_predicted_and_why_a_backend_did_not_run(desk, view):
    made = save_placement(desk.store, desk.run, desk.experiment, view)
    shown = texts(page.layout({"experiment": made}))
    assert "section-placement" in shown and "65.3 ms" in shown and "posix" in shown
    assert "was not measured" in shown and "grpcio not installed" in shown and "8x65 and 8x33" in shown
    assert "section-placement" not in texts(page.layout({"experiment": desk.experiment.id}))


def damaged():
    yield b"{}"
    yield b"\xff"
    yield placement_view().encode().replace(b'"end_seconds":', b'"end_seconds":-1', 1)
    yield placement_view().encode().replace(b'"spans"', b'"spuns"')


@pytest.mark.parametrize("content", list(damaged()), ids=range(4))
def test_a_damaged_view_is_told_and_the_page_is_shown_all_the_same(desk, view, content):
    made = save_placement(desk.store, desk.run, desk.experiment, view, content)
    with pytest.raises(RecordError):
        proof_of(made)
    shown = texts(page.layout({"experiment": made}))
    assert "The workers' steps cannot be shown" in shown and "What was found" in shown


def test_bars_are_compute_and_exposed_of_each_backend_and_predicted_ones_are_hatched(view):
    drawn = figures.split_bars(view.backends)
    compute, exposed = drawn.data
    assert len(compute.x) == 6 and [row.rpartition("<br>")[2] for row in compute.y].count("measured") == 2
    place = list(compute.y).index("Hotbench<br>measured")
    assert compute.x[place] + exposed.x[place] == pytest.approx(65.3)
    hatched = {
        row.rpartition("<br>")[2] for row, shape in zip(compute.y, compute.marker.pattern.shape, strict=True) if shape
    }
    assert hatched == {"predicted"}


def test_the_course_holds_every_task_and_the_curves_reach_1024_workers(view):
    drawn = figures.step_course(view.spans)
    assert sum(len(trace.x) for trace in drawn.data) == len(view.spans) > 5
    lines = figures.scale_lines(view.curves, {})
    assert len(lines.data) == 4 and all(max(line.x) == 1024 for line in lines.data)
    assert all("simulated" in line.hovertemplate for line in lines.data)


@pytest.mark.parametrize("world", ["2", "4", "128"])
def test_a_world_is_predicted_for_every_backend_and_labelled_simulated(desk, trained, world):
    found = outlook_of_run(trained, world, HERE, "")
    shown = texts(outlook_panel(found))
    assert found.world_size == int(world) and "simulated" in shown and '"measured"' not in shown
    assert all(
        item.predicted.step.low <= item.predicted.step.mid <= item.predicted.step.high for item in found.backends
    )


@pytest.mark.parametrize(
    ("world", "cluster", "bucket", "words"),
    [
        ("two", HERE, "", "no number of workers"),
        ("1", HERE, "", "2 workers or more"),
        ("4000000", HERE, "", "out of range"),
        ("64", "two-workstations", "", "choose 1 to 8 workers"),
        ("2", "atlantis", "", "no cluster 'atlantis'"),
        ("2", "/etc/passwd", "", "no cluster"),
        ("2", HERE, "<b>", "no size in MiB"),
        ("2", HERE, "-1", "out of range"),
        (None, None, None, "no number of workers"),
    ],
)
def test_what_cannot_be_is_said_in_words(desk, trained, world, cluster, bucket, words):
    found = outlook_of_run(trained, world, cluster, bucket)
    assert isinstance(found, str) and words in found
    assert "cannot be predicted" in texts(outlook_panel(found))


def test_the_room_is_in_the_card_of_placement_alone_and_other_runs_have_none(desk, trained):
    assert texts(optimize.layout({"run": trained})).count(f'"{ROOM}"') == 1
    assert "does not train" in profile_of_run(desk.run.id)
    assert "h100-hosts" in cluster_names() and cluster_names()[0] == HERE
    assert "simulated" in texts(what_if_panel(3, "my.yaml", cluster_names()))


def test_a_form_gives_a_bucket_in_bytes_and_how_gradients_are_averaged():
    assert read_form("4", "", "2").cap_bytes == 2 << 20 and read_form(4, "x", "none").cap_bytes is None
    assert (
        read_form("4", "", "", "parameter-server").form == "parameter-server" and read_form(4, "").form == "all-reduce"
    )
    assert "placement.form=ring is unknown" in read_form(4, "", "", "ring")


def test_the_page_says_of_every_other_plan_whether_apply_carries_it_out(desk, trained):
    shown = texts(outlook_panel(outlook_of_run(trained, "2", HERE, "", "parameter-server")))
    assert "Apply runs it with placement.form=all-reduce" in shown and "placement.form=parameter-server" not in shown
    assert shown.count("predicted alone: Apply does not carry it out") >= 2


def test_lanes_of_the_course_are_named_in_whole_words(view):
    drawn = figures.step_course(view.spans)
    assert {lane for trace in drawn.data for lane in trace.y} == {"host, 2 workers", "exchange"}


def test_what_was_predicted_for_another_cluster_is_not_taken_for_what_was_measured(view):
    import dataclasses

    from app.components.placement import placement_section
    from app.views.placement import PlacementProof

    words = "Nothing ran on"
    assert words not in texts(placement_section(PlacementProof("experiment", view, {})))
    elsewhere = dataclasses.replace(view, cluster="sixteen hosts")
    assert f"{words} sixteen hosts" in texts(placement_section(PlacementProof("experiment", elsewhere, {})))
