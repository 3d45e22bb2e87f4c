"""Tuning of shared values: gradients against autograd, loops of one's own, resuming, and the ramp of pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernels.quantized.codebook import CodebookError, looked_up, summed_gradient
from optimizers.quantization.compress import compress
from optimizers.quantization.compressed import CompressedWeight, rounded_centroids
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.layers import compress_layers
from optimizers.quantization.prune_ramp import ramp
from optimizers.quantization.report import Compressed
from optimizers.quantization.rules import Rule
from optimizers.quantization.schedule import Schedule
from optimizers.quantization.tuning import Tuning


def perceptron() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6))


@pytest.mark.parametrize(("books", "group"), [((1, 4), None), ((7, 4), None), ((7, 3, 4), 5)])
def test_gradients_of_centroids_are_those_of_autograd(books: tuple[int, ...], group: int | None) -> None:
    codes = torch.randint(0, 4, (7, 13))
    centroids = torch.randn(books, requires_grad=True)
    gradient = torch.randn(7, 13)
    spread = centroids if group is None else centroids.repeat_interleave(5, 1)[:, :13].reshape(7, 13, 4)
    if group is None:
        spread = centroids.expand(7, 4)[:, None].expand(7, 13, 4)
    weights = spread.gather(2, codes[..., None])[..., 0]
    weights.backward(gradient)
    numbers, values = codes.numpy().astype(np.uint8), centroids.detach().numpy()
    assert np.array_equal(looked_up(numbers, values, group), weights.detach().numpy())
    found = summed_gradient(numbers, gradient.numpy(), values, group)
    assert centroids.grad is not None
    assert np.allclose(found, centroids.grad.numpy(), atol=1e-5)


def test_codes_without_centroids_are_an_error() -> None:
    with pytest.raises(CodebookError, match="code 9 has no centroid"):
        looked_up(np.full((2, 2), 9, np.uint8), np.zeros((2, 4), np.float32))
    with pytest.raises(CodebookError, match="do not go with codes"):
        looked_up(np.zeros((2, 2), np.uint8), np.zeros((3, 4), np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "kmeans", "bits": 2},
        {"method": "kmeans", "bits": 2, "scope": "tensor"},
        {"method": "kmeans", "bits": 2, "scope": "group", "group": 16},
        {"method": "int8"},
        {"method": "prune", "sparsity": 0.6},
        {"method": "low-rank", "rank": 3},
    ],
    ids=["row", "tensor", "group", "int8", "prune", "low-rank"],
)
def test_a_loop_of_ones_own_lowers_the_loss_and_keeps_the_weights_compressed(options: dict[str, Any]) -> None:
    model, x = perceptron(), torch.randn(64, 16)
    with torch.no_grad():
        wanted = model(x)
    weights = compress_layers(model, [Rule("*", **options)]).weights
    tuning, losses = Tuning(model, weights, learning_rate=0.02), []
    for _ in range(40):
        loss = (model(x) - wanted).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        tuning.step()
    # whole numbers of 8 bits leave hardly anything to gain
    assert min(losses[20:]) < losses[0] * (1.001 if options["method"] == "int8" else 1.0)
    tuned = tuning.weights()
    for name, weight in tuned.items():
        fixed = next(key for key in ("codes", "columns", "values", "right") if key in weight.arrays)
        if options["method"] == "kmeans":
            assert np.array_equal(weight.arrays["codes"], weights[name].arrays["codes"])
            assert np.array_equal(rounded_centroids(weight.arrays["centroids"]), weight.arrays["centroids"])
        assert weight.arrays[fixed].shape == weights[name].arrays[fixed].shape
        inside = model.get_parameter(name).detach().numpy()
        assert np.allclose(weight.dequantised(), inside, atol=0.02 * float(np.abs(inside).max()))


def finetuned(
    model: torch.nn.Module, batches: list[torch.Tensor], checkpoint: Path | None, **options: Any
) -> Compressed:
    process = Schedule(
        calibration=batches, finetune="centroids", steps=24, checkpoint=checkpoint, learning_rate=0.01, **options
    )
    found = compress(model, Rule("*", method="kmeans", bits=2), process=process)
    assert isinstance(found, Compressed), found
    return found


def test_finetuning_brings_answers_back_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, batches = perceptron(), [torch.randn(32, 16) for _ in range(3)]
    plain = compress(model, Rule("*", method="kmeans", bits=2), inputs=batches)
    whole = finetuned(model, batches, None)
    assert isinstance(plain, Compressed)
    assert plain.accuracy.cosine is not None
    assert whole.accuracy.cosine is not None
    assert whole.accuracy.cosine > plain.accuracy.cosine

    class CutError(Exception):
        pass

    def cut(stage: str, fraction: float) -> None:
        if stage.startswith("fine-tuning") and fraction > 0.89:
            raise CutError

    file = tmp_path / "tuning.safetensors"
    process = Schedule(calibration=batches, finetune="centroids", steps=24, checkpoint=file, learning_rate=0.01)
    with pytest.raises(CutError):
        compress(model, Rule("*", method="kmeans", bits=2), process=process, progress=cut)
    assert file.exists()
    resumed = finetuned(model, batches, file)
    for name, weight in whole.weights.items():
        assert np.array_equal(weight.arrays["centroids"], resumed.weights[name].arrays["centroids"])


def test_a_checkpoint_of_other_weights_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    batches, file = [torch.randn(8, 16)], tmp_path / "tuning.safetensors"
    finetuned(perceptron(), batches, file)
    with pytest.raises(CompressionError, match="of other weights"):
        finetuned(perceptron(), batches, file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CompressionError, match="cannot read the checkpoint"):
        finetuned(perceptron(), batches, file)
    with pytest.raises(CompressionError, match="cannot write the checkpoint"):
        finetuned(perceptron(), batches, tmp_path / "missing" / "tuning.safetensors")


def test_the_ramp_is_steep_at_first_and_ends_at_the_rule() -> None:
    shares = [ramp(0.8, step, 10) for step in range(13)]
    steps = np.diff(shares[:11])
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()
    assert shares[10:] == [0.8] * 3


@pytest.mark.parametrize("method", ["prune", "kmeans"])
def test_pruning_by_a_ramp_is_nearer_than_pruning_at_once(method: str) -> None:
    torch.manual_seed(5)
    model, batches = perceptron(), [torch.randn(64, 16) for _ in range(4)]
    rule = Rule("*", method=method, sparsity=0.7)
    at_once = compress(model, rule, inputs=batches)
    process = Schedule(calibration=batches, finetune="centroids", steps=60, prune_ramp=40, learning_rate=0.03)
    ramped = compress(model, rule, process=process)
    assert isinstance(at_once, Compressed)
    assert isinstance(ramped, Compressed)
    assert ramped.accuracy.cosine is not None
    assert at_once.accuracy.cosine is not None
    assert ramped.accuracy.cosine > at_once.accuracy.cosine
    for weight in ramped.weights.values():
        assert abs((weight.dequantised() == 0).mean() - 0.7) < 0.02


def test_a_loss_that_cannot_be_followed_is_one_line() -> None:
    model, batches = perceptron(), [torch.randn(8, 16)]
    for loss, message in (
        (lambda output, reference, batch: 3.0, "no scalar that depends on the weights"),
        (lambda output, reference, batch: output.sum() * float("nan"), "the loss became nan"),
    ):
        with pytest.raises(CompressionError, match=message):
            finetuned(model, batches, None, loss=loss)
    with pytest.raises(CompressionError, match="no rule has one"):
        finetuned(model, batches, None, prune_ramp=3)


def test_a_gradient_that_is_not_finite_leaves_the_values() -> None:
    model = perceptron()
    tuning = Tuning(model, compress_layers(model, [Rule("*", method="kmeans")]).weights)
    before = [value.clone() for value in tuning.parameters()]
    (model(torch.randn(4, 16)).sum() * float("inf")).backward()
    with pytest.raises(CompressionError, match="is not finite; lower the learning rate"):
        tuning.step()
    assert all(torch.equal(a, b) for a, b in zip(before, tuning.parameters(), strict=True))


def test_weights_that_are_not_the_models_are_named() -> None:
    weight = CompressedWeight("low-rank", (2, 3), 32, None, {"left": np.ones((2, 1)), "right": np.ones((1, 3))})
    with pytest.raises(CompressionError, match="no parameter 'other.weight'"):
        Tuning(perceptron(), {"other.weight": weight})
    with pytest.raises(CompressionError, match=r"0.weight is \[32, 16\], its compressed form \[2, 3\]"):
        Tuning(perceptron(), {"0.weight": weight})
