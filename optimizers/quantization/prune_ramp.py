"""Sparsity that grows while the rest of the weights learn to do without.

Source of the ramp: Zhu and Gupta 2017, arXiv:1710.01878.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from optimizers.quantization.checkpoint import read_checkpoint, write_checkpoint
from optimizers.quantization.methods.prune import kept_weights
from optimizers.quantization.targets import matrix


def ramp(final: float, step: int, steps: int) -> float:
    """Return the sparsity after `step` of `steps`: fast at first, slowly at the end, `final` from then on."""
    return final * (1.0 - (1.0 - min(step / steps, 1.0)) ** 3) if steps else final


class PruneRamp:
    """Weights of a model that become sparser from step to step; those that stay are trained.

    sparsity: by parameter name, at the end.    steps: that raise it.
    """

    def __init__(self, model: torch.nn.Module, sparsity: Mapping[str, float], steps: int, learning_rate: float) -> None:
        self._final, self._ramp_steps, self.steps = dict(sparsity), steps, 0
        self._parameters = {name: model.get_parameter(name) for name in sparsity}
        self.optimizer = torch.optim.Adam(
            [{"params": [p], "lr": learning_rate * float(p.detach().abs().mean())} for p in self._parameters.values()],
            betas=(0.9, 0.99),
        )
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)

    def step(self) -> None:
        """Move the weights by their gradients, then set the smallest to zero: as many as the ramp says by now."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.write()

    @torch.no_grad()
    def write(self) -> None:
        """Set the smallest weights to zero."""
        for name, parameter in self._parameters.items():
            kept = kept_weights(matrix(parameter), ramp(self._final[name], self.steps, self._ramp_steps))
            parameter.mul_(torch.from_numpy(kept).reshape(parameter.shape))

    def save(self, path: str | Path) -> None:
        """Write all that going on needs."""
        tensors = {f"value/{name}": parameter.detach() for name, parameter in self._parameters.items()}
        for name, parameter in self._parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        write_checkpoint(path, tensors, {"steps": str(self.steps), "weights": self._fingerprint()})

    @torch.no_grad()
    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint. Raises CompressionError for one that is damaged or of something else."""
        tensors, self.steps = read_checkpoint(path, self._fingerprint())
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"value/{name}"])
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step/{name}" in tensors:
                self.optimizer.state[parameter] = {key: tensors[f"{key}/{name}"] for key in keys}

    def _fingerprint(self) -> str:
        shapes = {name: list(parameter.shape) for name, parameter in self._parameters.items()}
        text = json.dumps([self._final, self._ramp_steps, shapes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
