import dataclasses

from app.store import Entry
from app.views.compare import compare_needs, compare_stored, counts_words
from tests.synthetic import Call, make_run

BEFORE = make_run([Call("aten::mm", 1e-3), Call("aten::mul", 1e-4), Call("aten::tanh", 2e-4)], step_seconds=2e-3)
AFTER = make_run([Call("aten::mm", 4e-4), Call("aten::mul", 1e-4), Call("aten::gelu", 5e-4)], step_seconds=1e-3)


def entry(place=None, name="gpu-1"):
    summary = {"place": place, "place_name": name} if place else {}
    return Entry("run-a", "run", None, "m.py:f", "2026", "0" * 64, summary)


def test_figures_stand_beside_each_other_with_their_factor():
    lines = {line.label: line for line in compare_stored(BEFORE, AFTER).lines}
    step = lines["Step time, median"]
    assert (step.before, step.after, step.change) == ("2.00 ms", "1.00 ms", "0.500× of before")
    assert lines["Peak memory"].change == "the same"


def test_ops_that_came_went_or_changed_are_listed_by_their_difference():
    stored = compare_stored(BEFORE, AFTER)
    assert [(row["change"], row["name"]) for row in stored.ops] == [
        ("changed", "aten::mm"), ("added", "aten::gelu"), ("removed", "aten::tanh")
    ]  # fmt: skip
    assert stored.ops[0]["gain_words"] == "−0.600 ms" and stored.ops[1]["before_words"] == "–"
    assert counts_words(stored.counts) == "1 kind of op changed, 1 came, 1 went."


def test_a_run_against_itself_differs_in_nothing():
    stored = compare_stored(BEFORE, BEFORE)
    assert stored.ops == () and stored.unlike == ()
    assert counts_words(stored.counts).startswith("The same ops")


def test_other_circumstances_are_named():
    after = dataclasses.replace(
        AFTER, threads=8, environment=dataclasses.replace(AFTER.environment, torch="2.12.0", cpu_features=())
    )
    assert {what: (a, b) for what, a, b in compare_stored(BEFORE, after).unlike} == {
        "threads": ("1", "8"), "torch": ("2.13.0", "2.12.0"), "cpu features": ("avx2", "none")
    }  # fmt: skip


def test_both_are_measured_anew_where_both_were_captured():
    assert compare_needs(entry(), entry()) == {"place": "local"}
    assert compare_needs(entry("worker-1"), entry("worker-1")) == {"place": "worker-1"}
    words = compare_needs(entry(), entry("worker-1"))
    assert isinstance(words, str) and "this machine" in words and "gpu-1" in words
