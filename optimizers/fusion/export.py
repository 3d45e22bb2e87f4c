"""The files of a fused module's artifact: program, kernels, weights, an example, and the loader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
import torch
from safetensors.torch import save
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from analyzer.record import dump_json
from kernels.compiler.standalone import render_standalone
from optimizers.fusion.loops import Loop
from optimizers.fusion.module import FusedModule
from optimizers.fusion.standalone_loader import _DTYPES as SAVED_DTYPES


def artifact_files(module: FusedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the artifact's files by name. args, kwargs: the example that a loaded copy is checked with.

    Raises HotbenchError for what an artifact cannot hold: ops of other libraries, tensors of an unusual dtype.
    """
    program = module.runner.program
    _refuse_foreign_ops(module)
    leaves = pytree.tree_leaves((args, dict(kwargs)))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = pytree.tree_leaves(module(*args, **kwargs))
    if module.fallbacks:
        raise HotbenchError(f"the fused program was not used for the example ({next(iter(module.fallbacks))})")
    example = {f"input.{k}": leaf for k, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)}
    example |= {f"output.{k}": leaf for k, leaf in enumerate(outputs) if isinstance(leaf, torch.Tensor)}
    weights = dict(zip(module.captured.weights, module.current_weights(), strict=True))
    constants = {f"constant.{k}": tensor for k, tensor in enumerate(program.lowered.constants)}
    kernels = {f"kernels/{name}": data for name, data in render_standalone(program.kernels).items()}
    return {
        "program.py": program.source.encode(),
        "program.json": dump_json(_describe(module, leaves, weights)),
        "weights.safetensors": _saved({**weights, **constants}),
        "example.safetensors": _saved(example),
        "load.py": (Path(__file__).parent / "standalone_loader.py").read_bytes(),
        "README.md": _readme(module, leaves).encode(),
        **kernels,
    }


def _refuse_foreign_ops(module: FusedModule) -> None:
    program = module.runner.program
    # The units that are calls still: those of products, attention, embeddings and the like have become kernels.
    for target in [program.lowered.calls[unit.number].target for unit in program.units if unit.kind == "call"]:
        if not isinstance(target, Loop) and not str(target).startswith("aten."):
            raise HotbenchError(
                f"the model calls {target}, which another library registers; an artifact needs torch alone"
            )


def _saved(tensors: Mapping[str, torch.Tensor]) -> bytes:
    for name, tensor in tensors.items():
        if tensor.dtype not in SAVED_DTYPES.values():
            raise HotbenchError(f"{name} is {tensor.dtype}, which an artifact cannot hold; use a real dtype")
    # Cloned: two names may share memory, which the format refuses.
    return save(
        {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    )


def _describe(module: FusedModule, leaves: list[Any], weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    captured, program = module.captured, module.runner.program
    numbers = pytree.tree_unflatten(list(range(len(leaves))), captured.input_spec)
    results = pytree.tree_unflatten(list(range(captured.output_spec.num_leaves)), captured.output_spec)
    return {
        "arena_bytes": program.arena_bytes,
        "constants": len(program.lowered.constants),
        "inputs": [_leaf(leaf) for leaf in leaves],
        "input_tree": _tree(numbers),
        "output_tree": _tree(results),
        "weights": [
            {"name": name, "parameter": isinstance(tensor, torch.nn.Parameter), **_layout(tensor)}
            for name, tensor in weights.items()
        ],
        "versions": {"torch": torch.__version__, "numba": numba.__version__},
    }


def _leaf(leaf: Any) -> dict[str, Any]:
    if isinstance(leaf, torch.Tensor):
        return {"kind": "tensor", **_layout(leaf)}
    return {"kind": "plain", "value": leaf}


def _layout(tensor: torch.Tensor) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(tensor.shape), "strides": list(tensor.stride())}


def _tree(value: Any) -> dict[str, Any]:
    """Return a structure of leaf numbers as plain JSON. Raises HotbenchError for a class that has no plain form."""
    if isinstance(value, int):
        return {"kind": "leaf", "number": value}
    if value is None:
        raise HotbenchError("the model takes or returns None inside a structure that torch does not flatten")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"kind": "record", "keys": list(value._fields), "items": [_tree(item) for item in value]}
    if isinstance(value, tuple | list):
        return {"kind": "tuple" if isinstance(value, tuple) else "list", "items": [_tree(item) for item in value]}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise HotbenchError("the model returns a dict whose keys are no text; an artifact cannot hold it")
        kind = "dict" if type(value) is dict else "record"
        return {"kind": kind, "keys": list(value), "items": [_tree(item) for item in value.values()]}
    raise HotbenchError(
        f"the model takes or returns a {type(value).__name__}; an artifact holds tuples, lists and dicts"
    )


_README = """# A fused model, exported by Hotbench

    import runpy
    model = runpy.run_path("DIR/load.py")["load"]()

`DIR` is this folder. It needs torch and numba, and nothing of Hotbench; checked with torch {torch} and numba {numba}.
The model is a `torch.nn.Module` for inference on the CPU, for inputs of these shapes:

{inputs}

`python DIR/load.py` checks every file against `manifest.json` and the model against the stored example.

| file | what it is |
|---|---|
| `program.py` | the straight-line program: {kernel_calls} kernel calls and {library_calls} library calls a step |
| `kernels/` | generated Numba kernels; compiled for this processor at the first load, cached for the user |
| `weights.safetensors` | parameters and buffers, by their original names |
| `program.json` | shapes, strides, and the structure of inputs and outputs |
| `example.safetensors` | one input and the outputs that the exporting process computed |
| `load.py` | the loader |
| `manifest.json` | the SHA-256 of every file; the loader refuses a folder that differs |

Other shapes, training and other devices are refused in words. Kernels run on one thread; torch uses its threads.
"""


def _readme(module: FusedModule, leaves: list[Any]) -> str:
    program = module.runner.program
    lines = []
    for position, leaf in enumerate(leaves):
        layout = f"{leaf.dtype} {tuple(leaf.shape)}" if isinstance(leaf, torch.Tensor) else f"the value {leaf!r}"
        lines.append(f"- input {position}: {layout}")
    return _README.format(
        torch=torch.__version__,
        numba=numba.__version__,
        inputs="\n".join(lines),
        kernel_calls=program.kernel_calls,
        library_calls=program.library_calls,
    )
