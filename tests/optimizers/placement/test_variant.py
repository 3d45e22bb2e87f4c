"""A launch as an experiment's variant: one step of it is one step of all ranks, and its ranks end with it."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from analyzer.record import to_plain
from analyzer.variant import build
from analyzer.workload import Stepper
from optimizers.placement.backends import unavailable
from optimizers.placement.variant import experiment_launch
from tests.optimizers.placement.test_launch import launch, trained_alone


@pytest.mark.skipif(bool(unavailable("grpc")), reason=unavailable("grpc") or "gRPC is there")
def test_a_step_of_the_variant_is_a_step_of_all_ranks() -> None:
    variant = experiment_launch(launch("odd", "grpc"), "two ranks")
    assert (variant.name, variant.threads) == ("two ranks", 1) and to_plain(variant.argument) == variant.argument
    before = _children()
    stepper = Stepper(build(variant.entry, variant.argument))
    (peer,) = _children() - before
    losses = []
    for seed in range(3):
        stepper.redraw(seed)
        losses.append(float(stepper.step()))
    expected, state = trained_alone(2)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected[0]), rtol=1e-6, atol=0)
    for name, parameter in stepper.workload.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), state[name], rtol=1e-5, atol=1e-7)
    assert stepper.workload.training and stepper.workload.evaluate is not None
    del stepper
    gc.collect()
    assert peer not in _children()


def _children() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):  # noqa: PTH208
        try:
            if name.isdigit() and f"PPid:\t{os.getpid()}\n" in open(f"/proc/{name}/status").read():  # noqa: PTH123, SIM115
                found.add(int(name))
        except OSError:
            continue
    return found
