"""Loads the compressed model in this folder. Needs torch and numba, nothing else.

    model = runpy.run_path("DIR/load.py")["load"]()

Run as a script it checks itself: every file against the manifest, then the stored example.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
KIND = "artifact"
FORMAT_VERSION = 1


class ArtifactError(Exception):
    """An artifact that cannot be loaded, or inputs that it was not made for: one line."""


def load(folder: str | Path = FOLDER) -> Any:
    """Return the model, a torch.nn.Module. Raises ArtifactError where a file is missing or changed."""
    folder = Path(folder).resolve()
    verify(folder)
    runtime, failures = _runtime(folder)
    try:
        return runtime.load_program(folder)
    except failures as error:
        raise ArtifactError(str(error)) from error


def check(model: Any, folder: str | Path = FOLDER) -> float:
    """Return max|a-b| between the model's outputs and the stored ones, on the stored inputs."""
    folder = Path(folder).resolve()
    runtime, failures = _runtime(folder)
    try:
        return float(runtime.check_program(model, folder))
    except failures as error:
        raise ArtifactError(str(error)) from error


def verify(folder: Path) -> None:
    """Compare each file with its hash in the manifest. Raises ArtifactError for one that differs."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        expected: dict[str, str] = manifest["files"]
        kind, version = manifest["kind"], manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = type(error).__name__
        raise ArtifactError(f"{folder} is no artifact: its manifest.json cannot be read ({what})") from None
    if kind != KIND or version > FORMAT_VERSION:
        raise ArtifactError(f"{folder} holds a {kind} of format {version}; this loader reads an artifact of format 1")
    for name, digest in expected.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{folder} names a file outside itself: {name!r}; it is corrupt")
        if not path.is_file():
            raise ArtifactError(f"{folder} is incomplete: {name} is missing; copy the artifact again")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != digest:
            raise ArtifactError(f"{folder} is corrupt: {name} differs from its hash; copy the artifact again")


def _runtime(folder: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return the module of the folder's package that loads and checks, and the errors that are messages for people."""
    package: str = json.loads((folder / "program.json").read_bytes())["package"]
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder stays as it is
    try:
        if package not in sys.modules:
            _import_package(package, folder / package)
        runtime = importlib.import_module(f"{package}.optimizers.quantization.program_load")
        errors = importlib.import_module(f"{package}.analyzer.errors")
        kernels = folder / package / "kernels"
        for path in (*sorted(kernels.glob("compiler/*.py")), *sorted(kernels.glob("quantized/cpu_*.py"))):
            importlib.import_module(".".join(path.relative_to(folder).with_suffix("").parts))
    finally:
        sys.dont_write_bytecode = wrote
    return runtime, (errors.HotbenchError,)


def _import_package(package: str, root: Path) -> None:
    spec = importlib.util.spec_from_file_location(package, root / "__init__.py", submodule_search_locations=[str(root)])
    if spec is None or spec.loader is None:
        raise ArtifactError(f"{root.parent} is incomplete: {package} is missing; copy the artifact again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)


def _main() -> int:
    try:
        print(json.dumps({"max_abs_error": check(load())}))
    except ArtifactError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
