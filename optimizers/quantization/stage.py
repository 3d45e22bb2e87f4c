"""A second model that shares all weights with the first, in which layers are exchanged to be tried."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch

from optimizers.quantization.errors import CompressionError


class Stage:
    """A copy of a model whose layers can be exchanged and put back; the model and its weights are left alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Copy everything but the tensors. Raises CompressionError where the model cannot be copied."""
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        try:
            self.model: torch.nn.Module = copy.deepcopy(model, dict(shared))
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise CompressionError(f"the model cannot be copied ({words}); keep what cannot be out of it") from error
        self._paths: dict[str, tuple[str, ...]] = {}
        by_module: dict[int, list[str]] = {}
        for name, module in self.model.named_modules(remove_duplicate=False):
            by_module.setdefault(id(module), []).append(name)
        for paths in by_module.values():
            self._paths |= dict.fromkeys(paths, tuple(paths))
        self._originals = dict(self.model.named_modules(remove_duplicate=False))
        self._exchanged: set[str] = set()

    def exchange(self, layers: Mapping[str, torch.nn.Module]) -> torch.nn.Module:
        """Return the model with exactly these layers exchanged, by name, all others as they were."""
        for name in self._exchanged - set(layers):
            self._put(name, self._originals[name])
        for name, module in layers.items():
            self._put(name, module)
        self._exchanged = set(layers)
        return self.model

    def _put(self, name: str, module: torch.nn.Module) -> None:
        # A layer that stands in several places is exchanged in all of them.
        for path in self._paths[name]:
            if not path:
                self.model = module
                continue
            parent, _, last = path.rpartition(".")
            (self._originals[parent] if parent else self.model)._modules[last] = module
