"""Every example is captured whole."""

import math
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from analyzer.run import load_run, save_run, with_content_id
from analyzer.workload import Stepper, load_workload
from tests.conftest import WORKLOADS

MATMUL_LIKE = ("mm", "bmm", "addmm", "baddbmm", "convolution")


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_op_is_timed_and_joined_and_every_byte_at_the_peak_is_explained(captured, name):
    coverage = captured(name).coverage
    assert (coverage.timed_ops, coverage.joined_ops, coverage.categorised_bytes) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_graph_holds_and_its_edges_join_ops_that_execute(captured, name):
    graph = captured(name).graph.check()
    assert len(graph.edges) > 20
    for edge in graph.edges:
        assert graph.ops[edge.source].executes and graph.ops[edge.target].executes
    for op in graph.ops:
        assert op.executes or (op.flops == 0 and op.bytes_moved == 0)


@pytest.mark.parametrize("name", WORKLOADS)
def test_matmul_like_flops_agree_with_the_frameworks_own_counter(captured, name, example_path):
    workload, _ = load_workload(example_path(name))
    stepper = Stepper(workload)
    with FlopCounterMode(display=False) as counter:
        stepper.step()
    ours = sum(op.flops for op in captured(name).graph.ops if any(part in op.name for part in MATMUL_LIKE))
    assert ours == counter.get_total_flops() > 0


def test_the_cpus_own_attention_counts_as_any_other_attention(captured):
    graph = captured("minilm.py:workload").graph
    calls = [op for op in graph.ops if "flash_attention_for_cpu" in op.name]
    assert len(calls) == 6
    for op in calls:
        assert op.executes and op.flops == sdpa_flop_count(*(graph.tensors[index].shape for index in op.inputs[:3]))


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_categories_at_the_peak_sum_to_it_and_parameters_are_the_models(captured, name, example_path):
    run, (workload, _) = captured(name), load_workload(example_path(name))
    state = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
             for t in (*workload.model.parameters(), *workload.model.buffers())}  # fmt: skip
    assert run.memory.at_peak["parameter"] == sum(state.values())
    assert sum(run.memory.at_peak.values()) == run.memory.peak_bytes
    assert max(live for _, live in run.memory.timeline) == run.memory.peak_bytes


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_run_survives_saving(captured, name, tmp_path):
    run = captured(name)
    save_run(run, tmp_path / "run")
    assert load_run(tmp_path / "run") == run
    assert with_content_id(run).id == run.id


@pytest.mark.parametrize("name", ["lstm.py:workload", "lstm.py:training", "gru_variant.py:workload"])
def test_the_recurrent_examples_have_over_a_thousand_ops_in_the_data_flow(captured, name):
    graph = captured(name).graph
    assert sum(op.executes for op in graph.ops) > 1000 and len(graph.edges) > 1000


def test_self_times_add_up_to_no_more_than_the_profiled_step(captured):
    run = captured("transformer.py:training")
    total = math.fsum(op.self_seconds.median for op in run.graph.ops if op.self_seconds is not None)
    assert 0.3 * run.step_seconds.median < total < 3 * run.step_seconds.median


@pytest.mark.parametrize("name", ["transformer.py:training", "lstm.py:training"])
def test_a_training_step_has_three_phases_and_backward_ops_know_their_module(captured, name):
    graph = captured(name).graph
    assert {"forward", "backward", "optimizer"} <= {op.phase for op in graph.ops}
    for op in graph.ops:
        if op.forward_op >= 0:
            assert op.phase == "backward" and graph.ops[op.forward_op].phase == "forward"
            assert op.scope == graph.ops[op.forward_op].scope
    products = [op for op in graph.ops if op.phase == "backward" and op.name in ("aten::mm", "aten::bmm")]
    assert products and all(op.forward_op >= 0 and op.source for op in products)


def test_scopes_are_module_paths(captured, example_path):
    workload, _ = load_workload(example_path("transformer.py:training"))
    paths = {name for name, _ in workload.model.named_modules()}
    found = {op.scope for op in captured("transformer.py:training").graph.ops}
    assert found <= paths
    assert {"encoder.layers.0.attention.query_key_value", "encoder.layers.3.output_norm", "head"} <= found


def test_an_op_is_attributed_to_the_line_that_ran_it(captured, example_path):
    text = Path(example_path("transformer.py")).read_text().splitlines()
    for op in captured("transformer.py:encoder").graph.ops:
        file, _, line = op.source.partition(":")
        assert file == "transformer.py"
        if op.name == "aten::softmax":
            assert "torch.softmax(" in text[int(line) - 1]
        if op.name == "aten::gelu":
            assert "functional.gelu(" in text[int(line) - 1]


def test_the_weights_product_of_the_lstm_depends_on_the_state_of_the_step_before(captured):
    graph = captured("lstm.py:workload").graph
    products = [op for op in graph.ops if op.name == "aten::mm"]
    for op in products[3::2]:
        writers = {graph.ops[edge.source].name for edge in graph.edges if edge.target == op.index}
        assert "aten::mul" in writers


def test_gradients_and_optimizer_state_have_the_bytes_of_the_parameters(captured, example_path):
    run = captured("transformer.py:training")
    sizes: dict[str, dict[int, int]] = {}
    for tensor in run.graph.tensors:
        if 0 not in tensor.strides:
            storages = sizes.setdefault(tensor.category, {})
            storages[tensor.storage] = max(tensor.nbytes, storages.get(tensor.storage, 0))
    workload, _ = load_workload(example_path("transformer.py:training"))
    expected = sum(parameter.nbytes for parameter in workload.model.parameters())
    assert sum(sizes["parameter"].values()) == expected
    assert sum(sizes["gradient"].values()) == expected
    steps = 4 * len(list(workload.model.parameters()))
    assert sum(sizes["optimizer_state"].values()) == 2 * expected + steps


def test_the_profilers_own_memory_view_has_the_same_parameters_and_optimizer_state(captured, example_path):
    from torch.profiler import ProfilerActivity, profile
    from torch.profiler import _memory_profiler as oracle

    workload, _ = load_workload(example_path("transformer.py:training"))
    stepper = Stepper(workload)
    for _ in range(2):
        stepper.step()
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=True, with_stack=True
    ) as profiler:
        stepper.step()
    view = profiler._memory_profile()
    sizes = {}
    for _, action, (key, version), size in view.timeline:
        if action in (oracle.Action.PREEXISTING, oracle.Action.CREATE):
            category = view._categories.get(key, version)
            sizes[category] = sizes.get(category, 0) + size
    at_peak = captured("transformer.py:training").memory.at_peak
    assert at_peak["parameter"] == sizes[oracle.Category.PARAMETER]
    assert at_peak["optimizer_state"] == sizes[oracle.Category.OPTIMIZER_STATE]
    gradients = {
        tensor.storage: tensor.nbytes
        for tensor in captured("transformer.py:training").graph.tensors
        if tensor.category == "gradient" and 0 not in tensor.strides
    }
    assert sum(gradients.values()) == sizes[oracle.Category.GRADIENT]


def test_capture_leaves_the_thread_count_alone(captured):
    before = torch.get_num_threads()
    captured("cnn.py:workload")
    assert torch.get_num_threads() == before
