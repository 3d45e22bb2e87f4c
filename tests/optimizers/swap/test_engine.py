"""What the engine does when something goes wrong: it never gives wrong numbers, and leaves nothing behind."""

from __future__ import annotations

import copy
import gc
import io
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analyzer.workload import Stepper, Workload
from optimizers.swap.engine import Engine
from optimizers.swap.entries import Entry, Saved
from optimizers.swap.errors import SwapError
from optimizers.swap.fit import timeline_of
from optimizers.swap.hooks import StepHooks
from optimizers.swap.itinerary import Itinerary
from optimizers.swap.make_itinerary import make_itinerary, moves_of
from optimizers.swap.moves import Tier
from optimizers.swap.plan import plan, smallest_budget
from optimizers.swap.swap_file import SwapFile
from optimizers.swap.tracer import trace_step
from tests.optimizers.swap.training_models import training, weights_after

TIER = Tier("disk", 1e9, 1e9, 1e-4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def itinerary_for(name: str, allow: tuple[str, ...] = ("swap",)) -> Itinerary:
    """Return the trips of the smallest budget."""
    trace = trace_step(Stepper(training(name)), timed_steps=1)
    traced = timeline_of(trace, (TIER,), allow)
    low = smallest_budget(traced.timeline, (TIER,), allow)
    found = plan(traced.timeline, low, (TIER,), allow)
    made = make_itinerary(trace, traced, found.moves, 32 << 10)  # type: ignore[union-attr]
    assert set(moves_of(made)) == set(found.moves)  # type: ignore[union-attr]
    return made


def step_with_error(workload: Workload) -> None:
    """Run a step that dies in the middle of its backward."""
    model = workload.model
    first = next(model.parameters())

    def fail(_: torch.Tensor) -> None:
        raise ValueError("the cat sat on the keyboard")

    handle = first.register_hook(fail)
    try:
        with pytest.raises(Exception, match="the cat sat on the keyboard"):
            Stepper(workload).step()
    finally:
        handle.remove()


@pytest.mark.parametrize("allow", [("swap",), ("swap", "recompute")])
def test_a_step_that_dies_half_way_leaves_the_next_one_right(allow: tuple[str, ...], tmp_path: Path) -> None:
    itinerary = itinerary_for("attentive", allow)
    expected = training("attentive")
    step_with_error(expected)
    workload = training("attentive")
    engine = Engine(workload.model, itinerary, tmp_path, workload.optimizer)
    step_with_error(workload)
    assert weights_after(workload, 3) == weights_after(expected, 3)
    assert not list(tmp_path.iterdir())
    engine.close()


def test_a_write_that_fails_keeps_the_memory_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    itinerary = itinerary_for("attentive")
    calls = iter(range(10**6))
    write = SwapFile.write

    def full(file: SwapFile, *where: object) -> None:
        if next(calls) > 20:
            raise OSError(28, "No space left on device")
        write(file, *where)  # type: ignore[arg-type]

    monkeypatch.setattr(SwapFile, "write", full)
    workload = training("attentive")
    engine = Engine(workload.model, itinerary, tmp_path, workload.optimizer)
    with caplog.at_level(logging.WARNING, "hotbench"):
        assert weights_after(workload, 3) == weights_after(training("attentive"), 3)
    assert engine.trouble
    assert sum("cannot be written" in record.message for record in caplog.records) == 1
    engine.close()


def test_a_read_that_fails_stops_the_step_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    itinerary = itinerary_for("attentive")

    def broken(file: SwapFile, *where: object) -> None:
        raise OSError(5, "Input/output error")

    workload = training("attentive")
    engine = Engine(workload.model, itinerary, tmp_path, workload.optimizer)
    monkeypatch.setattr(SwapFile, "read", broken)
    with pytest.raises(Exception, match=r"the swap file cannot be read back .*Input/output error"):
        Stepper(workload).step()
    del workload, engine
    gc.collect()


def test_a_file_size_limit_is_refused_before_anything_runs(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from optimizers.swap.swap_file import SwapFile\n"
        "from optimizers.swap.errors import SwapError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n    SwapFile(Path(sys.argv[1]), 64 << 20)\n"
        "except SwapError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert "cannot hold the 67,108,864 bytes" in done.stdout
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from optimizers.swap.tier import FileTier\n"
        "tier = FileTier(Path(sys.argv[1]), 8 << 20)\n"
        "tier.copy_out(torch.ones(8 << 20, dtype=torch.uint8).untyped_storage(), 0).ticket.wait()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not list(tmp_path.iterdir())


def test_another_batch_size_keeps_its_tensors_and_its_results(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    itinerary = itinerary_for("attentive", ("swap", "recompute"))

    def halved(workload: Workload) -> Workload:
        inputs = workload.inputs
        workload.inputs = lambda seed: ((inputs(seed)[0][0][:2].clone(),), {})  # type: ignore[operator]
        workload.loss = lambda output, batch: output.square().mean()
        return workload

    workload = halved(training("attentive"))
    engine = Engine(workload.model, itinerary, tmp_path, workload.optimizer)
    with caplog.at_level(logging.WARNING, "hotbench"):
        assert weights_after(workload, 2) == weights_after(halved(training("attentive")), 2)
    assert "this step is not the planned one" in caplog.text
    engine.close()


def test_a_tensor_that_is_changed_after_it_was_saved_is_an_error_as_without_hooks(tmp_path: Path) -> None:
    class Careless(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.tanh(self.inner(x))
            z = y * 2.0
            with torch.no_grad():
                y.add_(1.0)
            return z.sum()

    model = Careless()
    engine = Engine(model, Itinerary(20, (), (), (), (), 0, 4096), tmp_path)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        model(torch.ones(2, 3)).backward()
    engine.close()


def test_saving_the_optimizer_brings_its_state_home(tmp_path: Path) -> None:
    itinerary = itinerary_for("recurrent")
    assert itinerary.state
    workload = training("recurrent")
    engine = Engine(workload.model, itinerary, tmp_path, workload.optimizer)
    weights_after(workload, 2)
    saved = workload.optimizer.state_dict()["state"]  # type: ignore[union-attr]
    engine.close()
    plain = training("recurrent")
    weights_after(plain, 2)
    expected = plain.optimizer.state_dict()["state"]  # type: ignore[union-attr]
    for place, state in expected.items():
        for name, value in state.items():
            assert torch.equal(saved[place][name], value)


def test_state_that_was_brought_home_leaves_again_as_the_next_step_begins(tmp_path: Path) -> None:
    workload = training("recurrent")
    weights_after(workload, 1)
    optimizer = workload.optimizer
    assert optimizer is not None
    trace = trace_step(Stepper(workload), timed_steps=1)
    traced = timeline_of(trace, (TIER,), ("swap",))
    found = plan(traced.timeline, smallest_budget(traced.timeline, (TIER,), ("swap",)), (TIER,), ("swap",))
    itinerary = make_itinerary(trace, traced, found.moves, 32 << 10)  # type: ignore[union-attr]
    assert itinerary.state
    engine = Engine(workload.model, itinerary, tmp_path, optimizer)
    away: list[int] = []

    def count(*_: object) -> None:
        away.append(sum(not value.numel() for state in optimizer.state.values() for value in state.values()))

    handle = workload.model.gates.register_forward_pre_hook(count)  # type: ignore[union-attr, operator]
    stepper, firsts = Stepper(workload), []
    for _ in range(3):
        away.clear()
        stepper.step()
        firsts.append(away[0])
        optimizer.state_dict()
        assert not engine.state.tensors
    assert firsts[0] > 0
    assert firsts == [firsts[0]] * 3
    handle.remove()
    engine.close()


def test_evaluation_and_a_second_forward_are_left_alone(tmp_path: Path) -> None:
    workload = training("attentive")
    engine = Engine(workload.model, itinerary_for("attentive"), tmp_path, workload.optimizer)
    (x,), _ = workload.batch(0)
    with torch.no_grad():
        workload.model(x)
    assert engine.steps == 0
    first = workload.model(x)
    second = workload.model(x)
    assert engine.steps == 1
    (first + second).sum().backward()
    engine.close()


def test_hooks_are_gone_after_detaching(tmp_path: Path) -> None:
    workload = training("recurrent")
    engine = Engine(workload.model, Itinerary(5, (), (), (), (), 0, 4096), tmp_path, workload.optimizer)
    engine.close()
    engine.close()
    assert not workload.model._forward_hooks
    assert not workload.model._forward_pre_hooks
    assert isinstance(engine.hooks, StepHooks)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(SwapError, match="cannot make a swap file"):
        SwapFile(Path("/proc"), 4096)


def test_copies_and_files_of_a_swapped_model_are_plain_and_a_second_plan_is_refused(tmp_path: Path) -> None:
    workload = training("recurrent")
    engine = Engine(workload.model, itinerary_for("recurrent"), tmp_path, workload.optimizer)
    file = io.BytesIO()
    torch.save(workload.model, file)
    file.seek(0)
    for copied in (copy.deepcopy(workload.model), torch.load(file, weights_only=False)):
        copied(workload.batch(0)[0][0]).sum().backward()
        assert engine.steps == 0
        Engine(copied, Itinerary(5, (), (), (), (), 0, 4096), tmp_path).close()
    with pytest.raises(SwapError, match="carries a swap plan already"):
        Engine(workload.model, engine.itinerary, tmp_path)
    engine.close()


def test_what_something_else_still_holds_stays_where_it_is() -> None:
    tensor = torch.ones(5)
    entry = Entry(tensor.untyped_storage())
    kept = Saved(entry, tensor)
    assert entry.is_held_elsewhere()
    del tensor
    assert not entry.is_held_elsewhere()
    assert torch.equal(kept.tensor(), torch.ones(5))


def test_a_forked_process_swaps_nothing_and_does_not_wait_for_threads_that_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workload = training("recurrent")
    engine = Engine(workload.model, itinerary_for("recurrent"), tmp_path, workload.optimizer)
    assert engine.itinerary.state
    weights_after(workload, 2)
    with monkeypatch.context() as forked, caplog.at_level(logging.WARNING, "hotbench"):
        child = os.getpid() + 1
        forked.setattr(os, "getpid", lambda: child)
        with pytest.raises(Exception, match="the process was forked while tensors were swapped"):
            Stepper(workload).step()
    assert "its parent has the swap file" in caplog.text
    engine.close()


def test_a_graph_that_is_kept_is_said_to_keep_its_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workload = training("recurrent")
    engine = Engine(workload.model, itinerary_for("recurrent"), tmp_path, workload.optimizer)
    (x,), _ = workload.batch(0)
    with caplog.at_level(logging.WARNING, "hotbench"):
        held = [workload.model(x) for _ in range(3)]
    assert sum("while its graph is still held" in record.message for record in caplog.records) == 1
    del held
    engine.close()
