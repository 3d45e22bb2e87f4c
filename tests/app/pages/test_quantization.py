"""Compression on the page: the card of an experiment, its figures, and the editor of bits."""

import dataclasses
import json

import numpy as np
import pytest

from analyzer.errors import RecordError
from analyzer.run import save_run, with_content_id
from app.components import quantization_callbacks
from app.components.quantization import (
    EDITOR,
    ROOM,
    editor_panel,
    editor_rows,
    layer_detail,
    layer_rows,
    quantization_section,
)
from app.components.quantization_callbacks import edited, proof_of, rows_of
from app.figures import quantization as figures
from app.pages import experiments as page
from app.pages import optimize
from app.views.quantization import QuantizationProof, bits_rows, layers_option
from optimizers.quantization.options import QuantizationOptions
from optimizers.quantization.views import decode_view, histogram
from tests.app.quantization import layered_run, quantization_view, save_quantization


def texts(tree):
    return json.dumps(tree, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


@pytest.fixture(autouse=True)
def nothing_kept():
    quantization_callbacks._proofs._values.clear()


@pytest.fixture(scope="module")
def view():
    return quantization_view()


@pytest.fixture
def layered(desk):
    """Return the run with weights, saved in the desk's store."""
    run = with_content_id(layered_run())
    desk.store.save("run", lambda folder: save_run(run, folder), name="layered", created=run.created)
    return run


def test_the_page_shows_the_layers_of_a_compressed_candidate_and_of_no_other(desk, view):
    made = save_quantization(desk.store, desk.run, desk.experiment, view)
    shown = texts(page.layout({"experiment": made}))
    assert "section-quantization" in shown and "layer.3" in shown and "over 96 answers" in shown
    assert "section-quantization" not in texts(page.layout({"experiment": desk.experiment.id}))


def damaged():
    view = quantization_view()
    yield b"{}"
    yield b"\xff"
    yield dataclasses.replace(view, format_version=99).encode()
    layer = dataclasses.replace(view.layers[0], chosen="magic")
    yield dataclasses.replace(view, layers=(layer,)).encode()
    empty = dataclasses.replace(view.layers[0].histograms[0], counts=())
    yield dataclasses.replace(view, layers=(dataclasses.replace(view.layers[0], histograms=(empty,)),)).encode()


@pytest.mark.parametrize("content", list(damaged()))
def test_a_damaged_view_is_told_and_the_page_is_shown_all_the_same(desk, content):
    files = {"quantization_view.json": content}
    made = save_quantization(desk.store, desk.run, desk.experiment, quantization_view(), files)
    with pytest.raises(RecordError):
        proof_of(made)
    shown = texts(page.layout({"experiment": made}))
    assert "The compressed layers cannot be shown" in shown and "What was found" in shown


def test_a_view_is_read_back_as_it_was_written(view):
    assert decode_view(view.encode()) == view


def test_each_layer_is_a_row_with_its_form_in_the_units_of_the_headings(view):
    rows = {row["name"]: row for row in layer_rows(QuantizationProof("experiment-1", view, {}))}
    assert len(rows) == len(view.layers)
    for layer in view.layers:
        row = rows[layer.name]
        assert row["form"] == layer.chosen and row["before"] == layer.bytes / 1024
        assert (row["loss"] is None) == (layer.chosen == "float")
    assert rows["<b>head</b>"]["why"].startswith("no method takes")


def test_the_detail_has_every_form_with_its_refusal_and_the_centroids_of_codebooks(view):
    layer = next(item for item in view.layers if item.name == "layer.1")
    shown = texts(layer_detail(layer))
    assert all(form.name in shown for form in layer.forms) and "it cannot" in shown
    with_codebook = next(item for item in view.layers if item.chosen == "kmeans-4")
    assert "16 centroids" in texts(layer_detail(with_codebook))
    assert "centroids" not in texts(layer_detail(next(item for item in view.layers if item.chosen == "float")))


def test_sensitivity_draws_each_form_that_was_measured_and_marks_the_chosen(view):
    figure = figures.sensitivity(view.layers)
    drawn = {trace.name: trace for trace in figure.data}
    assert set(drawn) == {"int8", "kmeans-4", "kmeans-3"} == {name for name, _ in figures.forms_key(view.layers)}
    assert len(drawn["int8"].x) == 7 and len(drawn["kmeans-3"].x) == 6
    chosen = sum(layer.chosen == "kmeans-4" for layer in view.layers)
    assert sum(size == 13 for size in drawn["kmeans-4"].marker.size) == chosen
    assert all(value > 0 for trace in figure.data for value in trace.y)


def test_the_front_has_every_mix_measured_with_its_speedup_and_the_gate(view):
    figure = figures.front(view.points, view.bytes_before, 0.99)
    assert sum(len(trace.x) for trace in figure.data) == len(view.points)
    chosen = next(trace for trace in figure.data if trace.name == "chosen")
    assert len(chosen.x) == 1 and "×" in chosen.text[0]
    assert figure.layout.shapes[0].y0 == pytest.approx(0.01)
    assert not figures.front(view.points, view.bytes_before, None).layout.shapes
    assert figures.front((), 0, 1.0).data


def test_a_histogram_counts_every_weight_and_centroids_lie_within_their_range():
    values = np.random.default_rng().normal(size=(13, 37)).astype(np.float32)
    found = histogram("w", values, None)
    drawn = figures.weight_histogram(found)
    assert sum(found.counts) == values.size == sum(drawn.data[0].y) and len(drawn.data) == 1
    equal = histogram("w", np.full((3, 5), 0.25, np.float32), None)
    assert sum(equal.counts) == 15 and equal.low < equal.high


def test_names_of_layers_are_shown_as_text_not_as_markup(view):
    shown = texts(figures.sensitivity(view.layers).to_dict())
    section = texts(quantization_section(QuantizationProof("experiment-1", view, {})))
    assert "<b>head" not in shown and "<b>head</b>" in section


def test_the_editor_has_the_layers_of_the_run_with_their_bits_and_why_others_stay():
    rows = bits_rows(layered_run(), {"quantization.layers": "layer.*=4, layer.1=8", "quantization.exclude": "embed"})
    assert {row.name: row.bits for row in rows} == {
        "embed": "32", "layer.0": "4", "layer.1": "8", "head": "auto", "last": "32",
    }  # fmt: skip
    last = next(row for row in rows if row.name == "last")
    assert "aten::bilinear reads its weights" in last.refusal
    four, eight = rows[1], rows[2]
    assert four.bytes_after < 0.3 * four.bytes and 0.2 * eight.bytes < eight.bytes_after < 0.4 * eight.bytes


@pytest.mark.parametrize(
    ("run", "settings", "words"),
    [
        (layered_run(training=True), {}, "The step trains"),
        (layered_run(), {"quantization.layers": "head=7"}, "write NAME=BITS"),
        (layered_run(), {"quantization.bits": "many"}, "write a whole number"),
    ],
)
def test_where_there_is_nothing_to_edit_it_is_said(run, settings, words):
    assert words in bits_rows(run, settings)


def test_bits_that_are_edited_become_the_option_and_come_back_as_they_were():
    rows = editor_rows(bits_rows(layered_run(), {}))
    rows[1]["bits"], rows[3]["bits"] = "3", "32"
    text = edited(rows)
    assert text == "layer.0=3, head=32"
    again = bits_rows(layered_run(), {"quantization.layers": text})
    assert [row["bits"] for row in editor_rows(again)] == ["auto", "3", "auto", "32", "32"]
    assert edited([{**row, "bits": "8"} for row in rows]) == "*=8"
    QuantizationOptions(layers=text)


def test_methods_without_bits_are_chosen_like_bits():
    rows = editor_rows(bits_rows(layered_run(), {"quantization.prune": "0.7"}))
    rows[1]["bits"], rows[3]["bits"] = "prune", "low-rank"
    text = edited(rows)
    assert text == "layer.0=prune, head=low-rank"
    again = bits_rows(layered_run(), {"quantization.layers": text, "quantization.prune": "0.7"})
    assert [row.bits for row in again][1:4] == ["prune", "auto", "low-rank"]
    before = again[1].bytes
    assert 0.44 * before < again[1].bytes_after < 0.6 * before and again[3].bytes_after <= 0.25 * again[3].bytes


def test_pruned_and_thin_forms_have_marks_of_their_own():
    names = ("prune-0.5", "low-rank-0.25", "kmeans-4-pruned-0.5", "kmeans-4", "int8", "of-tomorrow")
    marks = [figures._drawn_as(name) for name in names]
    assert len(set(marks)) == len(names)


def test_a_compressed_candidate_can_be_exported_as_onnx(desk, layered, view):
    name = save_quantization(desk.store, layered, desk.experiment, view)
    shown = texts(page.layout({"experiment": name}))
    assert "Export as ONNX" in shown and f"hotbench export {name} --format onnx -o onnx" in shown
    assert "Export as ONNX" not in texts(page.layout({"experiment": desk.experiment.id}))


def test_nothing_edited_is_no_option():
    assert layers_option([("a", "auto"), ("b", "auto")]) == "" == layers_option([])
    assert layers_option([("a", "8")]) == "a=8"


def test_the_editor_shows_what_the_newest_experiment_of_the_run_measured(desk, layered, view):
    found, known = rows_of(layered.id, {})
    assert not known and all(row.loss is None and not row.found for row in found)
    save_quantization(desk.store, layered, desk.experiment, view)
    found, known = rows_of(layered.id, {"quantization.layers": "layer.0=8"})
    by_name = {row.name: row for row in found}
    measured = {layer.name: layer for layer in view.layers}
    eight = next(form for form in measured["layer.0"].forms if form.name == "int8")
    assert known and by_name["layer.0"].loss == pytest.approx(1 - eight.cosine)
    assert by_name["layer.1"].found == measured["layer.1"].chosen and by_name["head"].loss is None
    assert "Found last" in texts(editor_panel(found, known))


def test_a_damaged_candidate_does_not_keep_the_editor_from_being_shown(desk, layered):
    save_quantization(desk.store, layered, desk.experiment, quantization_view(), {"quantization_view.json": b"{}"})
    found, known = rows_of(layered.id, {})
    assert not known and len(found) == 5


def test_the_editor_stands_in_the_card_of_quantization_alone(desk, layered):
    shown = texts(optimize.layout({"run": layered.id}))
    assert shown.count(f'"{ROOM}"') == 1 and EDITOR not in shown
