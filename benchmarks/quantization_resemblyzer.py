"""The speaker encoder of Resemblyzer: three layers of nn.LSTM and a linear one, on speech-like input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analyzer.errors import HotbenchError
from benchmarks.quantization_cases import FLOAT, SIZE, TORCH_AO, TORCHAO, Case
from benchmarks.quantization_prepared import OURS, Prepared, compressed_by, need, stored_bytes, without_gradients

FRAMES, CHANNELS = 160, 40
ANSWERS = 64


class SpeakerEncoder(torch.nn.Module):
    """Mel spectra [batch, frames, 40] -> unit vectors [batch, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(CHANNELS, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(mel)
        return torch.nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


def prepared(case: Case, peer: str, texts: int = ANSWERS) -> Prepared:
    """Return a peer's encoder. texts: how many spectra its answers are compared on."""
    need("resemblyzer")
    encoder = _pretrained()
    (batch,) = case.size
    count = min(texts, ANSWERS)
    mel = speech_like(count)
    with torch.no_grad():
        model, size, said = _MAKERS[peer](encoder, mel[:batch])

    def answers() -> npt.NDArray[np.float32]:
        with torch.no_grad():
            parts = [model(mel[k : k + batch]) for k in range(0, count, batch)]
        return torch.cat(parts).numpy()

    return Prepared(without_gradients(model, mel[:batch]), {SIZE: float(size)}, answers, said)


def _pretrained() -> SpeakerEncoder:
    found = find_spec("resemblyzer")
    if found is None or not found.submodule_search_locations:
        raise HotbenchError("resemblyzer not installed; run make setup-bench")
    path = Path(found.submodule_search_locations[0], "pretrained.pt")
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    encoder = SpeakerEncoder().eval()
    encoder.load_state_dict({name: value for name, value in state.items() if name.split(".")[0] in ("lstm", "linear")})
    return encoder


def speech_like(count: int) -> torch.Tensor:
    """Return power spectra [count, frames, 40] with harmonics that glide and syllables that come and go."""
    random = torch.Generator().manual_seed(5)
    time = torch.linspace(0, 1.6, FRAMES)
    channel = torch.arange(CHANNELS).float()
    spectra = []
    for _ in range(count):
        pitch, glide, rate, tilt = torch.rand(4, generator=random).tolist()
        base = 3 + 4 * pitch + 2 * glide * torch.sin(2 * torch.pi * (1 + rate) * time)
        harmonics = 0.5 + 0.5 * torch.cos(2 * torch.pi * channel[None, :] / base[:, None])
        syllables = torch.sin(torch.pi * (2 + 4 * rate) * time).clamp(min=0)[:, None]
        noise = torch.rand(FRAMES, CHANNELS, generator=random)
        spectra.append((harmonics * syllables + 0.1 * noise) * torch.exp(-channel * (0.03 + 0.1 * tilt)) * 0.2)
    return torch.stack(spectra)


def _ours(encoder: torch.nn.Module, mel: torch.Tensor) -> tuple[Callable[..., Any], int, str]:
    import hotbench

    rules = [hotbench.Rule(kind, method="int8") for kind in (torch.nn.LSTM, torch.nn.Linear)]
    made = compressed_by(encoder, rules)
    fused = hotbench.optimize(made.model, mel)
    return fused, made.bytes_after, f"{made.summary()}; {getattr(fused, 'summary', 'not fused')}"


def _float(encoder: torch.nn.Module, _: torch.Tensor) -> tuple[Callable[..., Any], int, str]:
    return encoder, stored_bytes(encoder), ""


def _torchao(encoder: torch.nn.Module, _: torch.Tensor) -> tuple[Callable[..., Any], int, str]:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    made = copy.deepcopy(encoder)
    quantize_(made, Int8DynamicActivationInt8WeightConfig())
    return made, stored_bytes(made), "nn.LSTM is left in float32 without a word"


def _torch_ao(encoder: torch.nn.Module, _: torch.Tensor) -> tuple[Callable[..., Any], int, str]:
    from torch.ao.quantization import quantize_dynamic

    made = quantize_dynamic(encoder, {torch.nn.LSTM, torch.nn.Linear}, torch.qint8)
    return made, stored_bytes(made), "quantize_dynamic"


_MAKERS: dict[str, Callable[[torch.nn.Module, torch.Tensor], tuple[Callable[..., Any], int, str]]] = {
    OURS: _ours,
    FLOAT: _float,
    TORCHAO: _torchao,
    TORCH_AO: _torch_ao,
}
