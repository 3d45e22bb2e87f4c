"""A training loop of several workers whose gradients are written straight to where they are summed.

HOTBENCH_SECRET=$(openssl rand -hex 16) torchrun --nproc-per-node 2 -m examples.data_parallel
"""

from __future__ import annotations

import sys

import torch
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import hotbench
from examples.transformer import CLASSES, training
from hotbench import HotbenchError

STEPS = 5


def train(rank: int) -> tuple[list[float], str]:
    """Return the losses of one worker, each step on a batch of its own, and what carried the gradients.

    Raises HotbenchError where a worker is missing, has another secret, or is lost.
    """
    torch.manual_seed(0)
    workload = training()
    model = DistributedDataParallel(workload.model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses = []
    with hotbench.HookState.open() as state:
        model.register_comm_hook(state, hotbench.ddp_hook)
        for step in range(STEPS):
            batch = workload.batch(step * 1000 + rank)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(*batch[0]), batch[0][0][:, 0] % CLASSES)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses, str(state.transport)


def main() -> int:
    """Return the exit code: 0, or 2 for what the user can mend."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    try:
        losses, transport = train(rank)
    except HotbenchError as error:
        print(f"worker {rank}: {error}", file=sys.stderr)
        return 2
    finally:
        torch.distributed.destroy_process_group()
    print(f"worker {rank}, {transport}, losses:", *(f"{loss:.4f}" for loss in losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
