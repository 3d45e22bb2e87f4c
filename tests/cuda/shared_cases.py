"""Small kernels out of the shared pieces alone: storage dtypes, bit patterns, cache operators, plain numbers."""

from __future__ import annotations

import numpy as np

from kernels.cuda.kernel import KernelSource
from tests.cuda.case import Arrays, Bounds, BufferUse, Case, Problem

DEVICE_SIZE = 100_003


def _source(lines: list[str], loop: str, alignment: tuple[int, ...], items: int) -> KernelSource:
    """Return a grid-stride loop over `items`; its parameters a0, a1, …, and `size`."""
    body = [*(f"        {line}" for line in lines), "        k += threads", ""]

    def text(thread: str, threads: str) -> str:
        names = ", ".join(f"a{k}" for k in range(len(alignment)))
        head = [
            f"def kernel({names}, size):",
            f"    k = {thread}",
            f"    threads = {threads}",
            f"    while k < {loop}:",
        ]
        return "\n".join([*head, *body])

    return KernelSource("kernel", text("cuda.grid(1)", "cuda.gridsize(1)"), text("0", "1"), alignment, items, scalars=1)


def widened_bytes(groups: int) -> Problem:
    """Sixteen int8 at a time times a uint8, as float32; the copy of the bytes by one access each."""
    names = [f"x{k}" for k in range(16)]
    lines = [
        f"{', '.join(names)} = read_int8x16(a0, 16 * k)",
        "scale = float32(read_uint8(a1, 0))",
        *(
            f"store_float32x4(a2, 16 * k + {4 * q}, "
            f"({', '.join(f'float32({name}) * scale' for name in names[4 * q : 4 * q + 4])}))"
            for q in range(4)
        ),
        f"store_int8x16(a3, 16 * k, ({', '.join(names)}))",
    ]

    def expected(arrays: Arrays) -> list[np.ndarray]:
        codes, scale = arrays[0].copy(), arrays[1].copy()
        return [codes, scale, codes.astype(np.float64) * float(scale[0]), codes]

    buffers = (
        BufferUse("codes", "int8", 16 * groups, True, integers=(-128, 128)),
        BufferUse("scale", "uint8", 1, True, integers=(128, 256)),
        BufferUse("out", "float32", 16 * groups, False),
        BufferUse("copy", "int8", 16 * groups, False),
    )
    source = _source(lines, "size", (16, 1, 16, 16), groups)
    return Problem(buffers, {"wide": source}, expected, scalars=(groups,))


def halves(groups: int) -> Problem:
    """Eight float16 at a time as float32, streamed words behind them, and back as float16 and bfloat16."""
    names = [f"h{k}" for k in range(8)]
    lines = [
        f"{', '.join(names)} = read_uint16x8(a0, 8 * k)",
        "w0, w1, w2, w3 = stream_uint32x4(a1, 4 * k)",
        *(f"f{k} = float16_to_float32(h{k})" for k in range(8)),
        *(f"g{k} = bits_to_float32(w{k})" for k in range(4)),
        f"store_float32x4(a2, 8 * k, ({', '.join(f'f{k}' for k in range(4))}))",
        f"store_float32x4(a2, 8 * k + 4, ({', '.join(f'f{k}' for k in range(4, 8))}))",
        f"store_uint16x4(a3, 8 * k, ({', '.join(f'float32_to_float16(g{k})' for k in range(4))}))",
        f"store_uint16x4(a3, 8 * k + 4, ({', '.join(f'float32_to_bfloat16(g{k})' for k in range(4))}))",
        "store_uint32x4(a4, 4 * k, (w0, w1, w2, float32_to_bits(bfloat16_to_float32(float32_to_bfloat16(g3)))))",
    ]

    def expected(arrays: Arrays) -> list[np.ndarray]:
        bits, words = arrays[0].copy(), arrays[1].copy()
        with np.errstate(all="ignore"):
            packed = words.view(np.float32).astype(np.float16).view(np.uint16).reshape(-1, 4)
            brain = _bfloat16(words).reshape(-1, 4)
            wide = bits.view(np.float16).astype(np.float64)
        back = words.reshape(-1, 4).copy()
        back[:, 3] = brain[:, 3].astype(np.uint32) << 16
        return [bits, words, wide, np.concatenate([packed, brain], axis=1).ravel(), back.ravel()]

    buffers = (
        BufferUse("halves", "uint16", 8 * groups, True, integers=(0, 0x7C01)),
        BufferUse("words", "uint32", 4 * groups, True, integers=(0x32000000, 0x48000000)),
        BufferUse("wide", "float32", 8 * groups, False),
        BufferUse("packed", "uint16", 8 * groups, False),
        BufferUse("back", "uint32", 4 * groups, False),
    )
    source = _source(lines, "size", (16, 16, 16, 8, 16), groups)
    return Problem(buffers, {"wide": source}, expected, scalars=(groups,))


def _bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return finite float32 bit patterns rounded to their upper halves, by comparing both neighbours."""
    below = (bits >> 16).astype(np.uint32)
    rest = bits & 0xFFFF
    up = (rest > 0x8000) | ((rest == 0x8000) & (below & 1 == 1))
    return (below + up).astype(np.uint16)


def coherent_copy(size: int) -> Problem:
    """A copy whose accesses all go past the first-level cache, four at a time and one by one."""
    lines = [
        "store_coherent_float32x4(a1, 4 * k, coherent_float32x4(a0, 4 * k))",
        "store_coherent_float32(a2, k, stream_float32(a0, 4 * k) + coherent_float32(a0, 4 * k + 3))",
    ]

    def expected(arrays: Arrays) -> list[np.ndarray]:
        x = arrays[0].copy()
        with np.errstate(all="ignore"):
            total = x.reshape(-1, 4)[:, 0] + x.reshape(-1, 4)[:, 3]
        return [x, x.astype(np.float64), total.astype(np.float64)]

    buffers = (
        BufferUse("x", "float32", 4 * size, True),
        BufferUse("copy", "float32", 4 * size, False),
        BufferUse("total", "float32", size, False),
    )
    return Problem(buffers, {"wide": _source(lines, "size", (16, 16, 4), size)}, expected, scalars=(size,))


CASES = (
    Case("shared-bytes", widened_bytes, (1, 3, 7), DEVICE_SIZE, {"wide": Bounds(48, 1, 5)}),
    Case("shared-halves", halves, (1, 3, 7), DEVICE_SIZE, {"wide": Bounds(48, 2, 3)}),
    Case("shared-coherent", coherent_copy, (1, 3, 7), DEVICE_SIZE, {"wide": Bounds(40, 1, 1)}),
)
