"""Everything that a training step changes, set aside in a file and put back: trials leave no trace."""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optimizers.swap.errors import SwapError


class Snapshot:
    """The state of a model, its optimizer and the random generators. In a file: memory is what is short.

    Raises SwapError where the folder cannot hold it.
    """

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, folder: Path) -> None:
        self.model, self.optimizer = model, optimizer
        self._gradients = [tensor.grad is not None for tensor in model.parameters()]
        self._random = (random.getstate(), np.random.get_state(), torch.get_rng_state())
        try:
            # Without a name: it goes when the process does.
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise SwapError(f"cannot make a file in {folder} ({error.strerror}); name another folder") from error
        try:
            torch.save(self._state(), self._file)
            # What waits in a buffer would only fail when the state is wanted back.
            self._file.flush()
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                self._file.close()
            raise SwapError(
                f"{folder} cannot hold a copy of the model's state ({_reason(error)}); free space or name another"
            ) from error

    def _state(self) -> dict[str, Any]:
        optimizer = self.optimizer
        return {
            "tensors": [tensor.detach() for tensor in self._tensors()],
            "gradients": [tensor.grad for tensor in self.model.parameters()],
            "optimizer": None if optimizer is None else optimizer.state_dict(),
        }

    def _tensors(self) -> list[torch.Tensor]:
        return [*self.model.parameters(), *self.model.buffers()]

    def restore(self) -> None:
        """Put everything back as it was; may be done several times."""
        self._file.seek(0)
        state = torch.load(self._file, weights_only=False)
        with torch.no_grad():
            for tensor, saved in zip(self._tensors(), state["tensors"], strict=True):
                tensor.copy_(saved)
        for parameter, gradient in zip(self.model.parameters(), state["gradients"], strict=True):
            parameter.grad = gradient
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        numbers, arrays, tensors = self._random
        random.setstate(numbers)
        np.random.set_state(arrays)
        torch.set_rng_state(tensors)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _reason(error: BaseException) -> str:
    """Return what the system said; torch reports a failed write by its own checks, the system's word behind it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return str(cause.strerror or cause) if isinstance(cause, OSError) else str(error).splitlines()[0]
