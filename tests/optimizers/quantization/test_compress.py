"""compress() from rules to a model: every kind of layer, the gate, calibration, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import hotbench
from analyzer.workload import Workload
from optimizers.plan import Refusal
from optimizers.quantization.batches import as_batches
from optimizers.quantization.compress import calibrate, compress
from optimizers.quantization.errors import CompressionError
from optimizers.quantization.gate import Gate, measure, reference_outputs
from optimizers.quantization.layer_inputs import layer_inputs
from optimizers.quantization.report import Compressed
from optimizers.quantization.rules import Rule
from optimizers.quantization.schedule import Schedule


class Tagger(torch.nn.Module):
    """Tokens [batch, length] -> scores [batch, length, 5]: a layer of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(37, 24)
        self.convolution = torch.nn.Conv1d(24, 20, 3, padding=1)
        self.recurrent = torch.nn.LSTM(20, 18, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(36, 5)

    def forward(self, tokens: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.table(tokens).transpose(1, 2)
        x, _ = self.recurrent(torch.relu(self.convolution(x)).transpose(1, 2))
        scores: torch.Tensor = self.head(x)
        return scores


def tokens(count: int = 2) -> list[torch.Tensor]:
    return [torch.randint(0, 37, (3, 11)) for _ in range(count)]


def compressed(answer: Compressed | Refusal) -> Compressed:
    assert isinstance(answer, Compressed), answer
    return answer


@pytest.mark.parametrize(
    ("rule", "cosine"),
    [
        (Rule("*", method="int8"), 0.999),
        (Rule("*", method="kmeans", bits=4, fit="gptq"), 0.97),
        (Rule("*", method="prune", sparsity=0.6), 0.3),
    ],
    ids=["int8", "kmeans", "prune"],
)
def test_every_kind_of_layer_is_compressed_and_the_model_stays_as_it_was(rule: Rule, cosine: float) -> None:
    model, batches = Tagger(), tokens()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = compressed(compress(model, rule, inputs=batches, gate=Gate(min_cosine=cosine)))
    refused = {layer.name for layer in found.refusals}
    assert refused == ({"table.weight"} if rule.fit == "gptq" else set())
    assert {layer.kind for layer in found.report} == {"embedding", "convolution", "recurrent", "linear"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert found.bytes_after < found.bytes_before == sum(4 * p.numel() for p in model.parameters())
    exact = measure(model, reference_outputs(model, as_batches(batches, "")), as_batches(batches, ""))
    assert (exact.agreement, exact.cosine) == (1.0, 1.0)
    assert found.accuracy.cosine is not None
    assert found.accuracy.cosine < 1.0
    json.dumps(found.recipe)


def test_a_gate_that_does_not_pass_refuses_with_the_figures() -> None:
    answer = compress(Tagger(), Rule("head", method="kmeans", bits=1), inputs=tokens(), gate=Gate(min_cosine=0.99999))
    assert isinstance(answer, Refusal)
    assert "cosine 0." in answer.reason
    assert "at least 0.99999 is asked for" in answer.reason


def test_a_metric_that_falls_refuses_and_one_that_holds_does_not() -> None:
    model = Tagger()

    def evaluate(candidate: torch.nn.Module) -> dict[str, float]:
        return {"score": 1.0 if isinstance(candidate.head, torch.nn.Linear) else 0.9}

    rule = Rule("head")
    kept = compress(model, rule, evaluate=evaluate, gate=Gate(max_metric_drop=0.11))
    assert compressed(kept).accuracy.metric_after == {"score": 0.9}
    refused = compress(model, rule, evaluate=evaluate, gate=Gate(max_metric_drop=0.05))
    assert isinstance(refused, Refusal)
    assert "score 0.9 after 1, a drop of 0.05 is allowed" in refused.reason


def test_outputs_that_are_not_finite_do_not_pass() -> None:
    class Overflowing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.factor = torch.nn.Linear(8, 8), 1.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.linear(x)
            return y if isinstance(self.linear, torch.nn.Linear) else y * self.factor

    model, inputs = Overflowing(), torch.randn(4, 8)
    for factor in (float("nan"), float("inf")):
        model.factor = factor
        answer = compress(model, Rule("*"), inputs=inputs, gate=Gate(min_cosine=0.1))
        assert isinstance(answer, Refusal)
        assert "cosine nan" in answer.reason


def test_infinities_that_a_model_gives_on_purpose_may_stay() -> None:
    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).masked_fill(torch.arange(8) > 5, -torch.inf)  # type: ignore[no-any-return]

    found = compressed(compress(Scores(), Rule("*"), inputs=torch.randn(4, 8), gate=Gate(min_cosine=0.99)))
    assert found.accuracy.max_rel is not None
    assert found.accuracy.max_rel < 0.05


def test_nothing_to_compress_is_a_refusal_that_says_why() -> None:
    answer = compress(torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.Linear(0, 4)), Rule("*"))
    assert isinstance(answer, Refusal)
    assert "no method takes a LayerNorm" in answer.reason
    assert "is empty" in answer.reason


def test_tied_layers_stay_tied_in_size_and_values() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = torch.nn.Embedding(33, 16), torch.nn.Linear(16, 33, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.head(self.table(ids))
            return scores

    found = compressed(compress(Tied(), Rule("*"), inputs=torch.arange(33)[None], gate=Gate(min_agreement=0.9)))
    assert found.bytes_before == 33 * 16 * 4
    assert found.bytes_after == 33 * 16 + 33 * 4


def test_a_layer_under_two_names_is_compressed_once_and_stays_one() -> None:
    layer = torch.nn.Linear(16, 16)
    found = compressed(
        compress(torch.nn.Sequential(layer, torch.nn.ReLU(), layer), Rule("*"), inputs=torch.randn(3, 16))
    )
    assert len(found.report) == 1
    assert found.model.get_submodule("0") is found.model.get_submodule("2")


def test_a_transformer_layer_of_torch_runs_with_compressed_linears() -> None:
    model = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
    found = compressed(compress(model, Rule(torch.nn.Linear), inputs=torch.randn(2, 5, 16), gate=Gate(min_cosine=0.99)))
    assert [layer.name for layer in found.report if not layer.refusal] == [
        "layers.0.linear1.weight", "layers.0.linear2.weight",
    ]  # fmt: skip
    assert "NonDynamicallyQuantizableLinear" in found.refusals[0].refusal


def test_padding_rows_count_nowhere() -> None:
    model = Tagger().eval()
    ids, mask = tokens(1)[0], torch.ones(3, 11, dtype=torch.long)
    mask[1, 6:] = 0
    rules = [Rule("head", method="kmeans", fit="gptq")]
    masked = calibrate(model, rules, [((ids, mask), {})])
    rows: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, args: rows.append(args[0]))
    with torch.no_grad():
        model(ids)
    kept = rows[0][mask.bool()].double()
    hessian = masked["head.weight"].hessian
    assert masked["head.weight"].rows == 28
    assert hessian is not None
    assert torch.allclose(torch.from_numpy(hessian), kept.T @ kept, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        torch.nn.Conv2d(6, 9, 3, groups=3, padding="same", padding_mode="reflect"),
        torch.nn.Conv1d(6, 4, 5, padding="same"),
    ],
    ids=["strided", "grouped", "one-dimensional"],
)
def test_inputs_of_a_convolution_times_its_weights_are_its_outputs(layer: Any) -> None:
    x = torch.randn(2, 6, *(9,) * len(layer.kernel_size))
    (_, rows), *_ = layer_inputs(layer, ["weight"], (x,), {})
    weights = layer.weight.reshape(layer.groups, layer.out_channels // layer.groups, -1)
    products = torch.einsum("bgpk,gok->bgop", rows.reshape(2, layer.groups, -1, rows.shape[-1]), weights)
    wanted = layer(x)
    found = products.reshape(2, layer.out_channels, -1) + layer.bias[:, None]
    assert torch.allclose(found.reshape(wanted.shape), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_inputs_of_recurrent_layers_are_what_each_layer_sees(kind: Any) -> None:
    layer = kind(5, 4, 2, bidirectional=True)
    x = torch.randn(7, 3, 5)
    names = [name for name, _ in layer.named_parameters() if name.startswith("weight")]
    with torch.no_grad():
        found = dict(layer_inputs(layer, names, (x,), {}))
        first = kind(5, 4, 1, bidirectional=True)
        first.load_state_dict({name: value for name, value in layer.state_dict().items() if "_l0" in name})
        between, last = first(x)[0], layer(x)[0]
    assert sorted(found) == sorted(names)
    assert torch.allclose(found["weight_ih_l1"].reshape(7, 3, 8), between, atol=1e-6)
    states = found["weight_hh_l1"].reshape(7, 3, 4)
    assert torch.equal(states[0], torch.zeros(3, 4))
    assert torch.allclose(states[1:], last[:-1, :, :4], atol=1e-6)
    backwards = found["weight_hh_l1_reverse"].reshape(7, 3, 4)
    assert torch.allclose(backwards[1:].flip(0), last[1:, :, 4:], atol=1e-6)


def test_cells_see_input_and_state() -> None:
    cell = torch.nn.LSTMCell(3, 4)
    x, hidden = torch.randn(2, 3), torch.randn(2, 4)
    found = dict(layer_inputs(cell, ["weight_ih", "weight_hh"], (x, (hidden, hidden)), {}))
    assert torch.equal(found["weight_ih"], x)
    assert torch.equal(found["weight_hh"], hidden)


def test_unit_vectors_agree_by_their_neighbours() -> None:
    class Embedder(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(super().forward(input), dim=1)

    model, batches = Embedder(6, 12), as_batches([torch.randn(20, 6), torch.randn(13, 6)], "")
    reference = reference_outputs(model, batches)
    found = measure(model, reference, batches)
    assert (found.agreement, found.rows, found.of) == (1.0, 33, "nearest neighbour")
    with torch.no_grad():
        model.weight.add_(torch.randn_like(model.weight))
    moved = measure(model, reference, batches).agreement
    assert moved is not None
    assert moved < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gate": Gate(min_cosine=0.9)}, "the gate compares answers, and there are no inputs"),
        ({"gate": Gate(max_metric_drop=0.1)}, "needs metrics; give evaluate="),
        ({"rules": Rule("*", method="kmeans", fit="gptq")}, "needs inputs; give Schedule(calibration="),
        ({"inputs": [3]}, "a batch of inputs is a int"),
        ({"inputs": []}, "inputs holds no batch"),
        ({"inputs": "text"}, "inputs is a str"),
        ({"inputs": lambda seed: 1 / 0}, "inputs(0) raised ZeroDivisionError"),
        ({"inputs": torch.randn(2, 99)}, "the model raised RuntimeError"),
        ({"evaluate": lambda model: 3}, "evaluate(model) raised"),
        ({"rules": ["int8"]}, "a rule is a str"),
        ({"model": "model"}, "compress was given a str"),
    ],
)
def test_what_cannot_be_followed_is_one_line(arguments: dict[str, Any], message: str) -> None:
    given = {"model": torch.nn.Linear(8, 8), "rules": Rule("*"), **arguments}
    with pytest.raises(CompressionError) as caught:
        compress(given.pop("model"), given.pop("rules"), **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        torch.ones(2, 8),
        (torch.ones(2, 8),),
        {"input": torch.ones(2, 8)},
        [torch.ones(2, 8)],
        ((torch.ones(2, 8),), {}),
        lambda seed: ((torch.ones(2, 8),), {}),
    ],
)
def test_inputs_come_in_any_of_the_usual_forms(given: Any) -> None:
    model = torch.nn.Linear(8, 8)
    for args, kwargs in as_batches(given, "inputs"):
        assert torch.equal(model(*args, **kwargs), model(torch.ones(2, 8)))


def test_answers_on_the_inputs_that_weights_were_fitted_to_are_noted() -> None:
    model, rule, x = torch.nn.Linear(16, 8), Rule("*", method="kmeans", fit="gptq"), torch.randn(40, 16)
    assert (
        compressed(compress(model, rule, inputs=x)).notes
        == compressed(compress(model, rule, process=Schedule(calibration=x))).notes
    )
    assert compressed(compress(model, rule, inputs=x)).notes
    assert not compressed(compress(model, rule, inputs=torch.randn(9, 16), process=Schedule(calibration=x))).notes
    assert not compressed(compress(model, Rule("*"), inputs=x)).notes


def test_a_workload_brings_its_inputs_and_metrics() -> None:
    workload = Workload(
        torch.nn.Linear(8, 8), lambda seed: ((torch.randn(3, 8),), {}), evaluate=lambda model: {"one": 1.0}
    )
    found = compressed(compress(workload, Rule("*"), gate=Gate(min_cosine=0.99)))
    assert found.accuracy.metric_after == {"one": 1.0}
    assert found.accuracy.rows == 24


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Gate, {"min_agreement": 97}, "Gate.min_agreement is 97"),
        (Gate, {"max_metric_drop": -0.1}, "Gate.max_metric_drop is -0.1"),
        (Schedule, {"finetune": "everything"}, "Schedule.finetune is 'everything'"),
        (Schedule, {"finetune": "centroids"}, "with 0 steps"),
        (Schedule, {"steps": 5}, "no finetune"),
        (Schedule, {"finetune": "centroids", "steps": 5, "prune_ramp": 6}, "at most steps, 5"),
        (Schedule, {"learning_rate": 0}, "Schedule.learning_rate is 0"),
        (Schedule, {"steps": -1}, "Schedule.steps is -1"),
    ],
)
def test_gates_and_schedules_name_what_cannot_be(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message.replace("(", r"\(")):
        kind(**options)


def test_the_public_names_are_those() -> None:
    assert hotbench.compress is compress
    assert (hotbench.Rule, hotbench.Schedule, hotbench.Gate) == (Rule, Schedule, Gate)
