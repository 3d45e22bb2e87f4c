"""Regions as pages and reports show them: ops found in the run, predicted beside measured, rows and tables."""

import dataclasses

import pytest

from analyzer.graph import Graph
from app.components.regions import grid_row, region_detail, regions_section, ways_table
from app.figures.roofline import points_of
from app.reports.experiment_document import experiment_document
from app.reports.regions import in_order, region_tables
from app.views.regions import predicted_seconds, regions_view
from optimizers.fusion.alignment import NOT_FOUND, align
from optimizers.fusion.proof_record import FILE, save_proof
from tests.app.regions import NAMES, proof, ways
from tests.app.values import HOSTILE, report_candidate, report_experiment
from tests.synthetic import Call, make_run


@pytest.fixture
def run():
    made = make_run([Call(name, 5e-6, (k - 1,) if k else ()) for k, name in enumerate(NAMES)])
    scoped = [dataclasses.replace(op, scope=f"layers.{op.index // 4}", source="model.py:7") for op in made.graph.ops]
    return dataclasses.replace(made, graph=Graph(tuple(scoped), made.graph.tensors, made.graph.edges))


@pytest.fixture
def candidate(run):
    made = report_candidate(run)
    applied = dataclasses.replace(made.applied[0], blobs={FILE: save_proof(proof()), "region_0.py": b"def f(): ..."})
    return dataclasses.replace(made, applied=(applied,))


def text_of(component):
    return str(component.to_plotly_json())


def test_ops_of_the_graph_are_found_in_the_run(run):
    places = align([(f"n{k}", name) for k, name in enumerate(NAMES)], run.graph)
    assert places == tuple(range(len(NAMES)))


def test_an_op_that_the_run_does_not_have_takes_no_other_along(run):
    ops = [("a", "aten::mm"), ("x", "aten::fft"), ("b", "aten::add"), ("c", "aten::tanh_")]
    assert align(ops, run.graph) == (0, NOT_FOUND, 1, 2)


def test_regions_know_modules_lines_and_savings(run, candidate):
    view = regions_view("experiment-1", candidate, run)
    first = view.regions[0]
    assert view.matched == 1.0 and first.modules and first.sources == ("model.py:7",)
    assert first.ops == 3 and dict(first.names) == {"add": 1, "tanh": 1, "mul": 1}
    assert first.measured == pytest.approx(2 * (2e-5 - 4e-6))
    assert view.regions[-1].measured is None and view.regions[-1].reason == "eager is as fast"


def test_a_candidate_without_proof_has_no_regions(run):
    assert regions_view("experiment-1", report_candidate(run), run) is None


def test_prediction_is_shared_out_by_ops(run, candidate):
    plan = candidate.applied[0].plan
    target = dataclasses.replace(plan.targets[0], ops=(4, 5, 6, 7))
    target = dataclasses.replace(target, estimate=dataclasses.replace(target.estimate, low=1.0, mid=2.0, high=3.0))
    plan = dataclasses.replace(plan, targets=(target,))
    assert predicted_seconds([4, 5], plan, run) == pytest.approx(1.0)
    assert predicted_seconds([9], plan, run) is None and predicted_seconds([], plan, run) is None


def test_the_grid_and_the_report_put_what_saves_most_first(run, candidate):
    view = regions_view("experiment-1", candidate, run)
    kernels = [region.kernel for region in in_order(view.regions)]
    assert kernels == ["region_000000000002", "region_000000000001", "region_000000000000", "region_refused"]
    rows = [grid_row(region) for region in view.regions]
    assert rows[0]["state"] == "kept" and rows[-1]["state"] == "library" and rows[-1]["ulp"] is None
    assert rows[0]["fused"] == pytest.approx(4.0)


def test_every_way_is_listed_with_its_reason():
    shown = text_of(ways_table(ways(), "Ways"))
    assert "it gave other results" in shown and "the kernel is faster" in shown and "4.80× to 5.20×" in shown


def test_details_hold_errors_roofline_and_source(run, candidate):
    view = regions_view("experiment-1", candidate, run)
    region = view.regions[0]
    detail = text_of(region_detail(view, region, run.id, f"# {HOSTILE}", None))
    for words in ("Errors against float64", "Roofline", "Generated source", "model.py:7", "layers.0"):
        assert words in detail
    assert len(points_of(view)) == 3


def test_five_hundred_regions_make_one_small_grid(run, candidate):
    item = dataclasses.replace(candidate.applied[0], blobs={FILE: save_proof(proof(500))})
    view = regions_view("experiment-1", dataclasses.replace(candidate, applied=(item,)), run)
    section = regions_section(view, run.id)
    assert len(view.regions) == 501 and len(text_of(section)) < 400_000
    tables = region_tables(view)
    assert len(tables[0].rows) == 40 and "the first 40 of 501" in tables[0].caption


def test_forward_and_backward_may_share_a_kernel(run, candidate):
    made = proof(1)
    graphs = {"forward_1": made.graphs[""], "backward_2": made.graphs[""]}
    regions = tuple(dataclasses.replace(made.regions[0], graph=name) for name in graphs)
    item = dataclasses.replace(
        candidate.applied[0], blobs={FILE: save_proof(dataclasses.replace(made, graphs=graphs, regions=regions))}
    )
    view = regions_view("experiment-1", dataclasses.replace(candidate, applied=(item,)), run)
    assert [region.phase for region in view.regions] == ["forward", "backward"]
    assert len({grid_row(region)["id"] for region in view.regions}) == 2
    assert all(view.region(region.key) is region for region in view.regions)
    assert "Phase" in text_of(regions_section(view, run.id))


def test_what_could_not_be_proven_says_why(run, candidate):
    made = dataclasses.replace(proof(0), regions=(), problem="proving the regions raised MemoryError: ")
    item = dataclasses.replace(candidate.applied[0], blobs={FILE: save_proof(made)})
    view = regions_view("experiment-1", dataclasses.replace(candidate, applied=(item,)), run)
    assert "raised MemoryError" in text_of(regions_section(view, run.id))


def test_the_report_shows_regions_in_the_place_of_raw_choices(run, candidate):
    document = experiment_document(report_experiment(run, candidate), candidate, run)
    applied = next(section for section in document.sections if section.id == "applied-fusion")
    captions = [table.caption for table in applied.tables]
    assert any(caption.startswith("Regions") for caption in captions)
    assert any(caption.startswith("Errors") for caption in captions)
    assert not any("Kernels, each measured" in caption for caption in captions)
    assert applied.figures == ("roofline",)
