from __future__ import annotations

import torch

from analyzer.peak import AllocatorChange, _corrected, peak_live_bytes, state_bytes
from analyzer.workload import Stepper, Workload, prepare, seeded


def stepper(model: torch.nn.Module, trains: bool = False) -> Stepper:
    workload = Workload(
        model,
        lambda seed: ((torch.randn(51, 100, generator=seeded(seed)),), {}),
        loss=(lambda output, batch: output.sum()) if trains else None,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if trains else None,
    )
    prepare(workload)
    return Stepper(workload)


def bytes_of_others() -> int:
    """Return the bytes of the tensors that other tests have left alive in this process."""
    return peak_live_bytes(stepper(torch.nn.Identity())) - 51 * 100 * 4


def test_the_peak_of_an_inference_step_is_what_lives_at_once() -> None:
    others = bytes_of_others()
    model = torch.nn.Sequential(torch.nn.Linear(100, 203), torch.nn.ReLU(), torch.nn.Linear(203, 10))
    running = stepper(model)
    # Linear and ReLU outputs live together while the ReLU runs.
    assert peak_live_bytes(running) - others == state_bytes(model) + 51 * 100 * 4 + 2 * 51 * 203 * 4


def test_the_peak_repeats() -> None:
    running = stepper(torch.nn.Linear(100, 33), trains=True)
    assert peak_live_bytes(running) == peak_live_bytes(running)


def test_training_holds_gradients_and_optimizer_state() -> None:
    others = bytes_of_others()
    model = torch.nn.Linear(100, 33)
    running = stepper(model, trains=True)
    running.step()
    assert peak_live_bytes(running) - others >= 3 * state_bytes(model) + 51 * 100 * 4


def test_shared_storage_counts_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(7, 7, bias=False), torch.nn.Linear(7, 7, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("row", model[0].weight.detach()[3])
    assert state_bytes(model) == 7 * 7 * 4


def test_a_model_without_state_has_no_bytes() -> None:
    assert state_bytes(torch.nn.Identity()) == 0


def test_sizes_of_memory_from_before_the_recording_are_its_own_not_the_profiler_s() -> None:
    seen = [AllocatorChange(1, 100, -7), AllocatorChange(2, 100, 40), AllocatorChange(3, 100, -40),
            AllocatorChange(4, 200, -30), AllocatorChange(5, 300, 9)]  # fmt: skip
    found = _corrected(seen, {100: 64})
    assert [change.bytes for change in found] == [-64, 40, -40, 0, 9]
