"""A compressed model as files that load without its code: torch.export's program, hollow, beside the packed weights."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from analyzer.record import dump_json
from optimizers.quantization.compressed import CompressedWeight
from optimizers.quantization.encode import encode
from optimizers.quantization.file_bytes import PLAIN
from optimizers.quantization.output_tree import FlatModel, described, is_tensor
from optimizers.quantization.packed_state import holds_of, kinds_of, rest_of
from optimizers.quantization.program_load import EXAMPLE_FILE, LAYERS_FILE, PROGRAM_FILE
from optimizers.quantization.tensor_file import Stored, written

_ROOT = Path(__file__).parents[2]
_LOADED = "optimizers.quantization.program_load"
_PACKAGES = "analyzer|kernels|optimizers"
# Also in texts that are code themselves, where a line begins behind an escaped end of line.
_WORD = r"(?:\b|(?<=\\n))(from|import)"
_FROM = re.compile(rf"{_WORD} ((?:{_PACKAGES})(?:\.\w+)*)\b(?: import \(?([\w, ]+))?")
_LOADER = Path(__file__).with_name("standalone_loader.py")


def program_files(
    model: torch.nn.Module,
    weights: Mapping[str, CompressedWeight],
    recipe: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    panels: Collection[str] = (),
    coding: str = PLAIN,
) -> dict[str, bytes]:
    """Return the files of a compressed model by name; `args` and `kwargs` are an example of what it is called with.

    Sizes that torch.export finds free stay free; otherwise the program takes the example's alone.
    Raises HotbenchError for a model that torch.export cannot express.
    """
    with torch.no_grad():
        outputs = model(*args, **kwargs)
    example = example_tensors("input", (args, dict(kwargs))) | example_tensors("output", outputs)
    program = exported_program(FlatModel(model), args, dict(kwargs))
    package, runtime = _runtime()
    return {
        **encode(weights, recipe, rest_of(model, weights), kinds_of(model, weights), panels, coding),
        PROGRAM_FILE: _hollow(program),
        LAYERS_FILE: dump_json({
            "holds": holds_of(model, weights),
            "outputs": described(outputs),
            "versions": {"torch": torch.__version__},
            "package": package,
        }),
        EXAMPLE_FILE: written(example),
        "load.py": _LOADER.read_bytes(),
        **runtime,
    }  # fmt: skip


def example_tensors(name: str, tree: Any) -> dict[str, Stored]:
    """Return the tensors of a structure of inputs or outputs as an example holds them: "NAME.0" and so on."""
    leaves = [leaf for leaf in pytree.tree_leaves(tree) if is_tensor(leaf)]
    return {f"{name}.{k}": _saved(leaf) for k, leaf in enumerate(leaves)}


def exported_program(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the program with as many sizes open as torch.export leaves open, and the example itself in it."""
    failure: Exception | None = None
    for given, named, shapes in _attempts(args, kwargs):
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program: Any = torch.export.export(model, given, named or None, dynamic_shapes=shapes)
        except Exception as error:  # whatever torch.export meets in a user's model is its reason
            failure = error
        else:
            program.example_inputs = (args, kwargs)
            return program
    assert failure is not None
    why = " ".join(str(failure).split())[:300]
    raise HotbenchError(
        f"torch.export cannot express the model ({type(failure).__name__}: {why}); save it without inputs, and give "
        "the float model when it is loaded"
    ) from failure


def _attempts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], Any]]:
    """Yield examples and their open sizes. torch.export fixes a size of 1: a batch of 1 is tried as one of 2 first."""
    free = pytree.tree_map(_free_sizes, (*args, *kwargs.values()))
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if tensors and all(tensor.dim() and tensor.shape[0] == 1 for tensor in tensors):
        twice = pytree.tree_map(lambda x: torch.cat([x, x]) if isinstance(x, torch.Tensor) else x, (args, kwargs))
        yield *twice, free
    yield args, kwargs, free
    yield args, kwargs, None


def _free_sizes(value: Any) -> dict[int, Any] | None:
    """Return that torch.export may leave each size of a tensor open."""
    auto: Any = torch.export.Dim.AUTO
    return dict.fromkeys(range(value.dim()), auto) if isinstance(value, torch.Tensor) else None


def _hollow(program: Any) -> bytes:
    """Return the program's file with tensors of one element in the place of its state, which lies elsewhere."""
    program._state_dict = {
        name: torch.nn.Parameter(_one(value), requires_grad=False)
        if isinstance(value, torch.nn.Parameter)
        else _one(value)
        for name, value in program.state_dict.items()
    }
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _one(value: torch.Tensor) -> torch.Tensor:
    return torch.zeros((), dtype=value.dtype).expand(value.shape)


def _saved(tensor: torch.Tensor) -> Stored:
    if tensor.dtype is torch.bfloat16:
        raise HotbenchError("the model takes or returns bfloat16, which its example cannot hold; use float32")
    return Stored(np.ascontiguousarray(tensor.detach().resolve_conj().resolve_neg().cpu().numpy()))


def _runtime() -> tuple[str, dict[str, bytes]]:
    """Return a package of all that loading imports: its name, which its content decides, and its files."""
    texts: dict[str, str] = {}
    waiting = [_LOADED]
    while waiting:
        module = waiting.pop()
        path = _ROOT / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else _ROOT / module.replace(".", "/") / "__init__.py"
        if module in texts or not path.is_file():
            continue
        texts[module] = "" if path.name == "__init__.py" else path.read_text()
        for match in _FROM.finditer(texts[module]):
            waiting += [match[2], *(f"{match[2]}.{name.strip()}" for name in (match[3] or "").split(",") if name)]
    digest = hashlib.sha256("\0".join(f"{name}\0{texts[name]}" for name in sorted(texts)).encode()).hexdigest()
    package = f"hotbench_runtime_{digest[:12]}"
    files = {f"{package}/__init__.py": b""}
    for name, text in texts.items():
        *folders, own = name.split(".")
        for depth in range(len(folders)):
            files.setdefault("/".join((package, *folders[: depth + 1], "__init__.py")), b"")
        if text:
            files["/".join((package, *folders, f"{own}.py"))] = _moved(text, package).encode()
    return package, files


def _moved(text: str, package: str) -> str:
    """Return a module's text with its imports of ours going to the package."""
    return re.sub(rf"{_WORD} ({_PACKAGES})(?=[.\s])", rf"\1 {package}.\2", text)
