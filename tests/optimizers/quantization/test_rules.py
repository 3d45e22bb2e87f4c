"""Rules: what they name, which one counts, and what cannot be asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.layers import compress_layers
from optimizers.quantization.rules import Rule, chosen
from optimizers.quantization.targets import targets


class Mixed(torch.nn.Module):
    """Layers of every kind, and some that no method takes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(11, 16)
        self.encoder = torch.nn.Sequential(torch.nn.Linear(16, 20), torch.nn.LayerNorm(20), torch.nn.Linear(20, 16))
        self.convolution = torch.nn.Conv1d(16, 8, 3)
        self.recurrent = torch.nn.LSTM(16, 6)


def test_a_pattern_names_layers_or_parameters_and_a_type_its_instances() -> None:
    model = Mixed()
    found = targets(model)
    assert set(chosen([Rule("encoder.*")], found)) == {
        "encoder.0.weight", "encoder.1.weight", "encoder.1.bias", "encoder.2.weight",
    }  # fmt: skip
    assert set(chosen([Rule("recurrent.weight_hh_*")], found)) == {"recurrent.weight_hh_l0"}
    assert set(chosen([Rule(torch.nn.Linear)], found)) == {"encoder.0.weight", "encoder.2.weight"}


def test_the_last_rule_for_a_layer_counts() -> None:
    first, second, third = Rule("*"), Rule("encoder.*", method="kmeans"), Rule("encoder.2", method="float")
    rule_of = chosen([first, second, third], targets(Mixed()))
    assert rule_of["table.weight"] is first
    assert rule_of["encoder.0.weight"] is second
    assert rule_of["encoder.2.weight"] is third


def test_a_rule_that_matches_nothing_is_an_error_that_names_the_layers() -> None:
    with pytest.raises(CompressionError, match=r"'decoder\.\*' matches no layer; layers are: table, encoder\.0"):
        chosen([Rule("*"), Rule("decoder.*")], targets(Mixed()))
    with pytest.raises(CompressionError, match="there is no rule"):
        chosen([], targets(Mixed()))


def test_layers_that_no_method_takes_are_shown_with_the_reason() -> None:
    report = compress_layers(Mixed(), [Rule("*")]).report
    refused = {layer.name: layer.refusal for layer in report if layer.refusal}
    assert set(refused) == {"encoder.1.weight", "encoder.1.bias"}
    assert "no method takes a LayerNorm" in refused["encoder.1.weight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, "Rule.layers is 3"),
        ({"layers": int}, "Rule.layers is <class 'int'>"),
        ({"method": "int4"}, "Rule.method is 'int4'; it is one of int8, kmeans"),
        ({"method": "kmeans", "bits": 5}, "Rule.bits is 5; the method 'kmeans' takes 1, 2, 3, 4"),
        ({"method": "int8", "bits": 4}, "'kmeans'"),
        ({"method": "kmeans", "bits": True}, "Rule.bits is True"),
        ({"method": "kmeans", "scope": "layer"}, "Rule.scope is 'layer'"),
        ({"method": "kmeans", "scope": "group", "group": 20}, "a multiple of 16"),
        ({"method": "kmeans", "fit": "awq"}, "Rule.fit is 'awq'"),
        ({"method": "int8", "fit": "gptq"}, "only 'kmeans' is fitted"),
        ({"activations": "static"}, "Rule.activations is 'static'; it is one of dynamic, float"),
        ({"method": "prune", "sparsity": 1.0}, "Rule.sparsity is 1.0"),
        ({"method": "int8", "sparsity": 0.5}, "only 'prune' and 'kmeans'"),
        ({"method": "kmeans", "fit": "gptq", "sparsity": 0.5}, "does not go with fit='gptq'"),
        ({"method": "kmeans", "scope": "group", "sparsity": 0.5}, "does not go with scope='group'"),
        ({"method": "prune", "fit": "gptq"}, "'prune' takes plain or diagonal"),
        ({"method": "low-rank", "rank": 2.5}, "Rule.rank is 2.5"),
        ({"method": "low-rank", "rank": float("nan")}, "Rule.rank is nan"),
    ],
)
def test_what_cannot_be_asked_for_is_named_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError) as caught:
        Rule(**{"layers": "*", **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def refusal_of(model: torch.nn.Module, name: str = "weight") -> str:
    layers = compress_layers(model, [Rule("*")])
    return next(layer.refusal for layer in layers.report if layer.name.endswith(name))


def test_layers_that_would_compute_something_else_are_refused_in_words() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4))
    old = torch.nn.utils.spectral_norm(torch.nn.Linear(4, 4))
    assert "extends" in refusal_of(Doubled(4, 4))
    assert "extends" in refusal_of(normed, "bias")
    assert "computed from weight_orig" in refusal_of(old, "weight_orig")
    assert "float16" in refusal_of(torch.nn.Linear(4, 4).half())
    assert "meta" in refusal_of(torch.nn.Linear(4, 4, device="meta"))
    assert "max_norm" in refusal_of(torch.nn.Embedding(4, 4, max_norm=1.0))
    assert "extends" in refusal_of(torch.nn.LazyLinear(4))


def test_weights_that_are_empty_or_not_finite_are_refused_in_words() -> None:
    broken = torch.nn.Linear(4, 3)
    broken.weight.data[1, 2] = float("nan")
    assert "1 values such as nan" in refusal_of(broken)
    assert "is empty" in refusal_of(torch.nn.Linear(0, 3))


class Tied(torch.nn.Module):
    """An embedding whose weights are also the output layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(9, 16)
        self.head = torch.nn.Linear(16, 9, bias=False)
        self.head.weight = self.table.weight


def test_tied_weights_share_one_compressed_form_that_counts_once() -> None:
    layers = compress_layers(Tied(), [Rule("*")])
    assert layers.weights["head.weight"] is layers.weights["table.weight"]
    assert [layer.tied_to for layer in layers.report] == ["", "table.weight"]
    assert [layer.bytes_after > 0 for layer in layers.report] == [True, False]
    assert isinstance(layers.weights["head.weight"], CompressedWeight)


def test_tied_weights_are_compressed_together_or_not_at_all() -> None:
    alone = compress_layers(Tied(), [Rule("head")])
    assert not alone.weights
    assert "it shares its values with table.weight, which no rule compresses" in alone.report[0].refusal
    apart = compress_layers(Tied(), [Rule("head"), Rule("table", method="kmeans")])
    assert not apart.weights
    assert all("another rule compresses" in layer.refusal for layer in apart.report)
