"""Fine-tuning of what compressed weights share, as an object for anyone's training loop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from optimizers.quantization.checkpoint import read_checkpoint, write_checkpoint
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.targets import matrix
from optimizers.quantization.tuned_values import TUNED, dense, finished, gradients, tuned_values, with_values

LEARNING_RATE = 0.001


class Tuning:
    """Weights of a model that stay compressed while it learns: only the values that they share move.

    In a loop of one's own (the model's other parameters stay with one's own optimizer):

        tuning = hotbench.Tuning(model, compressed.weights)
        for batch in batches:
            loss(model(batch)).backward()
            tuning.step()
        smaller = tuning.weights()

    The model's weights are overwritten by what their compressed form stands for, at once and after every step.
    learning_rate is relative to the spread of each weight's values; steps are Adam's.
    Raises CompressionError for a name that the model has not, or a weight of another shape.
    """

    def __init__(
        self, model: torch.nn.Module, weights: Mapping[str, CompressedWeight], learning_rate: float = LEARNING_RATE
    ) -> None:
        self._parameters = {name: _parameter(model, name, weight) for name, weight in weights.items()}
        self._start, self._shared = dict(weights), _once(weights)
        self._values = {name: tuned_values(weights[name]) for name in self._shared}
        self._steps = 0
        groups = [
            {"params": list(values.values()), "lr": learning_rate * _spread(weights[name])}
            for name, values in self._values.items()
            if values
        ]
        if not groups:
            raise CompressionError(f"none of the weights has values to tune; these have: {', '.join(TUNED)}")
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        self.write()

    @property
    def steps(self) -> int:
        """Return the steps that were made."""
        return self._steps

    def parameters(self) -> Iterator[torch.Tensor]:
        """Return the shared values, for an optimizer of one's own between `gather` and `write`."""
        for values in self._values.values():
            yield from values.values()

    def step(self) -> None:
        """Move the shared values by the summed gradients of the weights that share them, and write the weights."""
        self.gather()
        self.optimizer.step()
        self._steps += 1
        self.write()

    def gather(self) -> None:
        """Set the shared values' gradients from the weights' gradients, and clear these.

        Raises CompressionError for gradients that are not finite: the values stay as they were.
        """
        found: dict[str, dict[str, torch.Tensor]] = {}
        for name in self._values:
            gradient = self._gradient(name)
            if gradient is not None and self._values[name]:
                if not bool(torch.isfinite(gradient).all()):
                    raise CompressionError(f"the gradient of {name} is not finite; lower the learning rate")
                found[name] = gradients(self._weight(name), matrix(gradient))
        for name, values in self._values.items():
            for key, value in values.items():
                value.grad = found[name][key] if name in found else None
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Overwrite the model's weights by what the shared values stand for."""
        for name in self._values:
            values = torch.from_numpy(dense(self._weight(name), torch.get_num_threads()))
            for other in self._shared[name]:
                parameter = self._parameters[other]
                parameter.copy_(values.reshape(parameter.shape))

    def weights(self) -> dict[str, CompressedWeight]:
        """Return the compressed weights as tuned so far, rounded to what kernels and files hold."""
        found = {name: finished(self._weight(name)) for name in self._values}
        return {other: found[name] for name, others in self._shared.items() for other in others}

    def save(self, path: str | Path) -> None:
        """Write all that going on needs: values, the optimizer's state and the number of steps."""
        write_checkpoint(path, self._tensors(), {"steps": str(self._steps), "weights": self._fingerprint()})

    def load(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same weights. Raises CompressionError for one that is damaged or of others."""
        tensors, steps = read_checkpoint(path, self._fingerprint())
        for name, value in self._named():
            value.copy_(tensors[f"value/{name}"])
            if f"moment/{name}" in tensors:
                state = {"exp_avg": tensors[f"moment/{name}"], "exp_avg_sq": tensors[f"square/{name}"]}
                self.optimizer.state[value] = {**state, "step": tensors[f"step/{name}"]}
        self._steps = steps
        self.write()

    def _tensors(self) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in self._named():
            found[f"value/{name}"] = value
            state = self.optimizer.state.get(value)
            if state:
                found |= {f"moment/{name}": state["exp_avg"], f"square/{name}": state["exp_avg_sq"]}
                found[f"step/{name}"] = state["step"].clone()
        return found

    def _named(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, values in self._values.items():
            for key, value in values.items():
                yield f"{name}/{key}", value

    def _weight(self, name: str) -> CompressedWeight:
        return with_values(self._start[name], self._values[name])

    def _gradient(self, name: str) -> torch.Tensor | None:
        """Return the sum of the gradients of all parameters that share the values; None where none has one."""
        total: torch.Tensor | None = None
        seen: set[int] = set()
        for other in self._shared[name]:
            parameter = self._parameters[other]
            if parameter.grad is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                total = parameter.grad if total is None else total + parameter.grad
        return total

    def _fingerprint(self) -> str:
        """Return a hash of what does not move: names, forms and the arrays that stay."""
        digest = hashlib.sha256()
        for name, weight in sorted(self._start.items()):
            digest.update(json.dumps([name, weight.method, weight.shape, weight.bits, weight.group]).encode())
            for key, array in sorted(weight.arrays.items()):
                if key not in TUNED.get(weight.method, ()):
                    digest.update(key.encode() + array.tobytes())
        return digest.hexdigest()


def _parameter(model: torch.nn.Module, name: str, weight: CompressedWeight) -> torch.nn.Parameter:
    try:
        parameter = model.get_parameter(name)
    except AttributeError as error:
        raise CompressionError(f"the model has no parameter {name!r}; tune the model that was compressed") from error
    if (parameter.shape[0], parameter[0].numel()) != weight.shape:
        raise CompressionError(f"{name} is {list(parameter.shape)}, its compressed form {list(weight.shape)}")
    return parameter


def _once(weights: Mapping[str, CompressedWeight]) -> dict[str, list[str]]:
    """Return the first name of each weight -> all names that share it."""
    found: dict[int, list[str]] = {}
    for name, weight in weights.items():
        found.setdefault(id(weight), []).append(name)
    return {names[0]: names for names in found.values()}


def _spread(weight: CompressedWeight) -> float:
    """Return the spread of what is tuned: of the weights themselves, or of factors and scales of their own."""
    arrays = [weight.arrays[name] for name in TUNED.get(weight.method, ())]
    spreads = [float(abs(array).mean()) for array in arrays if array.size]
    return max(spreads, default=0.0) or 1e-12
