"""An unrolled LSTM fused in one line, for inference, and a training step of it through torch.compile.

python -m examples.fuse
"""

from __future__ import annotations

import sys

import torch

import hotbench
from analyzer.workload import Stepper, Workload
from examples.lstm import training, workload

STEPS = 3


def fuse_inference(given: Workload) -> tuple[torch.nn.Module, float]:
    """Return the fused model, or the model itself where nothing is faster, and its max|a-b| from eager."""
    arguments, _ = given.batch(0)
    fused = hotbench.optimize(given.model.eval(), arguments)
    with torch.no_grad():
        difference = fused(*arguments) - given.model(*arguments)
    return fused, float(difference.abs().max())


def train(given: Workload) -> list[float]:
    """Return the loss of each step, forward and backward compiled where that is measured to be faster."""
    given.model.compile(backend="hotbench")
    stepper = Stepper(given)
    return [float(stepper.step()) for _ in range(STEPS)]


def main() -> int:
    """Return the exit code, after both were done and what was decided is printed."""
    given = workload()
    fused, difference = fuse_inference(given)
    print("left as it is" if fused is given.model else f"fused: largest difference {difference:.2g}")
    print("losses:", *(f"{loss:.4f}" for loss in train(training())))
    print(*hotbench.backend.decisions, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
