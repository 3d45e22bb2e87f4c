"""Rules: which layers are compressed, by which method, and how far."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from optimizers.quantization.errors import CompressionError
from optimizers.quantization.targets import Target

METHODS = ("int8", "kmeans", "prune", "low-rank", "bfloat16", "float")
SCOPES = ("tensor", "row", "group")
FITS = ("plain", "diagonal", "gptq")
ACTIVATIONS = ("dynamic", "float")
_GROUP_MULTIPLE = 16


@dataclass(frozen=True)
class Rule:
    """What is done to the layers that a pattern or a type names; of several rules for a layer the last one counts.

    layers:   a pattern of names as `model.named_modules()` gives them, "encoder.*.query", or of a parameter's,
              "lstm.weight_hh_*" (with *, ? and [...]; * also matches dots); or a type, torch.nn.Linear.
    method:   "int8":     whole numbers of 8 bits with a scale a row;
              "kmeans":   codebooks of 2**bits shared values;
              "prune":    the smallest weights become zero and are not stored;
              "low-rank": the product of two narrow matrices;
              "bfloat16": the upper half of float32;
              "float":    left as it is.
    bits:     of a code: 1 to 4 for "kmeans" (default 4), 8 for "int8".
    scope:    what shares a codebook: the "tensor", each "row" (output), or each "group" of `group` columns of a row.
    fit:      what a codebook is fitted to: "plain": the weights; "diagonal": weights that count as much as their
              inputs are large; "gptq": the layer's outputs, each weight's rounding error made up for by the next ones.
              The last two need calibration inputs. Of "prune": "plain" drops the smallest weights of the whole,
              "diagonal" of each row those that are small for their inputs.
    activations: "dynamic": quantised to 8 bits, each row by its own range; "float": left in float32, which is slower.
    sparsity: the fraction of weights that become zero, for "prune" (default 0.5) and, with a centroid there, "kmeans".
    rank:     of "low-rank": how many columns the narrow matrices have, or (below 1) the share of the weights' energy
              that they keep.
    """

    layers: str | type[torch.nn.Module]
    method: str = "int8"
    bits: int | None = None
    scope: str = "row"
    group: int = 64
    fit: str = "plain"
    activations: str = "dynamic"
    sparsity: float | None = None
    rank: float = 0.9

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        _one_of("scope", self.scope, SCOPES)
        _one_of("fit", self.fit, FITS)
        _one_of("activations", self.activations, ACTIVATIONS)
        self._check_layers()
        self._check_bits()
        self._check_degree()

    def _check_layers(self) -> None:
        if isinstance(self.layers, str) and self.layers:
            return
        if not (isinstance(self.layers, type) and issubclass(self.layers, torch.nn.Module)):
            raise CompressionError(f"Rule.layers is {self.layers!r}; give a pattern of layers' names or a module type")

    def _check_bits(self) -> None:
        allowed = {"kmeans": (None, 1, 2, 3, 4), "int8": (None, 8)}.get(self.method, (None,))
        if self.bits not in allowed or isinstance(self.bits, bool):
            known = ", ".join(str(bits) for bits in allowed if bits is not None) or "no bits"
            raise CompressionError(
                f"Rule.bits is {self.bits!r}; the method {self.method!r} takes {known} (fewer than 8 bits: 'kmeans')"
            )
        if self.scope == "group" and (not _whole(self.group) or self.group < 1 or self.group % _GROUP_MULTIPLE):
            raise CompressionError(f"Rule.group is {self.group!r}; give a multiple of {_GROUP_MULTIPLE} columns")
        fits = {"kmeans": FITS, "prune": ("plain", "diagonal")}.get(self.method, ("plain",))
        if self.fit not in fits:
            raise CompressionError(
                f"Rule.fit is {self.fit!r}; only 'kmeans' is fitted so, {self.method!r} takes {' or '.join(fits)}"
            )

    def _check_degree(self) -> None:
        sparsity = self.sparsity
        if sparsity is not None and not (_number(sparsity) and 0 <= sparsity < 1):
            raise CompressionError(f"Rule.sparsity is {sparsity!r}; give a fraction from 0 to below 1")
        if sparsity is not None and self.method not in ("prune", "kmeans"):
            raise CompressionError(f"Rule.sparsity is {sparsity!r}; only 'prune' and 'kmeans' leave weights out")
        if sparsity and self.method == "kmeans" and self.fit == "gptq":
            raise CompressionError("Rule.sparsity does not go with fit='gptq'; choose 'plain' or 'diagonal'")
        if sparsity and self.method == "kmeans" and self.scope == "group":
            raise CompressionError("Rule.sparsity does not go with scope='group'; choose 'row' or 'tensor'")
        if not _number(self.rank) or self.rank <= 0 or (self.rank >= 1 and self.rank != int(self.rank)):
            raise CompressionError(f"Rule.rank is {self.rank!r}; give a whole number of columns, or a share below 1")

    @property
    def code_bits(self) -> int:
        """Return the bits of a stored weight."""
        defaults = {"kmeans": 4, "int8": 8, "bfloat16": 16}
        return self.bits if self.bits is not None else defaults.get(self.method, 32)

    @property
    def needs_inputs(self) -> bool:
        """Return whether the fit looks at what goes into the layer."""
        return self.fit != "plain"

    @property
    def pattern(self) -> str:
        """Return the layers in words."""
        return self.layers if isinstance(self.layers, str) else f"type {self.layers.__name__}"

    def matches(self, target: Target, parameter: str) -> bool:
        """Return whether the rule names a parameter of a layer."""
        if isinstance(self.layers, str):
            names = (target.name, parameter)
            return any(fnmatch.fnmatchcase(name, self.layers) for name in names)
        return isinstance(target.module, self.layers)

    def record(self) -> dict[str, Any]:
        """Return the rule as plain JSON values."""
        return {**asdict(self), "layers": self.pattern}


def chosen(rules: Sequence[Rule], targets: Sequence[Target]) -> dict[str, Rule]:
    """Return the rule of each parameter that one names: of several the last, "float" rules included.

    Raises CompressionError for no rule, or one that matches nothing.
    """
    if not rules:
        raise CompressionError("there is no rule; give at least one, such as Rule(torch.nn.Linear, method='int8')")
    found: dict[str, Rule] = {}
    for rule in rules:
        matched = [name for target in targets for name in target.parameters if rule.matches(target, name)]
        if not matched:
            close = ", ".join(target.name for target in targets if not target.refusal)
            raise CompressionError(f"the rule for {rule.pattern!r} matches no layer; layers are: {_shortened(close)}")
        found |= dict.fromkeys(matched, rule)
    return found


def _shortened(names: str, most: int = 300) -> str:
    return names if len(names) <= most else f"{names[:most].rsplit(', ', 1)[0]}, …"


def _one_of(field: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise CompressionError(f"Rule.{field} is {value!r}; it is one of {', '.join(known)}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
