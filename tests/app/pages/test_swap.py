"""A memory budget on the page: the card of an experiment, and another budget tried on a captured run."""

import dataclasses
import json

import numpy as np
import pytest

from analyzer.errors import RecordError
from analyzer.run import save_run, with_content_id
from app.components import swap_callbacks
from app.components.swap import ROOM, move_rows, simulated_panel, swap_section, what_if_panel
from app.components.swap_callbacks import proof_of, simulated_of, step_of
from app.figures import swap as figures
from app.pages import experiments as page
from app.pages import optimize
from app.views.swap import Simulated, SwapProof, WhatIf, simulate_budget, what_if
from tests.app.swap import decisions, save_swap, swap_view, training_run

ALLOW = "swap,recompute"


def texts(tree):
    return json.dumps(tree, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


@pytest.fixture(autouse=True)
def swap_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTBENCH_SWAP", str(tmp_path))
    swap_callbacks._proofs._values.clear()


@pytest.fixture
def trained(desk):
    """Return the id of a training run in the desk's store."""
    run = with_content_id(training_run())
    desk.store.save("run", lambda folder: save_run(run, folder), name="training", created=run.created)
    return run.id


@pytest.fixture(scope="module")
def step():
    found = what_if(training_run(), ("swap", "recompute"))
    assert isinstance(found, WhatIf)
    return found


def test_the_page_shows_the_memory_of_a_swapped_candidate_and_of_no_other(desk):
    made = save_swap(desk.store, desk.run, desk.experiment, swap_view())
    shown = texts(page.layout({"experiment": made}))
    assert "section-swap" in shown and "23.4 ms" in shown and "predicted 22.9 ms" in shown
    assert "section-swap" not in texts(page.layout({"experiment": desk.experiment.id}))


def test_a_candidate_without_a_view_has_no_card(desk):
    assert proof_of(save_swap(desk.store, desk.run, desk.experiment, swap_view(), {"swap_plan.json": b"{}"})) is None


def damaged():
    view = swap_view()
    yield b"{}"
    yield b"\xff"
    yield dataclasses.replace(view, measured_bytes=view.measured_bytes[1:]).encode()
    yield dataclasses.replace(view, before=dataclasses.replace(view.before, total_bytes=(1, 2))).encode()
    yield dataclasses.replace(view, lanes=(dataclasses.replace(view.lanes[0], direction="<script>"),)).encode()


@pytest.mark.parametrize("content", list(damaged()))
def test_a_damaged_view_is_told_and_the_page_is_shown_all_the_same(desk, content):
    made = save_swap(desk.store, desk.run, desk.experiment, swap_view(), {"swap_view.json": content})
    with pytest.raises(RecordError):
        proof_of(made)
    shown = texts(page.layout({"experiment": made}))
    assert "The memory of the step cannot be shown" in shown and "What was found" in shown


@pytest.mark.parametrize("seed", range(3))
def test_the_figure_holds_every_course_by_category_and_every_copy(seed):
    view = swap_view(seed)
    figure = figures.memory_over_step(
        view.before, view.predicted, view.measured_bytes, view.budget_bytes, view.lanes
    )  # fmt: skip
    lines = {trace.name: trace for trace in figure.data if trace.type == "scatter" and trace.stackgroup is None}
    assert set(lines) == {"all, before", "all, simulated", "all, measured"}
    assert max(lines["all, before"].y) == pytest.approx(max(view.before.total_bytes) / 2**20)
    assert list(lines["all, measured"].y) == pytest.approx([count / 2**20 for count in view.measured_bytes])
    assert {name for name, _, _ in figures.key_of(figure)} >= {*lines, "activation"}
    areas = [trace for trace in figure.data if trace.type == "scatter" and trace.stackgroup == "row 1"]
    stacked = np.sum([trace.y for trace in areas], axis=0)
    assert stacked == pytest.approx(np.array(view.before.total_bytes) / 2**20)
    assert sum(len(trace.x) for trace in figure.data if trace.type == "bar") == len(view.lanes) > 0


def test_a_long_course_keeps_its_highest_bytes_and_a_short_one_all():
    values = list(np.random.default_rng().integers(1, 10**9, 12_347))
    places = figures._places(values)
    assert len(places) == figures.MOST_PLACES and max(values) == max(values[place] for place in places)
    assert places == sorted(set(places)) and figures._places(values[:7]) == list(range(7))


def test_a_course_that_was_not_measured_is_said_to_be_not():
    view = swap_view(measured=False)
    shown = texts(swap_section(SwapProof("experiment-1", view, {})))
    assert "No course of memory was measured" in shown and "all, measured" not in shown and "–" in shown


def test_moves_are_rows_with_their_gaps_the_largest_first():
    view = swap_view()
    rows = move_rows(SwapProof("experiment-1", view, decisions(view)))
    assert len(rows) == len(view.moves) and {row["how"] for row in rows} <= {"made again", "swap to disk"}
    assert [row["size"] for row in rows] == sorted((move.bytes / 2**20 for move in view.moves), reverse=True)
    assert sum(row["gap"] for row in rows) == pytest.approx(sum(move.gap_seconds for move in view.moves) * 1e3)


def test_a_budget_is_planned_within_it_and_the_smallest_share_works(step):
    for share in (step.least_percent, (step.least_percent + 100) // 2, 100):
        found = simulate_budget(step, f"{share}%")
        assert isinstance(found, Simulated)
        assert max(found.after.total_bytes) <= found.budget_bytes <= step.peak_bytes
        assert found.point.step_seconds <= min(
            (point.step_seconds for point in step.curve if point.budget_bytes <= found.budget_bytes), default=1e9
        )
    assert step.least_percent < 100 and [point.budget_bytes for point in step.curve][-1] == step.peak_bytes


@pytest.mark.parametrize("budget", ["", "much", "-3%", "1", "<script>"])
def test_what_is_no_budget_is_told_in_words_and_marks_nothing(step, budget):
    found = simulate_budget(step, budget)
    assert isinstance(found, str) and "cannot be simulated" in texts(simulated_panel(step, found))
    assert '"x"' in texts(swap_callbacks._marked(found)) and '"value": []' in texts(swap_callbacks._marked(found))


def test_what_the_slider_gives_is_labelled_as_simulated(step):
    shown = texts(what_if_panel(step, 70))
    assert '"simulated"' in shown and '"measured"' not in shown and "nothing runs before Apply" in shown
    assert "Step, simulated" in texts(simulated_panel(step, simulate_budget(step, "80%")))


@pytest.mark.parametrize(("chosen", "value"), [(0, None), (70, 70), (1000, 100)])
def test_the_slider_stays_where_budgets_work(step, chosen, value):
    (panel,) = what_if_panel(step, chosen)
    slider = next(item for item in panel.children if type(item).__name__ == "Slider")
    assert slider.value == (step.least_percent if value is None else value) and slider.min == step.least_percent


def test_a_budget_is_tried_in_the_card_of_swap_alone_and_the_step_is_read_once(desk, trained, monkeypatch):
    shown = texts(optimize.layout({"run": trained}))
    assert shown.count(f'"{ROOM}"') == 1
    found = simulated_of(trained, ALLOW, "", "80%")
    assert not isinstance(found, str)
    monkeypatch.setattr(swap_callbacks, "what_if", lambda *_: pytest.fail("made again"))
    assert simulated_of(trained, ALLOW, "", "80%") == found
    assert simulated_of(trained, ALLOW, "", "90%")[0] is found[0]


def test_a_run_that_does_not_train_and_a_wrong_option_have_no_slider(desk, trained):
    assert "does not train" in step_of(desk.run.id, ALLOW, "")
    assert "swap.allow='hope'" in step_of(trained, "hope", "")
    on_gpu = dataclasses.replace(training_run(), device=dataclasses.replace(training_run().device, kind="cuda"))
    assert "on a CPU only" in what_if(on_gpu, ("swap",))


def test_a_folder_that_is_not_there_is_told_in_words(trained, desk):
    assert isinstance(step_of(trained, ALLOW, "/nowhere/at/all"), str)
