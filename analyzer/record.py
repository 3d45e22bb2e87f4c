"""Save and load values: dataclasses as plain JSON, folders that are written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import tempfile
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from analyzer.errors import RecordError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
Content = bytes | Callable[[Path], None]
T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return `value` as plain JSON values: dataclasses as objects, tuples as lists, NaN and infinities as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} is no plain value: {value!r}")


def from_plain(kind: type[T], data: Any) -> T:
    """Return the value of type `kind` that `to_plain` wrote. Raises RecordError where data and type disagree."""
    try:
        return typing.cast(T, _decode(kind, data))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"not a saved {getattr(kind, '__name__', kind)}: {error}; the file is corrupt") from error


def _decode(kind: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in arguments:
            return None
        return _decode(next(argument for argument in arguments if argument is not type(None)), data)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, data)
    if origin is tuple:
        return _decode_tuple(arguments, data)
    if origin in (list,):
        return [_decode(arguments[0], item) for item in data]
    if origin is not None and issubclass(origin, Mapping):
        return {_decode(arguments[0], key): _decode(arguments[1], item) for key, item in data.items()}
    if kind is float and isinstance(data, str | int) and not isinstance(data, bool):
        return float(data)
    if isinstance(kind, type) and isinstance(data, kind) and not (kind is int and isinstance(data, bool)):
        return data
    raise TypeError(f"{data!r} is no {getattr(kind, '__name__', kind)}")


def _decode_dataclass(kind: type, data: Any) -> Any:
    if not isinstance(data, dict):
        raise TypeError(f"{type(data).__name__} where the fields of {kind.__name__} should be")
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(data) - names)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {unknown[0]!r}")
    return kind(**{name: _decode(hints[name], value) for name, value in data.items()})


def _decode_tuple(arguments: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise TypeError(f"{data!r} is no list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], item) for item in data)
    if len(arguments) != len(data):
        raise ValueError(f"{len(data)} items where {len(arguments)} should be")
    return tuple(_decode(argument, item) for argument, item in zip(arguments, data, strict=True))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a saved folder says of itself; `files` maps each file's name to the SHA-256 of its bytes."""

    kind: str
    id: str
    files: dict[str, str]
    format_version: int = FORMAT_VERSION

    def digest(self) -> str:
        """Return the SHA-256 of the manifest: equal for folders with equal content."""
        return hashlib.sha256(dump_json(to_plain(self))).hexdigest()


def write_folder(folder: Path, files: Mapping[str, Content], kind: str, id: str) -> Manifest:
    """Write `files` (bytes, or a function that writes the path it is given) and their manifest into `folder`.

    All or nothing: the work is done in a temporary sibling that is renamed at the end. An existing folder is
    replaced only if it is a saved folder of the same kind. Raises RecordError on a full disk or a forbidden place.
    """
    folder = folder.absolute()
    _refuse_foreign(folder, kind)
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        manifest = Manifest(kind, id, {name: _write(temporary / name, content) for name, content in files.items()})
        _write(temporary / MANIFEST, dump_json(to_plain(manifest)))
        _sync(temporary)
        _swap(temporary, folder)
        _sync(folder.parent)
        return manifest
    except OSError as error:
        raise RecordError(
            f"cannot save {kind} to {folder}: {error.strerror or error}; free space or choose another place"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def read_folder(folder: Path, kind: str) -> Manifest:
    """Return the manifest of a saved folder after checking that every file is there and unchanged.

    Raises RecordError for a missing folder, another kind, a newer format, a missing or a changed file.
    """
    if not folder.is_dir():
        raise RecordError(f"no folder {str(folder)!r}; give the folder of a saved {kind}")
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder} is no saved {kind}: its {MANIFEST} cannot be read ({error})") from error
    manifest = from_plain(Manifest, data)
    if manifest.kind != kind:
        raise RecordError(f"{folder} holds a {manifest.kind}, not a {kind}")
    if manifest.format_version > FORMAT_VERSION:
        raise RecordError(
            f"{folder} has format {manifest.format_version}; this version reads up to {FORMAT_VERSION}: upgrade"
        )
    for name, expected in manifest.files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise RecordError(f"{folder} names a file outside itself: {name!r}; it is corrupt")
        if not path.is_file():
            raise RecordError(f"{folder} is incomplete: {name} is missing")
        if file_hash(path) != expected:
            raise RecordError(f"{folder} is corrupt: {name} differs from its hash")
    return manifest


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump_json(data: Any) -> bytes:
    """Return plain data as indented JSON text with sorted keys."""
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def load_json(path: Path) -> Any:
    """Return the plain data of a JSON file. Raises RecordError where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error


def _write(path: Path, content: Content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    _sync(path)
    return file_hash(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_foreign(folder: Path, kind: str) -> None:
    if not folder.exists():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    try:
        found = json.loads((folder / MANIFEST).read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != kind:
        raise RecordError(f"{folder} exists and is no saved {kind}; choose another place")


def _swap(temporary: Path, folder: Path) -> None:
    """Put `temporary` in the place of `folder`; an old one is moved aside first and removed last."""
    if not folder.exists():
        temporary.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
