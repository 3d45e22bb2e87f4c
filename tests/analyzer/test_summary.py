import math

from analyzer.summary import group_by_name, profile_summary, show_summary
from tests.synthetic import Call, make_run

RUN = make_run(
    [Call("aten::mm", 3e-5, flops=100.0), Call("aten::add", 1e-5, (0,)), Call("aten::mm", 1e-5, (1,), flops=50.0)]
)


def test_ops_are_grouped_by_name_the_slowest_first():
    first, second = group_by_name(RUN.graph.ops)
    assert (first["name"], first["count"], first["flops"]) == ("aten::mm", 2, 150.0)
    assert math.isclose(first["self_seconds"], 4e-5) and math.isclose(first["share"], 0.8)
    assert second["name"] == "aten::add" and math.isclose(first["share"] + second["share"], 1.0)


def test_only_the_asked_number_of_names_is_shown():
    assert [op["name"] for op in show_summary(RUN, 1)["ops"]] == ["aten::mm"]
    assert show_summary(RUN, 0)["ops"] == [] and show_summary(make_run([]), 5)["ops"] == []


def test_memory_is_by_category_with_the_peak_beside_it():
    assert show_summary(RUN, 1)["memory"] == {"input": 512, "temporary": 3584, "peak": 4096}


def test_the_profile_has_the_counts_of_the_graph():
    summary = profile_summary(RUN)
    assert (summary["ops"], summary["edges"], summary["peak_bytes"]) == (3, 2, 4096)
    assert summary["device"]["kind"] == "cpu" and summary["overhead"]["unit"] == "x"
