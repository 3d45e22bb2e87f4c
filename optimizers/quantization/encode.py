"""Compressed weights <-> files: `recipe.json` and `weights.safetensors`, the canonical form that no kernel depends on.

Codes lie row by row at their true bits, lowest first; codebooks as int8 tables with a scale each; all else as it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analyzer.errors import HotbenchError, RecordError
from analyzer.record import dump_json, to_plain
from kernels.quantized.cpu_lookup_weights import LOOKUP_BITS
from kernels.quantized.cpu_rows import packed_rows, row_bytes
from kernels.quantized.cpu_store import layout, restored, stored_arrays
from optimizers.quantization.compressed import (
    ARRAYS,
    BFLOAT16,
    CODEBOOK,
    GROUPED_CODEBOOK,
    CompressedWeight,
    centroid_tables,
)
from optimizers.quantization.file_bytes import CODED, HUFFMAN, PLAIN
from optimizers.quantization.modules.prepare import DENSE, prepared_weights
from optimizers.quantization.packed_arrays import NAMES, PanelArrays, RowArrays
from optimizers.quantization.tensor_file import Stored, read, written

RECIPE_FILE, WEIGHTS_FILE = "recipe.json", "weights.safetensors"
FORMAT = "hotbench-compressed-weights"
FORMAT_VERSION = 1
_REST = "rest."
_MOST_PANELS = 1.03


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What the files hold.

    weights: by parameter name. recipe: as it was given. rest: the model's other tensors, by their names.
    kinds: by parameter name, the kinds of products that were chosen; empty where none were.
    """

    weights: Mapping[str, CompressedWeight] = field(repr=False)
    recipe: Mapping[str, Any]
    rest: Mapping[str, torch.Tensor] = field(repr=False)
    kinds: Mapping[str, str]


def encode(
    weights: Mapping[str, CompressedWeight],
    recipe: Mapping[str, Any],
    rest: Mapping[str, torch.Tensor] | None = None,
    kinds: Mapping[str, str] | None = None,
    panels: Collection[str] = (),
    coding: str = PLAIN,
) -> dict[str, bytes]:
    """Return the files by name. Weights that are one object under several names are stored once.

    rest: other tensors that belong to the model. kinds: which products were chosen, by parameter name.
    panels: weights that lie as their product reads them, where that takes no more than 3 % more room: a model that
    is loaded then computes with the file's memory itself.
    coding: "plain", or "huffman" for codes and int8 weights that become smaller by it.
    Raises HotbenchError for another coding.
    """
    if coding not in (PLAIN, HUFFMAN):
        raise HotbenchError(f"the coding {coding!r} is not known; give {PLAIN!r} or {HUFFMAN!r}")
    tensors: dict[str, Stored] = {}
    first: dict[int, str] = {}
    described: dict[str, Any] = {}
    for name, weight in weights.items():
        if id(weight) in first:
            described[name] = {"same_as": first[id(weight)]}
            continue
        first[id(weight)] = name
        described[name] = {"method": weight.method, "shape": weight.shape, "bits": weight.bits, "group": weight.group}
        packed = _packed(weight)
        kind = (kinds or {}).get(name, DENSE)
        if name in panels and kind != DENSE and (as_panels := _as_panels(weight, kind, packed)):
            books = len(packed["scales"].array)
            described[name] |= {"panels": kind, "books": books}
            packed = as_panels
        elif coding == HUFFMAN and (coded := _coded(weight, packed)):
            described[name] |= {"coding": HUFFMAN}
            packed = coded
        tensors |= {f"{name}.{part}": stored for part, stored in packed.items()}
    seen: dict[Any, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in (rest or {}).items():
        same = seen.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()), name)
        if same != name and tensor.numel():
            aliases[name] = same
        else:
            tensors[_REST + name] = _stored(tensor)
    text = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "weights": described,
        "kinds": dict(kinds or {}),
        "same_rest": aliases,
    }
    return {RECIPE_FILE: dump_json(to_plain(text)), WEIGHTS_FILE: written(tensors)}


def decode(files: Mapping[str, bytes | NDArray[np.uint8]]) -> Decoded:
    """Return what the files hold; arrays may be views of the file's memory.

    Raises RecordError for files that are missing, damaged, of another format, or do not fit together.
    """
    missing = [name for name in (RECIPE_FILE, WEIGHTS_FILE) if name not in files]
    if missing:
        raise RecordError(f"{missing[0]} is missing; a compressed model has {RECIPE_FILE} and {WEIGHTS_FILE}")
    text = described_in(bytes(files[RECIPE_FILE]))
    tensors = read(files[WEIGHTS_FILE], WEIGHTS_FILE)
    weights: dict[str, CompressedWeight] = {}
    try:
        for name, entry in text["weights"].items():
            weights[name] = weights[entry["same_as"]] if "same_as" in entry else _weight(name, entry, tensors)
        rest = {name.removeprefix(_REST): _tensor(s) for name, s in tensors.items() if name.startswith(_REST)}
        rest |= {str(name): rest[same] for name, same in text["same_rest"].items()}
        return Decoded(weights, text["recipe"], rest, {str(name): str(kind) for name, kind in text["kinds"].items()})
    except (KeyError, TypeError, ValueError, AttributeError, HotbenchError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise RecordError(
            f"{RECIPE_FILE} and {WEIGHTS_FILE} do not fit together ({why}); save the model again"
        ) from error


def described_in(data: bytes) -> dict[str, Any]:
    """Return the text of recipe.json. Raises RecordError for another format or a newer version."""
    try:
        text = json.loads(data)
        found, version = text["format"], int(text["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{RECIPE_FILE} cannot be read ({type(error).__name__}); save the model again") from error
    if found != FORMAT or version > FORMAT_VERSION:
        raise RecordError(f"{RECIPE_FILE} is {found!r} version {version}; this reads {FORMAT} up to {FORMAT_VERSION}")
    return dict(text)


def _packed(weight: CompressedWeight) -> dict[str, Stored]:
    if weight.method in (CODEBOOK, GROUPED_CODEBOOK):
        tables, scales = centroid_tables(weight)
        codes = packed_rows(weight.arrays["codes"], weight.bits)
        return {"codes": Stored(codes), "tables": Stored(tables), "scales": Stored(scales)}
    dtype = "BF16" if weight.method == BFLOAT16 else ""
    return {name: Stored(weight.arrays[name], dtype) for name in ARRAYS[weight.method]}


def _as_panels(weight: CompressedWeight, kind: str, packed: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return the arrays of the product's panels by name; none where they would be larger or lose something."""
    same = weight.method == kind and weight.method in NAMES and weight.bits in (4, 8)
    looked_up = kind in LOOKUP_BITS and weight.method in (CODEBOOK, GROUPED_CODEBOOK)
    if not (same or looked_up):
        return {}
    arrays = stored_arrays(prepared_weights(weight, kind))
    canonical = sum(stored.array.nbytes for stored in packed.values())
    if sum(array.nbytes for array in arrays.values()) > _MOST_PANELS * canonical:
        return {}
    return {name: Stored(array) for name, array in arrays.items()}


def _coded(weight: CompressedWeight, packed: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return the arrays with what is most of them Huffman coded; none where that is no smaller."""
    from kernels.quantized import huffman  # its compiled loops take a moment, and few files are coded

    part = CODED.get(weight.method)
    if part is None:
        return {}
    found = huffman.encode(weight.arrays[part])
    if found.bytes >= packed[part].array.nbytes:
        return {}
    coded = {"lengths": Stored(found.lengths), "starts": Stored(found.starts), "coded": Stored(found.data)}
    return {name: stored for name, stored in packed.items() if name != part} | coded


def _decoded(name: str, entry: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return the tensors of a weight, by the names of its arrays; those that were coded as they were before."""
    prefix = f"{name}."
    parts = {key.removeprefix(prefix): stored for key, stored in tensors.items() if key.startswith(prefix)}
    if entry.get("coding", PLAIN) == PLAIN:
        return parts
    from kernels.quantized import huffman

    method, bits = str(entry["method"]), int(entry["bits"])
    rows, columns = (int(length) for length in entry["shape"])
    given = huffman.Encoded(rows * columns, *(parts[key].array for key in ("lengths", "starts", "coded")))
    symbols = huffman.decode(given).reshape(rows, columns)
    part = CODED[method]
    return parts | {part: Stored(symbols.view(np.int8) if part == "values" else packed_rows(symbols, bits))}


def _weight(name: str, entry: Mapping[str, Any], tensors: Mapping[str, Stored]) -> CompressedWeight:
    """Return a weight of the file, its arrays checked against each other."""
    method, bits, group = str(entry["method"]), int(entry["bits"]), entry["group"]
    rows, columns = (int(length) for length in entry["shape"])
    parts = _decoded(name, entry, tensors)
    arrays: Mapping[str, NDArray[Any]]
    if "panels" in entry:
        lying = {part: parts[part].array for part in layout(str(entry["panels"]), rows, columns, group)}
        arrays = PanelArrays(method, restored(entry["panels"], rows, columns, lying, group), bits, int(entry["books"]))
    elif method in (CODEBOOK, GROUPED_CODEBOOK):
        codes, tables, scales = (parts[part].array for part in ("codes", "tables", "scales"))
        groups = (-(-columns // int(group)),) if method == GROUPED_CODEBOOK else ()
        _expect(tables, "int8", [(books, *groups, 1 << bits) for books in (1, rows)], f"{name}.tables")
        _expect(scales, "float32", [tables.shape[:-1]], f"{name}.scales")
        _expect(codes, "uint8", [(rows, row_bytes(columns, bits))], f"{name}.codes")
        arrays = RowArrays(codes, tables, scales, columns, bits)
    else:
        arrays = {part: parts[part].array for part in ARRAYS[method]}
        _check_arrays(name, method, rows, columns, arrays)
    return CompressedWeight(method, (rows, columns), bits, None if group is None else int(group), arrays)


def _check_arrays(name: str, method: str, rows: int, columns: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    whole = (rows, columns)
    if method in ("int8", "int8-weight-only"):
        _expect(arrays["values"], "int8", [whole], f"{name}.values")
        _expect(arrays["scales"], "float32", [(rows,)], f"{name}.scales")
    elif method == BFLOAT16:
        _expect(arrays["values"], "uint16", [whole], f"{name}.values")
    elif method == "low-rank":
        rank = arrays["right"].shape[0]
        _expect(arrays["left"], "float32", [(rows, rank)], f"{name}.left")
        _expect(arrays["right"], "float32", [(rank, columns)], f"{name}.right")
    elif method == "sparse":
        kept, starts = arrays["values"].shape, arrays["starts"]
        _expect(starts, "int64", [(rows + 1,)], f"{name}.starts")
        _expect(arrays["values"], "float32", [(kept[0],)], f"{name}.values")
        positions = arrays["columns"]
        _expect(positions, positions.dtype.name, [kept], f"{name}.columns")
        ordered = int(starts[0]) == 0 and int(starts[-1]) == kept[0] and bool((np.diff(starts) >= 0).all())
        if not ordered or (positions.size and int(positions.max()) >= columns):
            raise RecordError(f"{name} has entries outside of its {rows} rows and {columns} columns")


def _expect(array: NDArray[Any], dtype: str, shapes: list[tuple[int, ...]], name: str) -> None:
    if array.dtype.name != dtype or array.shape not in shapes:
        raise RecordError(f"{name} is {array.dtype} {list(array.shape)}, not {dtype} {list(shapes[-1])}")


def _stored(tensor: torch.Tensor) -> Stored:
    value = tensor.detach().to("cpu").contiguous()
    if value.dtype is torch.bfloat16:
        return Stored(value.view(torch.uint16).numpy(), "BF16")
    return Stored(value.numpy())


def _tensor(stored: Stored) -> torch.Tensor:
    # Copied: what a model holds may be written to, and must not change the file's memory.
    value = torch.from_numpy(stored.array.copy())
    return value.view(torch.bfloat16) if stored.dtype == "BF16" else value
