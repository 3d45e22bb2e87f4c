from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hotbench
from analyzer.errors import HotbenchError, RecordError
from optimizers.quantization import onnx_export
from optimizers.quantization.assemble import assembled
from optimizers.quantization.compressed import CODEBOOK, INT8, LOW_RANK
from tests.optimizers.quantization.weights import compressed

onnx = pytest.importorskip("onnx", reason="onnx is of requirements-bench.txt")
pytest.importorskip("onnxscript", reason="onnxscript is of requirements-bench.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is of requirements-bench.txt")

VOCABULARY = 401


class Reader(nn.Module):
    """Token ids [batch, length] -> scores by the embedding's own table, and states."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 48)
        self.wide = nn.Linear(48, 65)
        self.again = nn.Linear(65, 65, bias=False)
        self.tied = nn.Linear(65, 65)
        self.tied.weight = self.again.weight
        self.filter = nn.Conv1d(65, 33, 3, padding=1)
        self.norm = nn.BatchNorm1d(33)
        self.thin = nn.Linear(33, 48)
        self.recurrent = nn.LSTM(48, 24, batch_first=True, bidirectional=True) if recurrent else None
        self.out = nn.Linear(48, VOCABULARY, bias=False)
        self.out.weight = self.table.weight
        self.norm.running_var = torch.rand(33) + 0.5

    def forward(self, ids: torch.Tensor) -> dict[str, Any]:
        hidden = torch.tanh(self.tied(self.again(torch.relu(self.wide(self.table(ids))))))
        states = self.thin(self.norm(self.filter(hidden.transpose(1, 2))).transpose(1, 2))
        if self.recurrent is not None:
            states = self.recurrent(states)[0]
        return {"scores": self.out(states.amax(1)), "states": (states, None)}


def made(model: nn.Module, how: str = "float", other: dict[str, str] | None = None) -> Any:
    """Return what save_onnx reads of a compressed model: every matrix, tied ones once."""
    by_tensor: dict[int, Any] = {}
    weights = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        if "weight" in name and not name.startswith("norm"):
            method = (other or {}).get(name, INT8)
            weights[name] = by_tensor.setdefault(id(value), compressed(method, value))
    activations = dict.fromkeys((name.rpartition(".")[0] for name in weights), how)
    small = assembled(model, weights, activations)
    assert isinstance(small, nn.Module)
    return SimpleNamespace(model=small, weights=weights, activations=activations)


def run(path: Path, ids: torch.Tensor, plain: bool = True) -> list[np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if plain:  # else onnxruntime puts its own kernels, which round activations, where the file says float32
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path.as_posix(), options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray[Any, Any]] = session.run(None, {session.get_inputs()[0].name: ids.numpy()})
    return found


def as_float(model: nn.Module, weights: dict[str, Any]) -> nn.Module:
    """Put the dequantised weights into the float model."""
    with torch.no_grad():
        for name, weight in weights.items():
            parameter = model.get_parameter(name)
            parameter.copy_(torch.from_numpy(weight.dequantised()).view_as(parameter))
    return model


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_file_computes_what_the_dequantised_weights_do(tmp_path: Path, recurrent: bool) -> None:
    model = Reader(recurrent).eval()
    small = made(model, other={"thin.weight": LOW_RANK})
    saved = hotbench.save_onnx(small, tmp_path / "small.onnx", torch.randint(0, VOCABULARY, (3, 11)))
    # torch.export fixes the length of what a recurrent layer takes, and nothing else
    ids = torch.randint(0, VOCABULARY, (5, 11 if recurrent else 7))
    with torch.no_grad():
        want = as_float(model, small.weights)(ids)
        near = small.model(ids)
    scores, states = run(saved.path, ids)
    np.testing.assert_allclose(scores, want["scores"], atol=1e-4)
    np.testing.assert_allclose(states, want["states"][0], atol=1e-4)
    np.testing.assert_allclose(scores, near["scores"], atol=1e-4)
    assert cosine(run(saved.path, ids, plain=False)[0], want["scores"].numpy()) > 0.999
    assert any("fixed" in note for note in saved.notes) == recurrent
    assert set(saved.left) == {"thin.weight"} and set(saved.weights) | {"thin.weight"} == set(small.weights)
    if recurrent:
        with pytest.raises(Exception, match="(?i)invalid dimensions"):
            run(saved.path, ids[:, :7])


def test_weights_are_int8_once_and_the_file_is_small(tmp_path: Path) -> None:
    model = Reader(recurrent=True).eval()
    small = made(model)
    saved = hotbench.save_onnx(small, tmp_path / "small.onnx", torch.randint(0, VOCABULARY, (1, 9)))
    content = saved.path.read_bytes()
    assert len(content) == saved.bytes and not list(tmp_path.glob(".*"))
    graph = onnx.load_from_string(content).graph
    whole = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    different = {id(weight): weight.arrays["values"].size for weight in small.weights.values()}
    assert sum(int(np.prod(tensor.dims)) for tensor in whole) == sum(different.values())
    floats = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert max(int(np.prod(tensor.dims)) for tensor in floats) <= VOCABULARY  # scales and biases
    before = sum(value.numel() * 4 for value in model.parameters())
    assert saved.bytes < before / 2.2
    assert b".py" not in content and str(Path(__file__).parents[3]).encode() not in content


def test_calibration_rounds_activations_where_they_are_dynamic(tmp_path: Path) -> None:
    small = made(Reader(recurrent=False).eval(), "dynamic")
    small.activations["wide"] = "float"
    batches = [torch.randint(0, VOCABULARY, (4, 11)) for _ in range(8)]
    saved = hotbench.save_onnx(small, tmp_path / "small.onnx", batches[0], calibration=batches)
    assert saved.activations == "static"
    nodes = [node.op_type for node in onnx.load(saved.path).graph.node]
    assert nodes.count("QuantizeLinear") == 5  # again, tied, filter, thin, out
    with torch.no_grad():
        want = small.model(batches[0])["scores"].numpy()
    for plain in (True, False):
        assert cosine(run(saved.path, batches[0], plain)[0], want) > 0.99
    weights_alone = hotbench.save_onnx(small, tmp_path / "small.onnx", batches[0])
    assert weights_alone.activations == "float" and "calibration" in weights_alone.notes[0]


def test_two_dimensions_padding_groups_cells_and_keywords_are_taken(tmp_path: Path) -> None:
    class Painter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.even = nn.Conv2d(3, 10, (3, 2), stride=2, padding=(1, 2), dilation=(1, 2))
            self.mirror = nn.Conv2d(10, 10, 3, padding=(2, 1), padding_mode="reflect")
            self.groups = nn.Conv2d(10, 10, 3, padding="same", groups=5)
            self.cell = nn.GRUCell(10, 7)

        def forward(self, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            state: torch.Tensor = self.cell(self.groups(self.mirror(self.even(image))).mean((2, 3)))
            return state * scale

    model = Painter().eval()
    small = made(model)
    image, scale = torch.randn(2, 3, 13, 11), torch.randn(7)
    saved = hotbench.save_onnx(small, tmp_path / "a" / "b.onnx", image, {"scale": scale})
    session = onnxruntime.InferenceSession(saved.path.as_posix(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image.numpy(), "scale": scale.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, as_float(model, small.weights)(image, scale), atol=1e-4)


def test_what_cannot_be_written_is_said_in_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = made(nn.Sequential(nn.Linear(8, 5)), "dynamic")
    x, path = torch.randn(3, 8), tmp_path / "small.onnx"
    books = made(nn.Sequential(nn.Linear(8, 5)), other={"0.weight": CODEBOOK})
    with pytest.raises(HotbenchError, match=r"0\.weight is codebook; .*method='int8'"):
        hotbench.save_onnx(books, path, x)
    with pytest.raises(HotbenchError, match="does not take batch 1 of calibration"):
        hotbench.save_onnx(small, path, x, calibration=[x, torch.randn(3, 9)])
    for wrong in (float("inf"), float("nan")):
        with pytest.raises(HotbenchError, match="give other inputs"):
            hotbench.save_onnx(small, path, x, calibration=x * wrong)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordError, match="cannot write .*folder"):
        hotbench.save_onnx(small, tmp_path / "folder", x)
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("onnx", "a_package_that_is_not_there"))
    with pytest.raises(HotbenchError, match="pip install a_package_that_is_not_there"):
        hotbench.save_onnx(small, path, x)
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]
