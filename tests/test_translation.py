"""The translation example: its languages are what they say, its model learns, its drawing shows what was measured."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from analyzer.errors import HotbenchError
from analyzer.workload import load_workload
from examples.translation import LENGTH, PAD, batch_of, language, sentence
from examples.translation_drawing import curves, draw_curves
from optimizers.placement.convergence import Convergence

EXAMPLE = Path(__file__).parent.parent / "examples" / "translation.py"


def test_a_translation_has_the_same_words_in_the_targets_order():
    pair, draw = language(50), random.Random(5)
    assert len(set(pair.source_words)) == len(set(pair.target_words)) == 50
    for _ in range(200):
        before, after = sentence(pair, draw)
        assert sorted(before) == sorted(after) and after[-1] in pair.verbs
        for position, word in enumerate(before[:-1]):
            if word in pair.adjectives:
                noun = before[position + 1]
                assert noun in pair.nouns and (noun, word) in pairwise(after)


def test_a_batch_follows_from_its_seed():
    (source, target), _ = batch_of(50, 9, 4)
    assert source.shape == target.shape == (9, LENGTH)
    assert torch.equal(source, batch_of(50, 9, 4)[0][0]) and not torch.equal(source, batch_of(50, 9, 5)[0][0])
    assert (source[:, 0] != PAD).all()


def test_the_tiny_model_learns_to_translate_sentences_that_it_has_not_seen():
    workload, _ = load_workload(f"{EXAMPLE}:tiny")
    before = workload.evaluate(workload.model)["words_right"]
    for seed in range(120):
        batch = workload.batch(seed)
        workload.optimizer.zero_grad()
        workload.loss(workload.model(*batch[0]), batch).backward()
        workload.optimizer.step()
    assert before < 0.2 and workload.evaluate(workload.model)["words_right"] > 0.8


def test_the_full_example_is_as_large_as_it_says():
    workload, _ = load_workload(f"{EXAMPLE}:training")
    assert sum(parameter.nbytes for parameter in workload.model.parameters()) / 1e6 == pytest.approx(13, rel=0.03)
    assert workload.training


def test_the_drawing_has_a_line_a_backend_and_needs_no_network(tmp_path):
    found = [Convergence(name, "none", 2, 1.0, (1.0, 2.5), (3.0, 0.9), True) for name in ("gloo", "hotbench")]
    figure = curves(found)
    assert [line.name for line in figure.data] == ["gloo (none)", "hotbench (none)"]
    assert list(figure.data[0].x) == [1.0, 2.5] and list(figure.data[0].y) == [3.0, 0.9]
    draw_curves(found, tmp_path / "curves.html")
    text = (tmp_path / "curves.html").read_text()
    assert "hotbench (none)" in text and 'src="http' not in text
    with pytest.raises(HotbenchError, match="nothing to draw"):
        draw_curves([], tmp_path / "none.html")
    with pytest.raises(HotbenchError, match="cannot write"):
        draw_curves(found, tmp_path / "no" / "folder.html")
