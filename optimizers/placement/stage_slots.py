"""A pipeline over workers: each holds one stage of a model, and its neighbours write into its slots.

Activations go forward and their gradients back, each into memory that was registered for it beforehand: shapes are
static within a pipeline. A stage reads them where they arrived. The step is that of GPipe: all micro-batches forward,
then all backward, so that the result is that of the whole model on the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from optimizers.placement.errors import PlacementError
from optimizers.placement.transport.slots import Delivery, Receiver, Sender
from optimizers.placement.transport.transport import Transport

Loss = Callable[[torch.Tensor, int], torch.Tensor]
"""The loss of the last stage's output for the micro-batch of this number; their sum is the step's."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What one stage hands to the next for a micro-batch."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    @property
    def byte_count(self) -> int:
        """Return its bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def seen_in(self, delivery: Delivery) -> torch.Tensor:
        """Return the tensor that arrived, where it arrived; raise PlacementError for one of another size."""
        if delivery.tensor.numel() != self.byte_count:
            sizes = f"{delivery.tensor.numel()} bytes arrived where {self.shape} of {self.dtype} has {self.byte_count}"
            raise PlacementError(f"{sizes}; give both stages the same handover")
        return delivery.tensor.view(self.dtype).view(self.shape)


class StageSlots:
    """The slots between this stage and its neighbours; stage = rank. Every worker makes it, in the same order.

    handovers: what each stage hands to the next, one fewer than there are workers.
    microbatches: how many are under way in a step, and so how many slots there are.
    """

    def __init__(self, transport: Transport, handovers: Sequence[Handover], microbatches: int) -> None:
        rank, world = transport.rank, transport.world_size
        if len(handovers) != world - 1:
            raise PlacementError(f"{len(handovers)} handovers for {world} stages; give {world - 1}")
        self.microbatches = microbatches
        self.before = handovers[rank - 1] if rank > 0 else None
        self.after = handovers[rank] if rank < world - 1 else None
        self._inputs: Receiver | None = None
        self._input_gradients: Sender | None = None
        self._outputs: Sender | None = None
        self._output_gradients: Receiver | None = None
        if self.before is not None:
            size = max(1, self.before.byte_count)
            self._inputs = Receiver(transport, rank - 1, "activations", size, microbatches)
            self._input_gradients = Sender(transport, rank - 1, "gradients", size, microbatches)
        if self.after is not None:
            size = max(1, self.after.byte_count)
            self._outputs = Sender(transport, rank + 1, "activations", size, microbatches)
            self._output_gradients = Receiver(transport, rank + 1, "gradients", size, microbatches)

    def step(self, stage: torch.nn.Module, inputs: Sequence[torch.Tensor], loss: Loss) -> torch.Tensor | None:
        """Return the step's loss at the last stage, None elsewhere; gradients are added to the stage's parameters.

        inputs: the micro-batches of the first stage, whose number all stages know; unused elsewhere.
        """
        if self.before is None and len(inputs) != self.microbatches:
            raise PlacementError(f"{len(inputs)} micro-batches for {self.microbatches} slots; give as many")
        deliveries: list[Delivery] = []
        entries, exits = [], []
        for number in range(self.microbatches):
            entry = inputs[number] if self.before is None else self._entry(self.before, deliveries)
            output = stage(entry)
            if self.after is None:
                output = loss(output, number)
            else:
                self._hand_over(self.after, output)
            entries.append(entry)
            exits.append(output)
        self._backward(entries, exits, deliveries)
        return torch.stack([part.detach() for part in exits]).sum() if self.after is None else None

    def _entry(self, handover: Handover, deliveries: list[Delivery]) -> torch.Tensor:
        assert self._inputs is not None
        deliveries.append(self._inputs.receive())
        entry = handover.seen_in(deliveries[-1])
        return entry.requires_grad_() if entry.is_floating_point() else entry

    def _hand_over(self, handover: Handover, output: torch.Tensor) -> None:
        assert self._outputs is not None
        if tuple(output.shape) != handover.shape or output.dtype != handover.dtype:
            given = f"a stage made {tuple(output.shape)} of {output.dtype}"
            raise PlacementError(f"{given}, its handover is {handover.shape} of {handover.dtype}; make them equal")
        self._outputs.send(output.detach())

    def _backward(self, entries: list[torch.Tensor], exits: list[torch.Tensor], deliveries: list[Delivery]) -> None:
        for number, (entry, output) in enumerate(zip(entries, exits, strict=True)):
            if self.after is None:
                torch.autograd.backward(output)
            else:
                assert self._output_gradients is not None
                with self._output_gradients.receive() as delivery:
                    torch.autograd.backward(output, self.after.seen_in(delivery))
            if self._input_gradients is not None:
                gradient = torch.zeros_like(entry) if entry.grad is None else entry.grad
                self._input_gradients.send(gradient)
                deliveries[number].release()  # backward has read the activations for the last time
