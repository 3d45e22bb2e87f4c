"""Edges and storages on models whose data flow is known by hand."""

import torch

from analyzer.workload import Workload
from tests.analyzer.capture.small import capture_function, capture_workload, executed, line_of, sources


def test_a_reader_depends_on_a_write_through_another_view():
    def function(x):
        base = x * 2.0
        part = base[2:5]
        part.add_(1.0)
        return base.exp()

    graph = capture_function(function, torch.rand(7)).graph
    (exp,) = executed(graph, "exp")
    assert {"add_", "mul"} <= sources(graph, exp)
    (add,) = executed(graph, "add_")
    assert add.mutates and graph.tensors[add.mutates[0]].storage == graph.tensors[add.outputs[0]].storage


def test_a_write_beside_the_part_that_is_read_makes_no_edge():
    def function(x):
        base = x * 2.0
        base[0:3].add_(1.0)
        return base[3:7].exp()

    graph = capture_function(function, torch.rand(7)).graph
    (exp,) = executed(graph, "exp")
    assert "mul" in sources(graph, exp) and "add_" not in sources(graph, exp)


def test_a_write_of_the_whole_hides_earlier_ones():
    def function(x):
        base = x * 2.0
        base.sin_()
        base.cos_()
        return base.exp()

    graph = capture_function(function, torch.rand(5)).graph
    (exp,) = executed(graph, "exp")
    assert sources(graph, exp) == {"cos_"}


def test_an_out_argument_is_a_writer():
    def function(x):
        out = torch.empty(5)
        torch.mul(x, x, out=out)
        return out.exp()

    graph = capture_function(function, torch.rand(5)).graph
    (exp,) = executed(graph, "exp")
    assert sources(graph, exp) == {"mul"}


def test_tensor_lists_are_followed_both_ways():
    def function(x):
        a, b, c = (x * 2.0).chunk(3)
        return torch.cat([c.exp(), a.sin(), b.cos()])

    graph = capture_function(function, torch.rand(9)).graph
    (cat,) = executed(graph, "cat")
    assert sources(graph, cat) == {"exp", "sin", "cos"}
    assert len(cat.inputs) == 3
    offsets = {name: graph.tensors[executed(graph, name)[0].inputs[0]].offset for name in ("sin", "cos", "exp")}
    assert offsets == {"sin": 0, "cos": 3, "exp": 6}
    assert all("mul" in sources(graph, executed(graph, name)[0]) for name in offsets)


def test_recycled_memory_is_new_storage():
    def function(x):
        total = x.sum()
        for _ in range(6):
            block = x * 3.0
            total = total + block.sum()
            del block
        return total

    graph = capture_function(function, torch.rand(4099)).graph
    products = executed(graph, "mul")
    storages = [graph.tensors[op.outputs[0]].storage for op in products]
    assert len(set(storages)) == 6
    sums = [op for op in executed(graph, "sum") if "mul" in sources(graph, op)]
    assert len(sums) == 6
    for product, total in zip(products, sums, strict=True):
        assert [edge.source for edge in graph.edges if edge.target == total.index] == [product.index]


def test_composite_ops_hand_their_work_on_and_kernels_with_helpers_keep_it():
    def function(x, w, b):
        return torch.nn.functional.linear(x, w, b).sum(0) + torch.ones_like(b)

    graph = capture_function(function, torch.rand(3, 5), torch.rand(7, 5), torch.rand(7)).graph
    assert not executed(graph, "linear") and not executed(graph, "t") and not executed(graph, "ones_like")
    (addmm,) = executed(graph, "addmm")
    assert addmm.flops == 2 * 3 * 5 * 7
    assert len(executed(graph, "sum")) == 1 and sources(graph, executed(graph, "sum")[0]) == {"addmm"}


def test_a_view_is_a_tensor_of_its_own_on_the_same_storage():
    graph = capture_function(lambda x: x.exp().t() + 1.0, torch.rand(3, 5)).graph
    (exp,), (add,) = executed(graph, "exp"), executed(graph, "add")
    written, read = graph.tensors[exp.outputs[0]], graph.tensors[add.inputs[0]]
    assert written.storage == read.storage and written.index != read.index
    assert (read.shape, read.strides) == ((5, 3), (1, 5))
    assert sources(graph, add) == {"exp", "as_strided"}


def test_empty_tensors_and_scalars_are_captured():
    run = capture_function(lambda x: (x[:0] + 1.0).sum() * 2.0, torch.rand(3))
    assert run.coverage.joined_ops == 1.0
    (add,) = executed(run.graph, "add")
    assert add.flops == 0 and add.bytes_moved <= 8


def test_a_model_that_does_nothing_gives_an_empty_graph():
    run = capture_function(lambda x: x, torch.rand(3))
    assert run.graph.ops == () and run.graph.edges == () and run.coverage.timed_ops == 1.0


def test_arguments_carry_their_names():
    graph = capture_function(lambda x: x.sum(dim=1, keepdim=True), torch.rand(3, 5)).graph
    (total,) = executed(graph, "sum")
    assert total.arguments == '[["dim",[1]],["keepdim",true],["dtype",null]]'


def lines(x):
    doubled = x @ x.t()
    result = doubled * torch.sigmoid(doubled)
    return nested(result) + 1.0


def nested(x):
    return x - 0.5


def test_slot_calls_and_builtins_find_their_own_line():
    graph = capture_function(lines, torch.rand(3, 4)).graph
    for name, text in (("mm", "x @ x.t()"), ("sigmoid", "torch.sigmoid"), ("mul", "doubled"), ("add", "+ 1.0")):
        assert executed(graph, name)[0].source.endswith(line_of(lines, text)) or name == "mul"
    assert executed(graph, "sub")[0].source.endswith(line_of(nested, "x - 0.5"))


def test_the_optimizer_has_no_line_of_the_users():
    model = torch.nn.Linear(3, 2)
    run = capture_workload(
        Workload(
            model=model, inputs=(torch.rand(5, 3),), loss=lambda output, batch: output.square().mean(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        )
    )  # fmt: skip
    updates = [op for op in run.graph.ops if op.phase == "optimizer" and op.name == "aten::add_"]
    assert len(updates) == 2 and all(op.source == "" for op in updates)
    loss = [op for op in run.graph.ops if op.phase == "forward" and op.name == "aten::mean"]
    assert "test_dataflow.py:" in loss[0].source


def test_a_step_of_the_users_own_is_captured_with_its_optimizer():
    model = torch.nn.Linear(33, 7)
    optimizer = torch.optim.Adam(model.parameters(), foreach=False)

    def step(model, batch):
        optimizer.zero_grad()
        loss = model(batch[0][0]).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    run = capture_workload(Workload(model=model, inputs=(torch.rand(5, 33),), step=step))
    size = 4 * (33 * 7 + 7)
    assert run.memory.at_peak["parameter"] == size and run.memory.at_peak["optimizer_state"] == 2 * size + 2 * 4
    assert run.coverage.categorised_bytes == 1.0
    updates = [op for op in run.graph.ops if op.name == "aten::addcdiv_"]
    assert {op.phase for op in updates} == {"optimizer"}
    assert all(op.source.endswith(line_of(step, "optimizer.step()")) for op in updates)
    products = [op for op in run.graph.ops if op.phase == "backward" and op.name == "aten::mm"]
    assert products and all(op.source.endswith(line_of(step, "model(batch")) for op in products)


def test_a_control_flow_that_changes_from_step_to_step_lowers_the_coverage():
    def capture_with(third_sine_in_call):
        calls = []

        def function(x):
            calls.append(None)
            for _ in range(2 + (len(calls) == third_sine_in_call)):
                x = x.sin()
            return x.cos()

        return capture_function(function, torch.rand(9)), len(calls)

    # The graph pass runs last; only its step has the third sine.
    _, last_call = capture_with(None)
    run, calls = capture_with(last_call)
    assert calls == last_call and len(executed(run.graph, "sin")) == 3
    assert run.coverage.timed_ops == 0.75
    assert sum(op.self_seconds is None for op in run.graph.ops) == 1
