"""The cases of benchmarks.fusion: what is run, with random weights of a fixed seed, and who it is compared with."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from analyzer.errors import HotbenchError
from benchmarks.fusion_recurrent import (
    DeepSpeech2,
    GRUVariant,
    LibraryLSTM,
    LibrarySeq2Seq,
    Seq2Seq,
    UnrolledLSTM,
)
from benchmarks.fusion_vision import AlexNet, NASNet, ResNeXt29, settled

EXAMPLES = Path(__file__).parent.parent / "examples"
STEPS = 100
EAGER, LIBRARY, INDUCTOR, AUTOTUNE, ONNX = "eager", "nn.LSTM", "inductor", "inductor-max-autotune", "onnxruntime"


@dataclass(frozen=True)
class Built:
    """A model with its inputs; `library` is the same model with torch's own recurrent kernel."""

    model: nn.Module
    inputs: tuple[Any, ...]
    library: nn.Module | None = None


@dataclass(frozen=True)
class Case:
    """One case. training: forward, the mean of squares as loss, backward; input_gradient: of the inputs too."""

    id: str
    build: Callable[[], Built]
    peers: tuple[str, ...]
    training: bool = False
    input_gradient: bool = False


class BiasGELU(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(width) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(x + self.bias)


class EncoderParts(nn.Module):
    """What an encoder layer does between its matrix products: bias + GELU, residual + layer norm, masked softmax."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.activation = BiasGELU(4 * width)
        self.bias = nn.Parameter(torch.randn(width) * 0.1)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, expanded: torch.Tensor, x: torch.Tensor, residual: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weights = torch.softmax(scores / math.sqrt(64) + mask, dim=-1)
        return self.activation(expanded), self.norm(x + self.bias + residual), weights


class Chain(nn.Module):
    """Twenty elementwise ops."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a = torch.tanh(x * 1.5 + y)
        b = torch.sigmoid(a * x - 0.3)
        c = torch.relu(b * a + y) + 0.1
        d = torch.exp(-c)
        e = torch.clamp(d * d + x, -2.0, 2.0) * y + c
        return torch.sqrt(torch.abs(e) + 1.0) * a * 0.5 + b


def lstm(batch: int, hidden: int, layers: int = 1) -> Built:
    model = UnrolledLSTM(layers, hidden, hidden)
    return Built(model, (torch.randn(STEPS, batch, hidden),), LibraryLSTM(model))


def gru_variant(batch: int, hidden: int = 128) -> Built:
    return Built(GRUVariant(hidden), (torch.randn(STEPS, batch, hidden),))


def encoder_parts() -> Built:
    mask = torch.zeros(8, 1, 1, 128).masked_fill(torch.rand(8, 1, 1, 128) < 0.1, -torch.inf)
    inputs = (torch.randn(8, 128, 2048), torch.randn(8, 128, 512), torch.randn(8, 128, 512))
    return Built(EncoderParts(512), (*inputs, torch.randn(8, 8, 128, 128), mask))


def chain(elements: int) -> Built:
    return Built(Chain(), (torch.randn(elements), torch.randn(elements)))


def encoder() -> Built:
    example = _example("transformer")
    lengths = torch.randint(example.LENGTH // 2, example.LENGTH + 1, (4,))
    return Built(example.Encoder(), (torch.randint(example.VOCABULARY, (4, example.LENGTH)), lengths))


def minilm(batch: int) -> Built:
    example = _example("minilm")
    sentences = [example.SENTENCES[k % len(example.SENTENCES)] for k in range(batch)]
    tokens = example._tokenizer()(
        sentences, padding="max_length", truncation=True, max_length=example.LENGTH, return_tensors="pt"
    )
    return Built(example.SentenceEncoder(), (tokens["input_ids"], tokens["attention_mask"]))


def seq2seq() -> Built:
    model = Seq2Seq(128, encoder_layers=8, decoder_layers=4, decoder_steps=30)
    return Built(model, (torch.randn(STEPS, 1, 128),), LibrarySeq2Seq(model))


def deepspeech2() -> Built:
    model, library = DeepSpeech2(), DeepSpeech2()
    library.load_state_dict(model.state_dict())
    unrolled = library.recurrent
    if isinstance(unrolled, UnrolledLSTM):
        library.recurrent = LibraryLSTM(unrolled)
    return Built(model, (torch.randn(1, 1, 300, 171),), library)


def images(model: nn.Module) -> Built:
    """Return a model of small images with batch norms that are not fresh from the constructor."""
    return Built(settled(model, torch.randn(4, 3, 32, 32)), (torch.randn(1, 3, 32, 32),))


def _example(name: str) -> Any:
    """Import examples/NAME.py. Raises HotbenchError if what it needs is not installed."""
    spec = importlib.util.spec_from_file_location(f"benchmarked_{name}", EXAMPLES / f"{name}.py")
    if spec is None or spec.loader is None:
        raise HotbenchError(f"examples/{name}.py is not there; run the benchmark from a whole checkout")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise HotbenchError(f"examples/{name}.py needs {error.name}; run make setup") from error
    return module


_INFERENCE = (EAGER, INDUCTOR, AUTOTUNE, ONNX)
_RECURRENT = (EAGER, LIBRARY, INDUCTOR, AUTOTUNE, ONNX)
_LSTM = ((1, 64), (1, 128), (1, 256), (32, 64), (32, 128), (32, 256), (4, 128), (8, 128), (16, 128))


def _lstm_case(batch: int, hidden: int) -> Case:
    return Case(f"lstm-t100-b{batch}-h{hidden}", lambda: lstm(batch, hidden), _RECURRENT)


CASES = (
    *(_lstm_case(batch, hidden) for batch, hidden in _LSTM),
    Case("gru-variant-b1", lambda: gru_variant(1), _INFERENCE),
    Case("gru-variant-b32", lambda: gru_variant(32), _INFERENCE),
    Case("encoder-nonmatmul", encoder_parts, _INFERENCE),
    Case("chain20-1e6", lambda: chain(10**6), _INFERENCE),
    Case("chain20-1e4", lambda: chain(10**4), _INFERENCE),
    Case("encoder", encoder, _INFERENCE),
    Case("minilm-b1", lambda: minilm(1), _INFERENCE),
    Case("minilm-b32", lambda: minilm(32), _INFERENCE),
    Case("rammer-lstm", lambda: lstm(1, 256, layers=10), _RECURRENT),
    Case("rammer-seq2seq", seq2seq, _RECURRENT),
    Case("rammer-deepspeech2", deepspeech2, _RECURRENT),
    Case("rammer-resnext29", lambda: images(ResNeXt29()), _INFERENCE),
    Case("rammer-nasnet", lambda: images(NASNet()), _INFERENCE),
    Case("rammer-alexnet", lambda: Built(AlexNet(), (torch.randn(1, 3, 227, 227),)), _INFERENCE),
    Case("lstm-training-b1-h128", lambda: lstm(1, 128), (EAGER, LIBRARY, INDUCTOR), training=True),
    Case(
        "lstm-training-b32-h128", lambda: lstm(32, 128), (EAGER, LIBRARY, INDUCTOR), training=True, input_gradient=True
    ),
    Case("lstm2-training-b1-h128", lambda: lstm(1, 128, layers=2), (EAGER, LIBRARY, INDUCTOR), training=True),
    Case("gru-variant-training-b1", lambda: gru_variant(1), (EAGER, INDUCTOR), training=True),
)


def case_of(name: str) -> Case:
    """Return the case with this id. Raises HotbenchError if there is none."""
    for case in CASES:
        if case.id == name:
            return case
    raise HotbenchError(f"no case {name}; give one of {', '.join(case.id for case in CASES)}")


def built(case: Case, seed: int = 0) -> Built:
    """Return the case's model and inputs, the same for every process."""
    torch.manual_seed(seed)
    made = case.build()
    for model in (made.model, made.library):
        if model is not None:
            model.train(case.training)
    if case.input_gradient:
        return replace(made, inputs=tuple(value.requires_grad_() for value in made.inputs))
    return made
