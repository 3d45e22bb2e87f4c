import textwrap

import pytest
import torch

from analyzer.errors import HotbenchError, WorkloadError
from analyzer.workload import (
    Stepper,
    Workload,
    items_per_step,
    load_workload,
    rebuild_workload,
    seeded,
    state_hash,
)

HEADER = """
import torch
from analyzer.workload import Workload, seeded
"""


@pytest.fixture
def write(tmp_path):
    def write_file(body: str, name: str = "case.py") -> str:
        path = tmp_path / name
        path.write_text(HEADER + textwrap.dedent(body))
        return str(path)

    return write_file


GOOD = """
def workload():
    return Workload(model=torch.nn.Linear(3, 5), inputs=lambda seed: ((torch.randn(7, 3, generator=seeded(seed)),), {}))
"""


def test_a_workload_is_built_from_the_seed_alone(write):
    path = write(GOOD)
    first, reference = load_workload(f"{path}:workload")
    second, again = load_workload(f"{path}:workload")
    assert reference == again
    assert torch.equal(first.model.weight, second.model.weight)
    other, changed = load_workload(f"{path}:workload", seed=1)
    assert changed.state_hash != reference.state_hash
    assert not torch.equal(first.model.weight, other.model.weight)


def test_the_reference_rebuilds_the_same_workload(write):
    path = write(GOOD)
    workload, reference = load_workload(f"{path}:workload")
    rebuilt = rebuild_workload(reference)
    assert torch.equal(Stepper(rebuilt).step(), Stepper(workload).step())


def test_a_changed_source_is_refused(write):
    path = write(GOOD)
    _, reference = load_workload(f"{path}:workload")
    write(GOOD + "\n# edited\n")
    with pytest.raises(WorkloadError, match="has changed since"):
        rebuild_workload(reference)


def test_a_factory_that_ignores_the_seed_is_refused(write):
    path = write("""
    import itertools
    counter = itertools.count()
    import os, time

    def workload():
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, time.perf_counter_ns() % 1000003)
        return Workload(model=model, inputs=(torch.randn(1, 2),))
    """)
    _, reference = load_workload(f"{path}:workload")
    with pytest.raises(WorkloadError, match="depend on the seed alone"):
        rebuild_workload(reference)


@pytest.mark.parametrize(
    ("body", "function", "message"),
    [
        (GOOD, "missing", "no function 'missing'; it has: workload"),
        ("def workload():\n    raise KeyError('bad')\n", "workload", "raised KeyError"),
        ("def workload():\n    return 3\n", "workload", "returned a int"),
        ("import nothing_like_this\n", "workload", "cannot be imported: ModuleNotFoundError"),
        ("def workload(:\n", "workload", "SyntaxError"),
        ("def workload():\n    return Workload(model=3, inputs=())\n", "workload", "give a torch.nn.Module"),
        (
            "def workload():\n    return Workload(model=torch.nn.Linear(1, 1), inputs=3)\n",
            "workload",
            "give a function of the seed",
        ),
        (
            "def workload():\n    return Workload(model=torch.nn.Linear(1, 1), inputs=(), loss=lambda o, b: o)\n",
            "workload",
            "a loss but no optimizer",
        ),
    ],
)
def test_bad_files_give_one_clear_line(write, body, function, message):
    path = write(body)
    with pytest.raises(HotbenchError, match=message) as caught:
        load_workload(f"{path}:{function}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.py:workload", "nocolon.py", ":workload", "x.py:"])
def test_bad_names_give_one_clear_line(name):
    with pytest.raises(WorkloadError, match=r"no file|names no workload"):
        load_workload(name)


def test_a_step_that_raises_is_one_line(write):
    path = write("""
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x @ torch.ones(11, 2)

    def workload():
        return Workload(model=Broken(), inputs=lambda seed: ((torch.ones(2, 3),), {}))
    """)
    workload, _ = load_workload(f"{path}:workload")
    with pytest.raises(WorkloadError, match="step raised RuntimeError: mat1 and mat2") as caught:
        Stepper(workload).step()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [("torch.ones(2)", "returned a Tensor"), ("(torch.ones(2), {})", r"\(Tensor, dict\)"), ("1 / 0", "ZeroDivision")],
)
def test_inputs_of_another_shape_are_refused(write, returned, message):
    path = write(f"""
    def workload():
        return Workload(model=torch.nn.Linear(2, 2), inputs=lambda seed: {returned})
    """)
    workload, _ = load_workload(f"{path}:workload")
    with pytest.raises(WorkloadError, match=message):
        Stepper(workload)


def test_a_missing_input_is_one_line(write):
    path = write("""
    def workload():
        return Workload(model=torch.nn.Linear(2, 2), inputs=lambda seed: ((), {}))
    """)
    workload, _ = load_workload(f"{path}:workload")
    with pytest.raises(WorkloadError, match=r"step raised TypeError: .*missing 1 required"):
        Stepper(workload).step()


def test_a_tuple_of_tensors_redraws_its_floating_ones_only():
    mask = torch.zeros(5).masked_fill(torch.arange(5) > 2, -torch.inf)
    tokens = torch.arange(5)
    workload = Workload(model=torch.nn.Identity(), inputs=(mask, tokens))
    (same, same_tokens), _ = workload.batch(0)
    (shuffled, shuffled_tokens), _ = workload.batch(4)
    assert torch.equal(same, mask) and torch.equal(same_tokens, tokens)
    assert torch.equal(shuffled.sort().values, mask.sort().values) and torch.equal(shuffled_tokens, tokens)
    assert torch.equal(workload.batch(4)[0][0], shuffled)


def test_training_steps_change_the_parameters_and_inference_does_not():
    model = torch.nn.Linear(3, 1)
    before = state_hash(model)
    inference = Workload(model=model, inputs=(torch.ones(2, 3),))
    Stepper(inference).step()
    assert state_hash(model) == before
    training = Workload(
        model=model,
        inputs=(torch.ones(2, 3),),
        loss=lambda output, batch: output.sum(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    assert training.training
    Stepper(training).step()
    assert state_hash(model) != before


def test_the_users_own_step_is_used():
    seen = []
    workload = Workload(
        model=torch.nn.Identity(), inputs=lambda seed: ((seed,), {}), step=lambda model, batch: seen.append(batch)
    )
    stepper = Stepper(workload, seed=3)
    stepper.step()
    stepper.redraw(5)
    stepper.step()
    assert seen == [((3,), {}), ((5,), {})]


def test_items_are_rows_of_the_first_tensor():
    assert items_per_step((("text", torch.ones(7, 2)), {})) == 7
    assert items_per_step(((torch.tensor(1.0),), {"x": torch.ones(3)})) == 3
    assert items_per_step((("none",), {})) == 1


def test_the_state_hash_sees_names_shapes_and_values():
    model = torch.nn.Linear(4, 4)
    first = state_hash(model)
    with torch.no_grad():
        model.weight[0, 0] += 1
    assert state_hash(model) != first
    assert state_hash(torch.nn.Identity()) == state_hash(torch.nn.Identity())


def test_seeded_generators_repeat():
    assert torch.equal(torch.rand(3, generator=seeded(9)), torch.rand(3, generator=seeded(9)))
