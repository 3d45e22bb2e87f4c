"""What a user can set of the quantization optimizer, checked; each option is a field of a form and of --set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from analyzer.errors import HotbenchError
from optimizers.plan import Options
from optimizers.quantization.file_bytes import HUFFMAN, PLAIN
from optimizers.quantization.forms import FLOAT, LOW_RANK, PRUNE, Form, forms_of_method, pinned_form

NAME = "quantization"

Method = Literal["auto", "int8", "int8-weight-only", "kmeans", "bfloat16", "prune", "low-rank"]


@dataclass(frozen=True)
class QuantizationOptions(Options):
    """What a user can set."""

    method: Method = field(
        default="auto",
        metadata={"help": "auto tries int8 and k-means codebooks on each layer; another is taken or the layer is left"},
    )
    bits: int = field(
        default=4, metadata={"help": "of a k-means codebook, 1 to 4; with auto the fewest that are tried"}
    )
    scope: Literal["row", "tensor", "group"] = field(
        default="row", metadata={"help": "what shares one codebook: a row, the whole weight, or 64 weights of a row"}
    )
    fit: Literal["gptq", "diagonal", "plain"] = field(
        default="gptq",
        metadata={"help": "of codebooks: with error feedback, weighted by the inputs, or to the weights alone"},
    )
    goal: Literal["both", "size", "speed"] = field(
        default="both", metadata={"help": "what is saved where forms differ: bytes, time, or both alike"}
    )
    include: str = field(default="*", metadata={"help": "names of layers, with commas and *, such as encoder.*"})
    exclude: str = field(default="", metadata={"help": "names of layers that stay as they are"})
    layers: str = field(
        default="",
        metadata={
            "help": "bits of single layers, such as head=32, encoder.*=8: 32 is float, 16 bfloat16; or prune, low-rank"
        },
    )
    prune: float = field(
        default=0.0,
        metadata={"help": "share of weights that become zero, such as 0.5, tried on each layer; smaller, not quicker"},
    )
    low_rank: float = field(
        default=0.0,
        metadata={"help": "share of a linear layer's bytes that two thin matrices take, such as 0.25, tried on each"},
    )
    coding: Literal["auto", "plain", "huffman"] = field(
        default="auto",
        metadata={"help": "of codes in files: huffman is smaller, and slower to load; auto: with goal=size or prune"},
    )
    min_agreement: float | None = field(
        default=0.95, metadata={"help": "least share of equal arg-max, 0 to 1; none asks for nothing"}
    )
    min_cosine: float | None = field(
        default=0.99, metadata={"help": "least cosine of the outputs with those before; none asks for nothing"}
    )
    max_metric_drop: float | None = field(
        default=0.01, metadata={"help": "by how much each metric of the workload may fall; none asks for nothing"}
    )
    max_slowdown: float = field(
        default=0.0, metadata={"help": "fraction by which a step may become slower for the size, such as 0.1"}
    )
    finetune_steps: int = field(
        default=0, metadata={"help": "steps in which centroids follow the gradients of the answers; 0 is none"}
    )

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 4:
            raise _wrong("bits", self.bits, "codebooks have 1 to 4; for 8 choose method=int8")
        for name in ("min_agreement", "min_cosine"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise _wrong(name, value, "give a share from 0 to 1, such as 0.98, or none")
        for name in ("prune", "low_rank"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise _wrong(name, getattr(self, name), "give a share from 0 to below 1, such as 0.5; 0 tries none")
        if self.max_metric_drop is not None and not self.max_metric_drop >= 0.0:
            raise _wrong("max_metric_drop", self.max_metric_drop, "give 0 or more, such as 0.01, or none")
        if not 0.0 <= self.max_slowdown < float("inf"):
            raise _wrong("max_slowdown", self.max_slowdown, "give 0 or more, such as 0.1")
        if not 0 <= self.finetune_steps <= 1_000_000:
            raise _wrong("finetune_steps", self.finetune_steps, "give 0 to 1000000")
        if not _patterns(self.include):
            raise _wrong("include", repr(self.include), "name layers, or * for all")
        pinned_layers(self.layers)

    def takes(self, layer: str) -> bool:
        """Return whether a layer of this name is among those to be compressed."""
        wanted = any(fnmatchcase(layer, pattern) for pattern in _patterns(self.include))
        return wanted and not any(fnmatchcase(layer, pattern) for pattern in _patterns(self.exclude))

    def forms(self, layer: str, kind: str = "linear") -> tuple[Form, ...]:
        """Return the forms that a layer of that kind may take, the safest first: one where its bits were given."""
        choice = next((choice for pattern, choice in pinned_layers(self.layers) if fnmatchcase(layer, pattern)), None)
        if choice is not None:
            return (pinned_form(choice, self.method, self.scope, self.prune, self.low_rank),)
        if not self.takes(layer):
            return (FLOAT,)
        # thin matrices make a layer quicker where two thin products take the place of one: linear layers alone
        thin = self.low_rank if kind == "linear" or self.method == LOW_RANK else 0.0
        coded = self.files_coding == HUFFMAN
        found = forms_of_method(self.method, self.bits, self.scope, self.prune, thin, coded)
        return (FLOAT, *found)

    @property
    def files_coding(self) -> str:
        """Return how codes lie in the files of a candidate: "plain" or "huffman"."""
        if self.coding != "auto":
            return self.coding
        return HUFFMAN if self.goal == "size" or self.prune else PLAIN

    def as_plan_options(self) -> dict[str, object]:
        """Return every option as plain JSON."""
        return dataclasses.asdict(self)


BITS = ("32", "16", "8", "4", "3", "2", "1")
CHOICES = (*BITS, PRUNE, LOW_RANK)
"""What a layer can be given: float, bfloat16, int8, a codebook; or a method that has no bits."""


def pinned_layers(text: str) -> tuple[tuple[str, str], ...]:
    """Return (pattern, choice) of `NAME=BITS, NAME=BITS`, the last first: later ones win. Raises HotbenchError."""
    found = []
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        pattern, equals, choice = (part.strip() for part in item.rpartition("="))
        if not (equals and pattern and choice in CHOICES):
            allowed = f"{', '.join(BITS)}, or {PRUNE} or {LOW_RANK}"
            raise _wrong("layers", repr(item), f"write NAME=BITS with bits among {allowed}, such as encoder.*=8")
        found.append((pattern, choice))
    return tuple(reversed(found))


def unmatched(text: str, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns, out of a text with commas, that no layer's name matches; "=BITS" is left out."""
    names = [item.partition("=")[0].strip() for item in text.split(",") if item.strip()]
    return tuple(name for name in names if not any(fnmatchcase(layer, name) for layer in layers))


def _patterns(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _wrong(option: str, value: object, remedy: str) -> HotbenchError:
    return HotbenchError(f"{NAME}.{option}={value}: {remedy}")
