from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hotbench
from analyzer.errors import HotbenchError, RecordError
from analyzer.record import write_folder
from optimizers.artifact import verify_artifact
from optimizers.quantization.assemble import assembled
from optimizers.quantization.compressed import BFLOAT16, CODEBOOK, GROUPED_CODEBOOK, INT8, LOW_RANK, SPARSE
from optimizers.quantization.output_tree import Record, described, rebuilt
from optimizers.quantization.program_load import check_program, load_program
from optimizers.quantization.program_save import program_files
from tests.optimizers.quantization.weights import compressed


class Reader(nn.Module):
    """Token ids [batch, length] -> a dictionary of scores and a pooled state: every kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 20)
        self.wide = nn.Linear(20, 48)
        self.norm = nn.LayerNorm(48)
        self.recurrent = nn.GRU(48, 12, batch_first=True, bidirectional=True)
        self.filter = nn.Conv1d(24, 16, 3, padding=1)
        self.thin = nn.Linear(16, 16)
        self.pruned = nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)
        self.register_buffer("shift", torch.randn(5))

    def forward(self, ids: torch.Tensor, scale: torch.Tensor | None = None) -> dict[str, Any]:
        hidden = self.recurrent(self.norm(self.wide(self.table(ids))))[0].transpose(1, 2)
        pooled = self.pruned(self.thin(self.filter(hidden).amax(2)))
        scores = self.head(pooled) + self.shift
        return {"scores": scores if scale is None else scores * scale, "state": (pooled, None)}


METHODS = {
    "table.weight": CODEBOOK,
    "wide.weight": INT8,
    "recurrent": INT8,
    "filter.weight": INT8,
    "thin.weight": LOW_RANK,
    "pruned.weight": SPARSE,
    "head.weight": INT8,
}


class Made:
    """What `hotbench.save` reads of a compressed model."""

    def __init__(self) -> None:
        self.float = Reader().eval()
        self.weights = {
            name: compressed(METHODS.get(name) or METHODS[name.partition(".")[0]], value, 3)
            for name, value in self.float.named_parameters()
            if "weight" in name and not name.startswith("norm")
        }
        found = assembled(self.float, self.weights)
        assert isinstance(found, nn.Module)
        self.model, self.recipe = found, {"rules": ["all"]}


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def inputs(batch: int = 1, length: int = 7) -> torch.Tensor:
    return torch.randint(0, 60, (batch, length))


@pytest.mark.parametrize("options", [{}, {"mapped": True}, {"coding": "huffman"}], ids=["plain", "mapped", "huffman"])
def test_weights_alone_go_into_a_float_model_bit_for_bit(made: Made, tmp_path: Path, options: dict[str, Any]) -> None:
    saved = hotbench.save(made, tmp_path / "small", **options)  # type: ignore[arg-type]
    assert sorted(path.name for path in saved.folder.iterdir()) == ["manifest.json", *sorted(saved.files)]
    other = Reader().eval()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    loaded = hotbench.load(saved.folder, model=other)
    x = inputs(3, 9)
    expected = made.model(x)
    for again in (loaded(x), hotbench.load(str(saved.folder), model=other)(x)):
        assert torch.equal(again["scores"], expected["scores"])
        assert torch.equal(again["state"][0], expected["state"][0])
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_program_loads_without_hotbench_and_without_the_models_code(made: Made, tmp_path: Path) -> None:
    x = inputs()
    saved = hotbench.save(made, tmp_path / "program", x, mapped=True)  # type: ignore[arg-type]
    assert verify_artifact(saved.folder) == 0.0
    loaded = hotbench.load(saved.folder)
    for ids in (x, inputs(1, 12), inputs(5, 3)):  # sizes stay open, a batch of one included
        got, expected = loaded(ids), made.model(ids)
        assert list(got) == ["scores", "state"] and got["state"][1] is None
        assert torch.equal(got["scores"], expected["scores"]) and torch.equal(got["state"][0], expected["state"][0])
    assert loaded.eval() is loaded and not any(saved.folder.rglob("__pycache__"))
    with pytest.raises(Exception, match="for inference; train the original"):
        loaded.train()
    assert torch.equal(hotbench.load(saved.folder, model=Reader().eval())(x)["scores"], made.model(x)["scores"])


def test_named_inputs_are_part_of_the_program(made: Made) -> None:
    files = program_files(made.model, made.weights, {}, (inputs(2),), {"scale": torch.tensor([2.0])})
    layers = json.loads(files["program.json"])
    assert layers["holds"]["recurrent"] == "recurrent" and "pruned" not in layers["holds"]
    here = str(Path(__file__).parents[3]).encode()
    assert not [name for name, content in files.items() if here in content]


@pytest.mark.parametrize("method", [BFLOAT16, GROUPED_CODEBOOK])
def test_programs_hold_every_kind_of_product(method: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(20, 9), nn.ReLU()).eval()
    weights = {"0.weight": compressed(method, model[0].weight)}
    small = assembled(model, weights)
    assert isinstance(small, nn.Module)
    x = torch.randn(3, 20)
    write_folder(tmp_path / "model", dict(program_files(small, weights, {}, (x,), {})), "artifact", "model")
    loaded = load_program(tmp_path / "model")
    assert check_program(loaded, tmp_path / "model") == 0.0
    assert torch.equal(loaded(x), small(x))
    with pytest.raises(HotbenchError, match="was not made for these inputs"):
        loaded(torch.randn(3, 21))


def test_what_does_not_fit_or_is_damaged_is_refused_in_one_line(made: Made, tmp_path: Path) -> None:
    folder = hotbench.save(made, tmp_path / "small").folder  # type: ignore[arg-type]
    narrow, more = Reader(), Reader()
    narrow.wide = nn.Linear(20, 40)
    more.extra = nn.Linear(2, 2)
    shifted = Reader()
    shifted.shift = torch.zeros(6)
    cases: list[tuple[Any, str]] = [
        (lambda: hotbench.load(folder), r"without a program; give the float model: load\(folder, model=model\)"),
        (
            lambda: hotbench.load(folder, model=narrow),
            r"does not fit the model: wide: the compressed weight is \[48, 20\]",
        ),
        (lambda: hotbench.load(folder, model=nn.Linear(2, 2)), "does not fit the model: .*no attribute"),
        (lambda: hotbench.load(folder, model=more), "it has no 'extra.bias'"),
        (lambda: hotbench.load(folder, model=shifted), "size mismatch for shift"),
        (lambda: hotbench.load(folder, "0" * 64, model=Reader()), "has the hash"),
        (lambda: hotbench.load(tmp_path / "nowhere", model=Reader()), "no folder"),
        (lambda: hotbench.save(made, Path(__file__)), "exists and is no saved artifact|cannot save"),  # type: ignore[arg-type]
    ]
    for call, message in cases:
        with pytest.raises(RecordError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(RecordError, match="corrupt: weights.safetensors differs from its hash"):
        hotbench.load(folder, model=Reader())


def test_a_model_that_cannot_be_exported_says_what_to_do(made: Made, tmp_path: Path) -> None:
    class Deciding(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(
        HotbenchError, match="torch.export cannot express the model .*; save it without inputs"
    ) as caught:
        program_files(Deciding(), {}, {}, (torch.ones(2),), {})
    assert "\n" not in str(caught.value)


def test_results_keep_their_structure_without_their_classes() -> None:
    class Named(dict[str, Any]):
        pass

    torch.utils._pytree.register_pytree_node(  # type: ignore[attr-defined]
        Named,
        lambda value: (list(value.values()), list(value)),
        lambda values, names: Named(zip(names, values, strict=True)),
    )
    first, second = torch.ones(1), torch.zeros(2)
    outputs = Named(a=first, b=[second, (None, 3)])
    tree = json.loads(json.dumps(described(outputs)))
    again = rebuilt(tree, [first, second])
    assert isinstance(again, Record) and again.a is first and again[0] is first and again["b"][0] is second
    assert again[:1] == (first,) and again.b[1] == (None, 3)
    with pytest.raises(AttributeError, match="has no 'c'; it has a, b"):
        again.c  # noqa: B018
    with pytest.raises(HotbenchError, match="returns a object"):
        described(object())
