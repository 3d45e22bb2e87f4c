"""Loads the fused model in this folder. Needs torch and numba, nothing else.

    model = runpy.run_path("DIR/load.py")["load"]()

Run as a script it checks itself: every file against the manifest, then the stored example.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import torch

FOLDER = Path(__file__).resolve().parent
KIND = "artifact"
FORMAT_VERSION = 1
ALIGNMENT = 64
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "BOOL": torch.bool,
}


class ArtifactError(Exception):
    """An artifact that cannot be loaded, or inputs that it was not made for: one line."""


class FusedModel(torch.nn.Module):
    """The exported model, inference only. Its parameters and buffers have the names that the original's had."""

    def __init__(self, program: dict[str, Any], weights: dict[str, torch.Tensor], bind: Callable[..., Any]) -> None:
        super().__init__()
        self.program = program
        self._bind = bind
        self._lock = threading.Lock()
        self._addresses: list[int] = []
        self._held: list[torch.Tensor] = []
        self._run: Callable[..., Any] | None = None
        self._kernels: dict[str, Callable[..., None]] = {}
        spare = torch.empty(program["arena_bytes"] + ALIGNMENT, dtype=torch.uint8)
        self._arena = spare[-spare.data_ptr() % ALIGNMENT :]
        self._owners = [_register(self, spec, weights[spec["name"]]) for spec in program["weights"]]
        self._constants = tuple(weights[f"constant.{k}"] for k in range(program["constants"]))
        self.eval()

    def train(self, mode: bool = True) -> FusedModel:
        """Refuse training: the program has no backward pass."""
        if mode:
            raise ArtifactError("this artifact is for inference only; train the original model and export it again")
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the original returns. Raises ArtifactError for inputs of another shape or dtype."""
        leaves: list[Any] = []
        _flatten(self.program["input_tree"], [list(args), kwargs], leaves, "arguments")
        inputs = [
            _check(k, leaf, spec) for k, (leaf, spec) in enumerate(zip(leaves, self.program["inputs"], strict=True))
        ]
        with self._lock:
            weights = [owner[key] for owner, key in self._owners]
            addresses = [weight.data_ptr() for weight in weights]
            if self._run is None or addresses != self._addresses:
                for weight, spec in zip(weights, self.program["weights"], strict=True):
                    _check_layout(f"weight {spec['name']}", weight, spec)
                self._run = self._bind(self._arena, tuple(weights), self._constants, self._kernels)
                self._held, self._addresses = weights, addresses
            flat = self._run(*(leaf for leaf in inputs if isinstance(leaf, torch.Tensor)))
        return _unflatten(self.program["output_tree"], flat)


def load(folder: str | Path = FOLDER) -> FusedModel:
    """Return the model. Raises ArtifactError where a file is missing or changed."""
    folder = Path(folder)
    files = verified_files(folder)
    program = json.loads(files["program.json"])
    _warn_of_versions(program["versions"])
    namespace: dict[str, Any] = {"__name__": "hotbench_program"}
    exec(compile(files["program.py"], str(folder / "program.py"), "exec"), namespace)
    model = FusedModel(program, read_safetensors(files["weights.safetensors"]), namespace["bind"])
    sources = {name.removeprefix("kernels/"): data for name, data in files.items() if name.startswith("kernels/")}
    model._kernels = load_kernels(sources)
    return model


def check(model: FusedModel, folder: str | Path = FOLDER) -> float:
    """Return max|a-b| between the model's outputs and the stored ones, on the stored inputs."""
    tensors = read_safetensors((Path(folder) / "example.safetensors").read_bytes())
    leaves = [
        _laid_out(tensors[f"input.{k}"], spec) if spec["kind"] == "tensor" else spec["value"]
        for k, spec in enumerate(model.program["inputs"])
    ]
    args, kwargs = _unflatten(model.program["input_tree"], leaves)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs: list[Any] = []
        _flatten(model.program["output_tree"], model(*args, **kwargs), outputs, "outputs")
    errors = [
        _distance(output, tensors[f"output.{k}"])
        for k, output in enumerate(outputs)
        if isinstance(output, torch.Tensor)
    ]
    return max(errors, default=0.0)


def verified_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file, each compared with its hash in the manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        expected: dict[str, str] = manifest["files"]
        kind, version = manifest["kind"], manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder} is no artifact: its manifest.json cannot be read ({type(error).__name__})"
        ) from None
    if kind != KIND or version > FORMAT_VERSION:
        raise ArtifactError(f"{folder} holds a {kind} of format {version}; this loader reads an artifact of format 1")
    files = {}
    for name, digest in expected.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{folder} names a file outside itself: {name!r}; it is corrupt")
        if not path.is_file():
            raise ArtifactError(f"{folder} is incomplete: {name} is missing; copy the artifact again")
        files[name] = path.read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise ArtifactError(f"{folder} is corrupt: {name} differs from its hash; copy the artifact again")
    for name in ("program.py", "program.json", "weights.safetensors", "example.safetensors"):
        if name not in files:
            raise ArtifactError(f"{folder} is incomplete: its manifest does not name {name}")
    return files


def read_safetensors(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file: 8 bytes of length, a JSON header, then raw little-endian data."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = bytearray(data[8 + length :])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
        if begin == end:
            tensors[name] = torch.empty(shape, dtype=dtype)
        else:
            # Copied: data begins at any byte, kernels want whole elements aligned.
            tensors[name] = torch.frombuffer(body[begin:end], dtype=torch.uint8).clone().view(dtype).reshape(shape)
    return tensors


def load_kernels(sources: dict[str, bytes]) -> dict[str, Callable[..., None]]:
    """Return the compiled kernels by name, from verified sources.

    They are written to this user's cache first, where Numba keeps its machine code: the artifact stays as it is.
    """
    if not sources:
        return {}
    digest = hashlib.sha256(b"".join(name.encode() + sources[name] for name in sorted(sources))).hexdigest()[:24]
    folder = _cache_folder(digest)
    for name, data in sources.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            _write(folder / name, data)
    names = {Path(name).stem for name in sources}
    with _modules_of(folder, names):
        loader = _import(folder / "hotbench_kernels.py")
        return {name: loader.load(name) for name in loader.KERNELS}


def _cache_folder(digest: str) -> Path:
    base = os.environ.get("HOTBENCH_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "hotbench" / "artifacts" / digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="hotbench-artifact-"))


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    Path(temporary).replace(path)


@contextlib.contextmanager
def _modules_of(folder: Path, names: set[str]) -> Iterator[None]:
    """Let the kernels import each other from `folder`, and put back the modules and the path of before."""
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    path = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def _import(path: Path) -> types.ModuleType:
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def _register(root: torch.nn.Module, spec: dict[str, Any], tensor: torch.Tensor) -> tuple[dict[str, Any], str]:
    """Put a weight where its name says, and return where it is looked up at each call."""
    *path, key = spec["name"].split(".")
    module = root
    for part in path:
        if part not in module._modules:
            module.add_module(part, torch.nn.Module())
        module = module._modules[part]  # type: ignore[assignment]
    tensor = _laid_out(tensor, spec)
    if spec["parameter"]:
        module._parameters[key] = torch.nn.Parameter(tensor, requires_grad=False)
        return module._parameters, key
    module.register_buffer(key, tensor)
    return module._buffers, key


def _laid_out(tensor: torch.Tensor, spec: dict[str, Any]) -> torch.Tensor:
    if list(tensor.stride()) == spec["strides"]:
        return tensor
    elements = 1 + sum((n - 1) * s for n, s in zip(spec["shape"], spec["strides"], strict=True))
    base = torch.zeros(elements, dtype=tensor.dtype)
    window = base.as_strided(spec["shape"], spec["strides"])
    # Elements of an expanded tensor share memory: each is written with the same value.
    return window.copy_(tensor) if 0 not in spec["strides"] else _expanded(window, tensor)


def _expanded(window: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    small, source = window, tensor
    for axis, stride in enumerate(window.stride()):
        if stride == 0:
            small, source = small.narrow(axis, 0, 1), source.narrow(axis, 0, 1)
    small.copy_(source)
    return window


def _check(position: int, leaf: Any, spec: dict[str, Any]) -> Any:
    if spec["kind"] != "tensor":
        if type(leaf) is not type(spec["value"]) or leaf != spec["value"]:
            raise ArtifactError(f"input {position} is {leaf!r}; this artifact was made for {spec['value']!r}")
        return leaf
    if not isinstance(leaf, torch.Tensor):
        raise ArtifactError(f"input {position} is a {type(leaf).__name__}; pass a tensor")
    if leaf.device.type != "cpu":
        raise ArtifactError(f"input {position} is on {leaf.device}; this artifact runs on the CPU")
    expected = (spec["dtype"], spec["shape"])
    if (str(leaf.dtype).removeprefix("torch."), list(leaf.shape)) != expected:
        found = f"{str(leaf.dtype).removeprefix('torch.')} {list(leaf.shape)}"
        raise ArtifactError(
            f"input {position} is {found}; this artifact was made for {expected[0]} {expected[1]}; export one for it"
        )
    return _laid_out(leaf.resolve_neg().resolve_conj(), spec)


def _check_layout(name: str, tensor: torch.Tensor, spec: dict[str, Any]) -> None:
    found = (str(tensor.dtype).removeprefix("torch."), list(tensor.shape), list(tensor.stride()), tensor.device.type)
    if found != (spec["dtype"], spec["shape"], spec["strides"], "cpu"):
        raise ArtifactError(f"{name} is now {found[0]} {found[1]}; this artifact needs {spec['dtype']} {spec['shape']}")


def _flatten(tree: Any, value: Any, leaves: list[Any], where: str) -> None:
    """Append the leaves of `value`, whose structure must be `tree`, in the order of their numbers."""
    kind = tree["kind"]
    if kind == "leaf":
        leaves.extend([None] * (tree["number"] + 1 - len(leaves)))
        leaves[tree["number"]] = value
    elif kind in ("tuple", "list"):
        if not isinstance(value, tuple | list) or len(value) != len(tree["items"]):
            raise ArtifactError(f"{where} should be {len(tree['items'])} items")
        for position, (item, inner) in enumerate(zip(tree["items"], value, strict=True)):
            _flatten(item, inner, leaves, f"{where}[{position}]")
    else:
        if not isinstance(value, dict) or set(value) != set(tree["keys"]):
            raise ArtifactError(f"{where} should have the keys {', '.join(map(str, tree['keys'])) or '(none)'}")
        for key, item in zip(tree["keys"], tree["items"], strict=True):
            _flatten(item, value[key], leaves, f"{where}[{key!r}]")


class Record(dict[str, Any]):
    """A dictionary whose values are attributes too: what stands for a result class of another library."""

    def __getattr__(self, name: str) -> Any:
        """Return the value called `name`."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _unflatten(tree: Any, leaves: Any) -> Any:
    kind = tree["kind"]
    if kind == "leaf":
        return leaves[tree["number"]]
    items = [_unflatten(item, leaves) for item in tree["items"]]
    if kind == "tuple":
        return tuple(items)
    if kind == "list":
        return items
    return (
        Record(zip(tree["keys"], items, strict=True))
        if kind == "record"
        else dict(zip(tree["keys"], items, strict=True))
    )


def _distance(result: torch.Tensor, stored: torch.Tensor) -> float:
    if result.shape != stored.shape or result.dtype != stored.dtype:
        return math.inf
    a, b = result.double(), stored.double()
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    difference = (a - b).abs()[~same]
    return float(torch.nan_to_num(difference, nan=math.inf).max()) if difference.numel() else 0.0


def _warn_of_versions(versions: dict[str, str]) -> None:
    for name, found in (("torch", torch.__version__), ("numba", numba.__version__)):
        if found.split("+")[0] != versions[name].split("+")[0]:
            warnings.warn(f"this artifact was checked with {name} {versions[name]}; this is {found}", stacklevel=3)


def _main() -> int:
    try:
        model = load()
        print(json.dumps({"max_abs_error": check(model)}))
    except ArtifactError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
