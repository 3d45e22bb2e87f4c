"""An encoder compressed under a gate: int8 for most of it, a 4-bit codebook for one layer, fine-tuned.

python -m examples.compress --output small        writes the compressed model and loads it again
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import hotbench
from examples.transformer import encoder
from hotbench import Gate, HotbenchError, Rule, Schedule

RULES = (Rule(torch.nn.Linear, method="int8"), Rule("layers.0.expand", method="kmeans", bits=4, fit="gptq"))
BATCHES, CALIBRATION_BATCHES, TUNING_STEPS = 4, 8, 4


def compress_and_save(folder: Path) -> str:
    """Return what became smaller, and by how much the reloaded answers differ from the saved ones.

    Raises HotbenchError where the gate does not pass or the folder cannot be written.
    """
    workload = encoder()
    batches = [workload.batch(seed) for seed in range(BATCHES)]
    calibration = [workload.batch(100 + seed) for seed in range(CALIBRATION_BATCHES)]
    process = Schedule(calibration=calibration, finetune="centroids", steps=TUNING_STEPS)
    answer = hotbench.compress(
        workload.model, RULES, inputs=batches, process=process, gate=Gate(min_agreement=0.9, min_cosine=0.99)
    )
    if isinstance(answer, hotbench.Refusal):
        raise HotbenchError(answer.reason)
    arguments, _ = workload.batch(1000)
    hotbench.save(answer, folder, arguments)
    loaded = hotbench.load(folder)
    with torch.no_grad():
        difference = float((loaded(*arguments) - answer.model(*arguments)).abs().max())
    return f"{answer.summary()}; reloaded from {folder}: largest difference {difference:g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("small"), help="folder that the compressed model goes to")
    try:
        print(compress_and_save(parser.parse_args(arguments).output))
    except HotbenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
