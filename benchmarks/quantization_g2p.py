"""The speller of g2p-en, two nn.GRUCells, on the pronunciations of CMUdict: letters in, phonemes out."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quantization_cases import AGREEMENT, SIZE, Case
from benchmarks.quantization_prepared import OURS, Prepared, compressed_by, need, stored_bytes, without_gradients

WORDS, MOST_PHONEMES = 800, 20
LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH".split()
_START, _END = 2, 3


@cache
def phonemes() -> tuple[str, ...]:
    """Return the phonemes in the order of the model's outputs."""
    marked = [f"{vowel}{stress}" for vowel in _VOWELS for stress in range(3)]
    plain = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
    own = ["UW", "UW0", "UW1", "UW2"]
    return ("<pad>", "<unk>", "<s>", "</s>", *sorted([*marked, *plain, *own]))


class Speller(torch.nn.Module):
    """Letters [batch, length] with their lengths -> phoneme numbers [batch, 20], chosen one after the other."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        hidden = weights["enc_w_hh"].shape[1]
        self.letters = torch.nn.Embedding.from_pretrained(weights["enc_emb"])
        self.sounds = torch.nn.Embedding.from_pretrained(weights["dec_emb"])
        self.reads = _cell(weights, "enc", hidden)
        self.writes = _cell(weights, "dec", hidden)
        self.chooses = torch.nn.Linear(hidden, len(weights["fc_w"]))
        self.chooses.load_state_dict({"weight": weights["fc_w"], "bias": weights["fc_b"]})

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        hidden = torch.zeros(len(ids), self.reads.hidden_size)
        for place in range(ids.shape[1]):
            after = self.reads(self.letters(ids[:, place]), hidden)
            hidden = torch.where((place < lengths)[:, None], after, hidden)
        last = torch.full((len(ids),), _START)
        chosen = []
        for _ in range(MOST_PHONEMES):
            hidden = self.writes(self.sounds(last), hidden)
            last = self.chooses(hidden).argmax(1)
            chosen.append(last)
        return torch.stack(chosen, 1)


def _cell(weights: dict[str, torch.Tensor], part: str, hidden: int) -> torch.nn.GRUCell:
    cell = torch.nn.GRUCell(weights[f"{part}_w_ih"].shape[1], hidden)
    cell.load_state_dict(
        {f"{kind}_{way}": weights[f"{part}_{kind[0]}_{way}"] for kind in ("weight", "bias") for way in ("ih", "hh")}
    )
    return cell


def prepared(case: Case, peer: str, texts: int = WORDS) -> Prepared:
    """Return the speller, compressed or as it is; its agreement is 1 - phoneme errors / phonemes."""
    need("g2p_en", "cmudict")
    speller: Any = Speller(_weights()).eval().requires_grad_(False)
    size, said = stored_bytes(speller), ""
    if peer == OURS:
        import hotbench

        kinds = (torch.nn.GRUCell, torch.nn.Linear, torch.nn.Embedding)
        made = compressed_by(speller, [hotbench.Rule(kind, method="kmeans", bits=4) for kind in kinds])
        speller, size, said = made.model, made.bytes_after, made.summary()
    words = pronunciations()[: max(1, min(texts, WORDS))]
    (batch,) = case.size
    errors = phoneme_error(speller, words)
    step = without_gradients(speller, *_encoded([word for word, _ in words[:batch]]))
    return Prepared(step, {SIZE: float(size), AGREEMENT: 1.0 - errors}, None, f"phoneme error {errors:.2%}; {said}")


def _weights() -> dict[str, torch.Tensor]:
    with np.load(_package("g2p_en") / "checkpoint20.npz") as stored:
        return {name: torch.from_numpy(stored[name]).float() for name in stored.files}


def _package(name: str) -> Path:
    found = find_spec(name)
    locations = None if found is None else found.submodule_search_locations
    return Path(locations[0]) if locations else Path()


def pronunciations() -> list[tuple[str, list[str]]]:
    """Return words of plain letters with their phonemes, in an order that is always the same."""
    entries = []
    for line in (_package("cmudict") / "data" / "cmudict.dict").read_text(encoding="utf8").split("\n"):
        word, *sounds = line.partition("#")[0].split() or [""]
        if word.isascii() and word.isalpha() and word.islower():
            entries.append((word, sounds))
    order = np.random.default_rng(1).permutation(len(entries))
    return [entries[k] for k in order[:WORDS]]


def _encoded(words: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    number = {letter: k for k, letter in enumerate(LETTERS)}
    ids = torch.zeros(len(words), max(map(len, words)) + 1, dtype=torch.int64)
    for row, word in enumerate(words):
        ids[row, : len(word) + 1] = torch.tensor([*(number[letter] for letter in word), number["</s>"]])
    return ids, torch.tensor([len(word) + 1 for word in words])


def phoneme_error(speller: Any, words: list[tuple[str, list[str]]]) -> float:
    """Return edits from what the speller says to the dictionary, a phoneme of the dictionary."""
    with torch.no_grad():
        said = speller(*_encoded([word for word, _ in words])).tolist()
    edits = 0
    for chosen, (_, sounds) in zip(said, words, strict=True):
        end = chosen.index(_END) if _END in chosen else len(chosen)
        edits += edit_distance([phonemes()[k] for k in chosen[:end]], sounds)
    return edits / sum(len(sounds) for _, sounds in words)


def edit_distance(left: list[str], right: list[str]) -> int:
    """Return how many insertions, deletions and replacements turn one list into the other."""
    row = list(range(len(right) + 1))
    for position, item in enumerate(left, 1):
        before, row[0] = row[0], position
        for k, other in enumerate(right, 1):
            before, row[k] = row[k], min(row[k] + 1, row[k - 1] + 1, before + (item != other))
    return row[-1]
