"""Matrix products of generated kernels against torch.mm, on one thread: CPU seconds of a product.

Case `MxNxK-packed` has B in panels, `-transposed` reads it in place as w.t(). Both sides write into memory that is
there already. torch's share includes its call from Python, as in a model; that is most of it for the smallest products.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from analyzer.progress import part
from benchmarks.command import main
from benchmarks.contract import Benchmark, Outcome, Promise, Row, Settings, interleave, row_of_samples
from kernels.compiler.gemm import Product, Term, plan
from kernels.compiler.gemm_pack import packed, panels
from kernels.compiler.gemm_print import Into, Place, print_product
from kernels.compiler.loaded import import_file
from kernels.compiler.source import Source

PEER, METRIC = "torch.mm", "cpu-seconds-per-product"
SHAPES = (
    (1, 256, 64), (1, 512, 128), (1, 1024, 256), (2, 512, 128), (4, 512, 128), (8, 512, 128), (16, 512, 128),
    (32, 256, 64), (32, 512, 128), (32, 1024, 256), (64, 1024, 1024), (33, 500, 127), (3200, 512, 128),
)  # fmt: skip
LAYOUTS = ("packed", "transposed")
QUICK = ((1, 512, 128), (4, 512, 128), (32, 512, 128))
FLOPS_PER_SAMPLE = 5e7

_HEADER = """import numba
from kernels.compiler.gemm_tile import gemm_dots, gemm_tile

"""


def measure(settings: Settings) -> Outcome:
    """Return a row for each shape and layout."""
    torch.set_num_threads(1)
    turns = [(shape, layout) for shape in (QUICK if settings.quick else SHAPES) for layout in LAYOUTS]
    rows = []
    for position, (shape, layout) in enumerate(turns):
        progress = part(settings.progress, position / len(turns), (position + 1) / len(turns))
        rows.append(measure_product(shape, layout, 9 if settings.quick else 31))
        progress(case_name(shape, layout), 1.0)
    return Outcome(tuple(rows))


def measure_product(shape: tuple[int, int, int], layout: str, rounds: int) -> Row:
    """Return the row of one product; both sides are run in turns, as often as fills a sample."""
    rows, columns, depth = shape
    repeats = max(1, round(FLOPS_PER_SAMPLE / (2 * rows * columns * depth)))
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, depth, generator=generator)
    right = torch.randn(columns, depth, generator=generator).t()
    out = torch.empty(rows, columns)
    sample = _ours(shape, layout, left, right, out, repeats)
    sample()
    torch.testing.assert_close(out, left @ right, rtol=1e-4, atol=1e-4)

    def library() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=out)

    samples = interleave({"ours": _timed(sample, repeats), PEER: _timed(library, repeats)}, rounds)
    promise = Promise(case_name(shape, layout), PEER, METRIC)
    return row_of_samples(promise, 1, samples["ours"], samples[PEER])


def _timed(work: Callable[[], object], repeats: int) -> Callable[[], float]:
    def sample() -> float:
        start = time.thread_time()
        work()
        return (time.thread_time() - start) / repeats

    return sample


def _ours(
    shape: tuple[int, int, int], layout: str, left: Any, right: Any, out: Any, repeats: int
) -> Callable[[], object]:
    rows, columns, depth = shape
    product = Product(rows, columns, (Term(depth, (depth, 1), None if layout == "packed" else (1, 0, depth)),))
    chosen = plan(product)
    weights = right.numpy() if layout != "packed" else packed(right.numpy()[:, None, :], panels(product, chosen))
    source = Source()
    with source.block("def kernel(a, b, c, repeats):"), source.block("for repeat in range(repeats):"):
        places, to = [(Place("a", 0), Place("b", 1))], Into(Place("c", 2), (columns, 0, 1))
        definitions = print_product(source, "g", product, chosen, places, to)
    with TemporaryDirectory(prefix="hotbench-products-") as folder:
        path = Path(folder, f"product_{rows}_{columns}_{depth}_{layout}.py")
        decorator = '@numba.njit("void(int64, int64, int64, int64)", error_model="numpy", boundscheck=False)'
        path.write_text("\n".join((_HEADER, *definitions, decorator, source.text())))
        kernel = import_file(path).kernel

    def run() -> None:
        # the addresses are asked here, so that the memory lives as long as the function
        kernel(left.data_ptr(), weights.ctypes.data, out.data_ptr(), repeats)

    return run


def case_name(shape: tuple[int, int, int], layout: str) -> str:
    """Return the case's id, such as "1x512x128-packed"."""
    return f"{'x'.join(map(str, shape))}-{layout}"


BENCHMARK = Benchmark(
    "fusion_products",
    tuple(Promise(case_name(shape, layout), PEER, METRIC) for shape in SHAPES for layout in LAYOUTS),
    measure,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
