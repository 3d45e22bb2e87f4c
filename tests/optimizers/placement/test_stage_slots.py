"""A model in stages over workers: its loss and its gradients are those of the model in one piece."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch

from optimizers.placement.errors import PlacementError
from optimizers.placement.stage_slots import Handover, StageSlots
from optimizers.placement.transport import Transport
from tests.optimizers.placement.transport import worlds

MICROBATCHES = 3
WIDTHS = (5, 9, 8, 4)


def _stages() -> list[torch.nn.Module]:
    torch.manual_seed(1)
    return [torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.Tanh()) for a, b in pairwise(WIDTHS)]


def _parts(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(6, WIDTHS[0], generator=generator) for _ in range(MICROBATCHES)]


def _loss(output: torch.Tensor, number: int) -> torch.Tensor:
    return output.square().mean() * (number + 1)


@pytest.mark.parametrize("network", [False, True])
def test_three_stages_train_as_the_model_in_one_piece(network):
    stages = _stages()
    whole = copy.deepcopy(torch.nn.Sequential(*stages))
    losses = []
    for step in range(2):
        total = torch.stack([_loss(whole(part), number) for number, part in enumerate(_parts(step))]).sum()
        total.backward()
        losses.append(total.detach())

    def body(transport: Transport) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        stage = stages[transport.rank]
        slots = StageSlots(transport, [Handover((6, 9)), Handover((6, 8))], MICROBATCHES)
        made = [slots.step(stage, _parts(step) if transport.rank == 0 else [], _loss) for step in range(2)]
        return [parameter.grad for parameter in stage.parameters()], made

    results = worlds.run(3, body, **(worlds.tcp() if network else {}))
    gradients = [gradient for own, _ in results for gradient in own]
    for got, wanted in zip(gradients, whole.parameters(), strict=True):
        torch.testing.assert_close(got, wanted.grad)
    assert results[0][1] == results[1][1] == [None, None]
    torch.testing.assert_close(results[2][1], losses)


def test_an_output_that_is_not_the_handover_is_refused_with_both_shapes():
    def body(transport: Transport) -> None:
        slots = StageSlots(transport, [Handover((6, 9))], 1)
        if transport.rank == 0:
            with pytest.raises(PlacementError, match=r"made \(6, 4\) of torch.float32, its handover is \(6, 9\)"):
                slots.step(torch.nn.Linear(5, 4), [torch.zeros(6, 5)], _loss)

    worlds.run(2, body)


def test_a_wrong_number_of_handovers_or_of_micro_batches_is_refused():
    def body(transport: Transport) -> None:
        with pytest.raises(PlacementError, match="0 handovers for 2 stages; give 1"):
            StageSlots(transport, [], 1)
        slots = StageSlots(transport, [Handover((2, 2))], 2)
        if transport.rank == 0:
            with pytest.raises(PlacementError, match="1 micro-batches for 2 slots; give as many"):
                slots.step(torch.nn.Identity(), [torch.zeros(2, 2)], _loss)

    worlds.run(2, body)
