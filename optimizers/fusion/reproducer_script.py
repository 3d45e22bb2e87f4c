"""Runs the kernel in this folder by itself, and checks it. Needs numpy and numba; torch for the ops that it replaces.

    python DIR/reproduce.py [--rounds N] [--json]

Prints the time of a call and the error against float64 of the kernel and, where torch is installed, of eager.
Ends with 0 where the results are right, with 1 where they are not, with 2 where a file is missing or changed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
ALLOWED = {"float32": 1e-4, "float64": 1e-9}
"""max|a-b| / max|b| against float64 beyond which a result is called wrong."""
NOISE = 1e-13
"""A result whose largest exact value is below this share of the largest of all is rounding noise, and held against
that one."""
ALIGNMENT = 64
"""Of each piece of memory, in bytes: a cache line."""


class BrokenFolderError(Exception):
    """A file that is missing or changed: one line."""


def main() -> int:
    """Check the files, run kernel and eager, print what was found."""
    parser = argparse.ArgumentParser(description="Run one generated kernel by itself and check it.")
    parser.add_argument("--rounds", type=int, default=31, help="timed rounds (default: 31)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        region = verified()
    except BrokenFolderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rounds = max(options.rounds, 1)
    found = {"kernel": region["kernel"], "fused": run_kernel(region, rounds), "eager": run_eager(region, rounds)}
    wrong = wrong_results(region, found["fused"])
    found["right"] = not wrong
    print(json.dumps(found, indent=1) if options.json else in_words(found, wrong))
    return 1 if wrong else 0


def verified() -> dict[str, Any]:
    """Return region.json after every file was compared with its hash in the manifest."""
    try:
        files = json.loads((FOLDER / "manifest.json").read_bytes())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise BrokenFolderError(f"manifest.json cannot be read ({type(error).__name__}); export it again") from None
    for name, digest in files.items():
        path = FOLDER / name
        if not path.is_file():
            raise BrokenFolderError(f"{name} is missing; copy the folder again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise BrokenFolderError(f"{name} differs from its hash in manifest.json; copy the folder again")
    region: dict[str, Any] = json.loads((FOLDER / "region.json").read_bytes())
    return region


def run_kernel(region: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Return the kernel's seconds a call, and its errors against float64."""
    kernel = imported(FOLDER / "kernels" / "hotbench_kernels.py").load(region["kernel"])
    with np.load(FOLDER / "memory.npz") as stored:
        memory = [aligned(stored[f"memory.{k}"]) for k in range(len(region["memory_bytes"]))]
    for position, same in enumerate(region["same_as"]):
        if same is not None:
            memory[position] = memory[same]
    addresses = [item.ctypes.data for item in memory]
    kernel(*addresses)
    pairs = []
    with np.load(FOLDER / "expected.npz") as stored:
        for number, dtype in region["dtypes"].items():
            values = memory[int(number)]
            values = values[: values.size // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
            written = np.unpackbits(stored[f"written.{number}"]).astype(bool)[: values.size]
            pairs.append((values[: written.size][written].copy(), stored[f"reference.{number}"]))
    return {"seconds": seconds(lambda: kernel(*addresses), rounds), **errors(pairs)}


def run_eager(region: dict[str, Any], rounds: int) -> dict[str, Any] | None:
    """Return the same of the ATen ops; None where torch or the ops' file is not there."""
    if not (FOLDER / "eager.py").is_file() or importlib.util.find_spec("torch") is None:
        return None
    import torch

    torch.set_num_threads(1)
    run = imported(FOLDER / "eager.py").run
    with np.load(FOLDER / "operands.npz") as stored:
        operands: list[Any] = []
        while (name := f"operand.{len(operands)}") in stored:
            operands.append(laid_out(stored[name], stored.get(f"{name}.strides")))
        references = {int(name.partition(".")[2]): stored[name] for name in stored if name.startswith("reference.")}
    with torch.no_grad():
        results = run(*operands)
        pairs = [(results[k].contiguous().numpy().reshape(-1), exact.reshape(-1)) for k, exact in references.items()]
        return {"seconds": seconds(lambda: run(*operands), rounds), **errors(pairs)}


def laid_out(array: Any, strides: Any) -> Any:
    """Return a tensor with these elements and strides; an axis of stride 0 is one element in memory."""
    import torch

    tensor = torch.from_numpy(array.copy())
    if strides is None:
        return tensor
    steps = [int(step) for step in strides]
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, steps, strict=True))
    window = torch.zeros(1 + reach, dtype=tensor.dtype).as_strided(tensor.shape, steps)
    target, source = window, tensor
    for axis, step in enumerate(steps):
        if step == 0:
            target, source = target.narrow(axis, 0, 1), source.narrow(axis, 0, 1)
    target.copy_(source)
    return window


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of one call, over rounds of about a millisecond each.

    They are this thread's CPU time, which other processes do not disturb: kernel and eager run on one thread.
    """
    begin = time.thread_time()
    call()
    repeats = min(max(int(1e-3 / max(time.thread_time() - begin, 1e-7)), 1), 1000)
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        for _ in range(repeats):
            call()
        times.append((time.thread_time() - begin) / repeats)
    return statistics.median(times)


def errors(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the largest and the median error in ULP, and max|a-b| / max|b|, over pairs (result, float64)."""
    steps, max_rel, unequal = [np.zeros(0)], 0.0, 0
    floating = [np.abs(exact[np.isfinite(exact)]) for _, exact in pairs if exact.dtype.kind == "f"]
    most = max((float(item.max()) for item in floating if item.size), default=0.0)
    for result, exact in pairs:
        if result.dtype.kind != "f":
            unequal += int(np.count_nonzero(result != exact))
            continue
        finite = np.isfinite(exact) & np.isfinite(result)
        with np.errstate(over="ignore", invalid="ignore"):
            rest, rounded = result[~finite], exact[~finite].astype(result.dtype)
            unequal += int(np.count_nonzero(~((rest == rounded) | (np.isnan(rest) & np.isnan(rounded)))))
        distance = np.abs(result[finite].astype(np.float64) - exact[finite])
        if distance.size:
            sizes = np.abs(exact[finite])
            largest = float(sizes.max())
            if largest < NOISE * most:
                largest, sizes = most, np.full_like(sizes, most)
            steps.append(distance / np.spacing(sizes.astype(result.dtype)).astype(np.float64))
            max_rel = max(max_rel, float(distance.max()) / (largest or 1.0))
    ulp = np.concatenate(steps)
    median, highest = (float(np.median(ulp)), float(ulp.max())) if ulp.size else (0.0, 0.0)
    return {"values": int(ulp.size), "median_ulp": median, "max_ulp": highest, "max_rel": max_rel, "unequal": unequal}


def wrong_results(region: dict[str, Any], fused: dict[str, Any]) -> str:
    """Return in words what is wrong with the kernel's results, "" if nothing is."""
    allowed = max((ALLOWED.get(dtype, 0.0) for dtype in region["dtypes"].values()), default=0.0)
    if fused["unequal"]:
        return f"{fused['unequal']} results differ, or NaN and infinities stand elsewhere"
    if fused["max_rel"] > allowed:
        return f"a result is {fused['max_rel']:.1e} of the largest away from float64 (allowed {allowed:.0e})"
    return ""


def in_words(found: dict[str, Any], wrong: str) -> str:
    """Return what was found, as lines for people."""
    lines = [found["kernel"]]
    for name in ("fused", "eager"):
        part = found[name]
        if part is None:
            lines.append(f"  {name}: not run, torch or eager.py is not here")
            continue
        error = f"max {part['max_ulp']:.3g} ULP, median {part['median_ulp']:.3g}, relative {part['max_rel']:.2g}"
        lines.append(f"  {name}: {part['seconds'] * 1e6:.2f} us a call; against float64 {error}")
    if found["eager"]:
        lines.append(f"  eager takes {found['eager']['seconds'] / found['fused']['seconds']:.2f} times as long")
    return "\n".join([*lines, f"  WRONG: {wrong}" if wrong else "  the results are right"])


def aligned(array: Any) -> Any:
    """Return the bytes at an address that is a multiple of a cache line, as the kernel had them."""
    raw = np.empty(array.size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    raw[start : start + array.size] = array
    return raw[start : start + array.size]


def imported(path: Path) -> Any:
    """Return the module at `path`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BrokenFolderError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
