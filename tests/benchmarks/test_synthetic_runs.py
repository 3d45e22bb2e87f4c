"""Synthetic runs are runs like any other, and say what they are."""

from analyzer.run import load_run
from app.store import open_store
from benchmarks.synthetic_runs import NAME, NOTE, save_synthetic, synthetic_run


def test_a_synthetic_run_is_saved_and_loaded_like_any_other(tmp_path):
    with open_store(str(tmp_path / "store")) as store:
        id = save_synthetic(store, 400)
        entry = store.get(id)
        run = load_run(store.folder(entry))
    assert entry.name == run.name == "synthetic-400" and entry.tags == (NAME,) and NOTE in run.notes
    assert 400 <= len(run.graph.ops) == entry.summary["ops"] < 430


def test_the_same_seed_makes_the_same_run_and_another_seed_another():
    assert synthetic_run(300).id == synthetic_run(300).id != synthetic_run(300, seed=1).id


def test_it_has_modules_calls_inside_calls_and_long_edges():
    graph = synthetic_run(1500).graph
    assert max(op.scope.count(".") for op in graph.ops) >= 4
    assert any(op.parent >= 0 for op in graph.ops) and any(not op.executes for op in graph.ops)
    assert max(edge.target - edge.source for edge in graph.edges) > 150
