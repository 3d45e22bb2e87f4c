"""A translation model, trained to a stated loss by two workers, with gradients exchanged in several ways.

Both languages are made up here: words of syllables, sentences of a grammar. The source puts the verb in the middle and
adjectives before their noun, the target the verb at the end and adjectives after it; each word has one translation.

    python -m examples.translation --output translation.html      trains once a backend and draws loss against time
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional

from analyzer.errors import HotbenchError
from analyzer.workload import Arguments, Workload
from examples.translation_drawing import draw_curves
from optimizers.placement.backends import NAMES, unavailable
from optimizers.placement.convergence import Convergence, train_to_loss
from optimizers.placement.launch import PlacementLaunch, placement_launch

PAD, BEGIN = 0, 1
LENGTH = 7
TARGET_LOSS, TINY_TARGET_LOSS = 1.0, 1.5
"""Mean cross entropy of a word, in nats; a model that knows nothing is near log(words)."""
MOST_STEPS = 600


@dataclass(frozen=True, slots=True)
class Language:
    """Two lexicons of the same size: word i of one is word i of the other, and so are its parts of speech."""

    nouns: tuple[int, ...]
    adjectives: tuple[int, ...]
    verbs: tuple[int, ...]
    source_words: tuple[str, ...]
    target_words: tuple[str, ...]


@cache
def language(words: int) -> Language:
    """Return the language pair of so many words; ids 0 and 1 are padding and the begin of a sentence."""
    draw = random.Random(words)
    first, second = (
        _lexicon(words - 2, syllables, draw) for syllables in ("ka lo mi ten vu sar", "bre ish nor quel ta u")
    )
    ids = list(range(2, words))
    third = len(ids) // 3
    return Language(
        tuple(ids[:third]),
        tuple(ids[third : 2 * third]),
        tuple(ids[2 * third :]),
        ("<pad>", "<begin>", *first),
        ("<pad>", "<begin>", *second),
    )


def _lexicon(count: int, syllables: str, draw: random.Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(syllables.split(), k=draw.randint(2, 6)))] = None
    return list(found)


def sentence(pair: Language, draw: random.Random) -> tuple[list[int], list[int]]:
    """Return one sentence in both languages, as ids: (adjective) noun verb (adjective) noun, and its translation."""
    phrases = []
    for _ in range(2):
        noun, adjective = _common(pair.nouns, draw), _common(pair.adjectives, draw)
        phrases.append(([noun], [noun]) if draw.random() < 0.5 else ([adjective, noun], [noun, adjective]))
    verb = _common(pair.verbs, draw)
    (subject, subject_after), (thing, thing_after) = phrases
    return [*subject, verb, *thing], [*subject_after, *thing_after, verb]


def _common(words: Sequence[int], draw: random.Random) -> int:
    """Return a word; the first ones come often, as in every language."""
    return words[int(len(words) * draw.random() ** 3)]


def batch_of(words: int, size: int, seed: int) -> Arguments:
    """Return (source, target) ids, each [size, LENGTH], the target's first one BEGIN, the rest padded."""
    draw = random.Random(seed)
    source, target = torch.zeros(size, LENGTH, dtype=torch.int64), torch.zeros(size, LENGTH, dtype=torch.int64)
    for row in range(size):
        before, after = sentence(language(words), draw)
        source[row, : len(before)] = torch.tensor(before)
        target[row, : len(after) + 1] = torch.tensor([BEGIN, *after])
    return (source, target), {}


class Translator(torch.nn.Module):
    """(source, target) ids, both [batch, length] -> scores of each next target word [batch, length - 1, words]."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.source_words = torch.nn.Embedding(words, width, padding_idx=PAD)
        self.target_words = torch.nn.Embedding(words, width, padding_idx=PAD)
        self.encoder = torch.nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.decoder = torch.nn.GRU(width, width, batch_first=True)
        self.mix = torch.nn.Linear(2 * width, width)
        self.head = torch.nn.Linear(width, words)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        embedded = self.source_words(source)
        states, last = self.encoder(embedded)
        begin = last.transpose(0, 1).reshape(1, source.shape[0], -1)
        outputs, _ = self.decoder(self.target_words(target[:, :-1]), begin)
        closeness = outputs @ states.transpose(1, 2)
        weights = closeness.masked_fill((source == PAD).unsqueeze(1), -torch.inf).softmax(dim=2)
        # What is attended to is the word as much as its place: the states alone would have to carry the lexicon.
        mixed = torch.tanh(self.mix(torch.cat([outputs, weights @ (states + embedded)], dim=2)))
        scores: torch.Tensor = self.head(mixed)
        return scores


def word_loss(scores: torch.Tensor, batch: Arguments) -> torch.Tensor:
    """Return the mean cross entropy of the words that come next."""
    return functional.cross_entropy(scores.flatten(0, 1), batch[0][1][:, 1:].flatten(), ignore_index=PAD)


def words_right(model: torch.nn.Module, words: int, size: int) -> dict[str, float]:
    """Return the share of next words that the model names, on sentences that it was not trained on."""
    (source, target), _ = batch_of(words, size, -1)
    with torch.no_grad():
        named = model(source, target).argmax(dim=2)
    wanted = target[:, 1:]
    return {"words_right": float((named == wanted)[wanted != PAD].double().mean())}


def _training(words: int, width: int, size: int, rate: float) -> Workload:
    model = Translator(words, width)
    return Workload(
        model=model,
        inputs=lambda seed: batch_of(words, size, seed),
        loss=word_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=rate),
        evaluate=lambda trained: words_right(trained, words, 64),
    )


def training() -> Workload:
    """2,000 words, 13 MB of parameters, 16 sentences a worker and step."""
    return _training(2000, 320, 16, 3e-3)


def tiny() -> Workload:
    """32 words: the same in seconds."""
    return _training(32, 32, 8, 1e-2)


def launch_of(backend: str, *, small: bool = False, world_size: int = 2) -> PlacementLaunch:
    """Return the launch that trains the example on one backend."""
    from analyzer.workload import load_workload

    _, reference = load_workload(f"{Path(__file__)}:{'tiny' if small else 'training'}")
    return placement_launch(reference, backend, world_size=world_size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.translation", description="Loss against time, by backend."
    )
    parser.add_argument("--backend", action="append", choices=NAMES, help="may be repeated; all by default")
    parser.add_argument("--output", type=Path, default=Path("translation.html"), help="where the drawing goes")
    parser.add_argument("--world-size", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="a model that learns in seconds")
    options = parser.parse_args(arguments)
    found: list[Convergence] = []
    try:
        for backend in options.backend or NAMES:
            if unavailable(backend):
                print(f"{backend}: left out: {unavailable(backend)}", file=sys.stderr)
                continue
            launch = launch_of(backend, small=options.tiny, world_size=options.world_size)
            found.append(train_to_loss(launch, TINY_TARGET_LOSS if options.tiny else TARGET_LOSS, MOST_STEPS))
            print(found[-1].in_words(), flush=True)
        draw_curves(found, options.output)
    except HotbenchError as error:
        print(f"examples.translation: {error}", file=sys.stderr)
        return 2
    print(f"drawn in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
