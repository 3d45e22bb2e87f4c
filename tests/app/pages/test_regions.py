"""The card of regions on an experiment's page, and the export of one of them."""

import dataclasses
import json

import pytest

from analyzer.errors import HotbenchError, RecordError
from analyzer.experiment import experiment_id
from analyzer.record import write_folder
from app import intake, workbench
from app.cli import main
from app.components import region_callbacks
from app.components.region_callbacks import acts, export, source_of, view_of
from app.components.targets import columns, row, targets_panel
from app.jobs.job import Job
from app.pages import experiments as page
from app.views.experiment_state import experiment_state
from app.views.jobs import command_of
from app.views.optimize import plan_view
from app.web.access import Forbidden
from optimizers.candidate import make_candidate, save_candidate
from optimizers.fusion.proof_record import FILE, save_proof
from tests.app.regions import proof

KERNEL = "region_000000000002"


def texts(tree):
    return json.dumps(tree, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


@pytest.fixture
def fused(desk):
    """Return the id of an experiment whose candidate carries a proof of its regions."""
    region_callbacks._views._values.clear()
    blobs = {FILE: save_proof(proof()), f"{KERNEL}.py": b"# the generated source"}
    item = dataclasses.replace(desk.candidate.applied[0], blobs=blobs)
    candidate = make_candidate(desk.run.id, desk.run.workload, (item,))
    desk.store.save(
        "candidate",
        lambda folder: save_candidate(candidate, folder),
        name="c",
        parent=desk.run.id,
        summary={"optimizers": ["fusion"]},
    )
    value = dataclasses.replace(desk.experiment, id="", parent=candidate.id)
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(desk.store, value, "fused")
    return value.id


def reproducer(desk, experiment, kernel=KERNEL):
    return desk.store.save(
        "reproducer",
        lambda folder: write_folder(folder, {"reproduce.py": b"pass\n"}, "reproducer", "reproducer-000000000001"),
        name="r",
        parent=experiment,
        summary={"region": kernel},
    )


def test_the_page_shows_the_regions_of_a_fused_candidate_and_of_no_other(desk, fused):
    assert "section-regions" in texts(page.layout({"experiment": fused}))
    assert "section-regions" not in texts(page.layout({"experiment": desk.experiment.id}))


def test_the_source_is_sent_for_one_region_alone(desk, fused):
    assert "the generated source" not in texts(page.layout({"experiment": fused}))
    assert source_of(fused, KERNEL) == "# the generated source" and source_of(fused, "region_other") == ""


def test_an_export_is_one_job_that_names_the_region(desk, fused):
    export(fused, KERNEL)
    export(fused, KERNEL)
    (job,) = desk.jobs.list()
    assert job.kind == "export" and job.arguments == {"experiment": fused, "region": KERNEL} and job.about == fused
    assert f"--region {KERNEL}" in command_of(job)
    # It is no export of the whole model.
    assert experiment_state(desk.store, desk.jobs, fused).export is None


def test_an_exported_region_can_be_downloaded(desk, fused):
    assert "Export this region" in texts(acts(fused, KERNEL, True))
    made = reproducer(desk, fused)
    shown = texts(acts(fused, KERNEL, True))
    assert f"/api/reproducers/{made.id}.zip" in shown and "Export this region" not in shown
    assert "Export this region" in texts(acts(fused, "region_000000000001", True))
    assert acts(fused, "region_refused", False) == []


@pytest.mark.parametrize("kernel", ["region_refused", "nowhere", "<script>"])
def test_what_is_no_kernel_of_the_program_is_not_exported(desk, fused, kernel):
    with pytest.raises(HotbenchError, match="choose one of the grid"):
        export(fused, kernel)
    assert desk.jobs.list() == ()


def test_a_viewer_may_look_but_not_export(desk, fused, monkeypatch):
    def refuse(_role):
        raise Forbidden("an editor")

    monkeypatch.setattr(region_callbacks, "require", refuse)
    assert view_of(fused) is not None
    with pytest.raises(Forbidden):
        export(fused, KERNEL)
    assert desk.jobs.list() == ()


def test_the_command_line_says_in_one_line_what_it_cannot_export(stored, tmp_path, capsys):
    code = main(["export", "experiment-ffff", "--region", "x", "-o", str(tmp_path / "o"), "--store", stored[0]])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and lines[-1].startswith("hotbench: error: no experiment 'experiment-ffff'")
    assert not (tmp_path / "o").exists()


def test_a_worker_gives_the_region_that_was_asked_for_or_nothing(desk, fused, tmp_path):
    job = desk.jobs.submit("export", {"experiment": fused, "region": KERNEL}, title="r", user="local")
    folder = tmp_path / "reproducer"
    write_folder(folder, {"reproduce.py": b"pass\n"}, "reproducer", "reproducer-000000000001")
    about = intake._reproducer(desk.store, job, folder, (), {"kernel": KERNEL})
    assert about.parent == fused and about.summary == {"region": KERNEL, "files": 1}
    with pytest.raises(RecordError, match="gives 'region_other', not"):
        intake._reproducer(desk.store, job, folder, (), {"kernel": "region_other"})
    intake._check_complete(job, {"reproducer": "r-1"}, {"reproducer": "r-1"})
    with pytest.raises(RecordError, match="was to give a reproducer, but artifact was handed over"):
        intake._check_complete(job, {"artifact": "a-1"}, {"artifact": "a-1"})


def test_targets_are_rows_with_gain_time_and_reason(desk):
    view = plan_view(desk.candidate.applied[0].plan, desk.run)
    shown = targets_panel(view)
    assert "Would change 1 target, and leave 1 alone" in texts(shown)
    fields = [column["field"] for column in columns(view, ["x"])]
    assert fields[0] == "title" and fields[-1] == "why" and "gain" in fields
    taken, left = row(view.taken[0], 0, ["x"]), row(view.left[0], 1, ["x"])
    assert taken["gain"] == pytest.approx(2.1) and taken["why"] == "–" and taken["outcome"] == "changed"
    assert left["gain"] is None and left["why"] == "one library call already"


def test_the_job_of_a_whole_export_keeps_its_command():
    job = Job.__new__(Job)
    object.__setattr__(job, "kind", "export")
    object.__setattr__(job, "arguments", {"experiment": "experiment-1"})
    assert command_of(job).endswith("export experiment-1 -o artifact")
