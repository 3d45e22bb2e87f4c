"""The op hotbench::quantized_embedding: rows of a compressed table."""

from __future__ import annotations

import torch

from analyzer.errors import HotbenchError
from kernels.quantized.cpu_rows import KINDS, row_bytes, rows_kernel
from optimizers.quantization.op_library import register

SCHEMA = (
    "quantized_embedding(Tensor ids, Tensor codes, Tensor scales, Tensor? tables, str kind, int rows, int columns, "
    "int bits, int group) -> Tensor"
)
_CODES = {"int8": torch.int8, "codebook": torch.uint8, "bfloat16": torch.uint16}


def quantized_embedding(
    ids: torch.Tensor,
    codes: torch.Tensor,
    scales: torch.Tensor,
    tables: torch.Tensor | None,
    kind: str,
    rows: int,
    columns: int,
    bits: int,
    group: int,
) -> torch.Tensor:
    """Return float32 [..., columns]: for each number in `ids` (int64 or int32, any shape) its row of the table.

    kind "int8": codes int8 [rows, columns], scales float32 [rows]. "bfloat16": codes uint16 [rows, columns].
    "codebook": codes uint8 as of cpu_rows.packed_rows, tables int8 [1 or rows, groups, 2**bits] and their scales
    [1 or rows, groups]; a group has `group` neighbouring columns.
    The result is float64 where the scales are. Raises IndexError for a number that is no row, HotbenchError for
    arrays that do not fit together.
    """
    if ids.dtype not in (torch.int64, torch.int32) or ids.device.type != "cpu":
        given = f"{str(ids.dtype).removeprefix('torch.')} on {ids.device}"
        raise HotbenchError(f"ids are {given}; this quantized embedding takes int64 or int32 on the CPU")
    books, groups = _checked(codes, scales, tables, kind, rows, columns, bits, group)
    numbers = ids.to(torch.int64).contiguous()
    factors = scales if scales.dtype is torch.float32 else scales.float()
    out = codes.new_empty((*ids.shape, columns), dtype=torch.float32)
    table = 0 if tables is None else tables.data_ptr()
    bad = rows_kernel()(
        KINDS.index(kind), numbers.data_ptr(), numbers.numel(), codes.data_ptr(), factors.data_ptr(), table,
        rows, columns, bits, books, groups, group, out.data_ptr(),
    )  # fmt: skip
    if bad >= 0:
        raise IndexError(f"the embedding has {rows} rows; {int(numbers.view(-1)[bad])} is none of them")
    return out.to(scales.dtype)


def _checked(
    codes: torch.Tensor,
    scales: torch.Tensor,
    tables: torch.Tensor | None,
    kind: str,
    rows: int,
    columns: int,
    bits: int,
    group: int,
) -> tuple[int, int]:
    """Return the codebooks' rows and groups. Raises HotbenchError unless the arrays are what the kernel reads."""
    if kind not in _CODES:
        raise HotbenchError(f"embeddings of the kind {kind!r} are not known; use one of {', '.join(_CODES)}")
    books = groups = 0
    width = columns
    wanted: tuple[int, ...] = (rows,)
    if kind == "codebook":
        if tables is None or tables.dim() != 3 or tables.dtype is not torch.int8 or not tables.is_contiguous():
            raise HotbenchError("a codebook embedding needs tables, contiguous int8 [1 or rows, groups, 2**bits]")
        books, groups = tables.shape[:2]
        width, wanted = row_bytes(columns, bits), (books, groups)
        fits = books in (1, rows) and 1 <= bits <= 4 and tables.shape[2] == 1 << bits and group > 0
        if not fits or groups != -(-columns // group):
            raise HotbenchError(f"tables {list(tables.shape)} do not go with {bits} bits and groups of {group} columns")
    if kind == "bfloat16":
        wanted = tuple(scales.shape)
    if codes.shape != (rows, width) or codes.dtype is not _CODES[kind] or not codes.is_contiguous():
        given = f"{str(codes.dtype).removeprefix('torch.')} {list(codes.shape)}"
        raise HotbenchError(f"codes are {given}; a {kind} embedding needs contiguous {_CODES[kind]} [{rows}, {width}]")
    if tuple(scales.shape) != wanted or not scales.is_contiguous() or scales.dtype.itemsize < 4:
        raise HotbenchError(f"scales are {scales.dtype} {list(scales.shape)}; they should be float32 {list(wanted)}")
    return books, groups


def _fake(
    ids: torch.Tensor,
    codes: torch.Tensor,
    scales: torch.Tensor,
    tables: torch.Tensor | None,
    kind: str,
    rows: int,
    columns: int,
    bits: int,
    group: int,
) -> torch.Tensor:
    return scales.new_empty((*ids.shape, columns))


embedding_op = register(SCHEMA, quantized_embedding, _fake)
