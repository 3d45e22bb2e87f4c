"""What a GPU shows of Hotbench, in under nine minutes.

    python -m benchmarks.gpu_check [-o FOLDER] [--part NAME …] [--commit]

Kernels against float64 and torch, capture, the pipeline, benchmark tables with the bars beside them. It needs torch,
numba, numba-cuda, cuda-core, pandas, pyarrow, scipy, safetensors and nvidia-ml-py: no web packages, no network; and
pytest for the comparison with torch. FOLDER gets gpu-check.json and gpu-check.md, rewritten whenever a part ends, and
gpu-check.log. Each part runs in its own process and fails alone. Without a GPU it says so and marks every part skipped.

Exit code: 0 when no part failed (or there is no GPU), 1 when one did, 2 on bad input, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.gpu.conductor import Conductor
from benchmarks.gpu.findings import FAILED, SKIPPED, PartResult
from benchmarks.gpu.part import Part
from benchmarks.gpu.parts import BUDGET_SECONDS, PARTS, part_named
from benchmarks.gpu.result import Result, environment_of, write_log, write_result
from kernels.cuda import support as cuda_support

LOCAL = Path("build/gpu-check")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code after checking, or after saying why nothing can be checked."""
    options = _parser().parse_args(arguments)
    try:
        parts = tuple(part_named(name) for name in options.part) if options.part else PARTS
        options.output.mkdir(parents=True, exist_ok=True)
        if options.commit and options.part:
            raise KeyError("--commit takes the result of every part; leave --part away")
    except (KeyError, OSError) as error:
        print(f"gpu-check: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    command = " ".join(["python -m benchmarks.gpu_check", *(f"--part {name}" for name in options.part)])
    if why := why_no_gpu():
        return _without_gpu(parts, options.output, command, why, options.commit)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _with_gpu(parts, options.output, command, options.commit)
    except KeyboardInterrupt:
        print("gpu-check: interrupted; what had ended by then was saved", file=sys.stderr)
        return 130


def why_no_gpu() -> str:
    """Return why nothing can be checked here, "" where the driver sees a device. It imports nothing heavy."""
    description = cuda_support.describe()
    return "" if description.devices else description.message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description="Check and time everything that needs a GPU."
    )
    parser.add_argument("-o", "--output", type=Path, default=LOCAL, metavar="FOLDER", help=f"default: {LOCAL}")
    parser.add_argument("--part", action="append", default=[], metavar="NAME", help="only this part; repeatable")
    parser.add_argument(
        "--commit", action="store_true", help="also rewrite the committed result, docs/gpu-status.md and its data"
    )
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _without_gpu(parts: Sequence[Part], folder: Path, command: str, why: str, commit: bool) -> int:
    print(f"gpu-check: no GPU here: {why}; all {len(parts)} parts are skipped")
    skipped = tuple(PartResult(part.name, part.title, SKIPPED, f"no GPU: {why}") for part in parts)
    write_result(Result(command, why, skipped), folder)
    if commit:
        print("gpu-check: nothing is committed without a GPU", file=sys.stderr)
    return 0


def _with_gpu(parts: Sequence[Part], folder: Path, command: str, commit: bool) -> int:
    begin = time.monotonic()
    ended: dict[str, PartResult] = {}

    def result() -> Result:
        waiting = [PartResult(part.name, part.title, SKIPPED, "not run yet") for part in parts]
        results = tuple(ended.get(part.name, part) for part in waiting)
        return Result(command, "", results, time.monotonic() - begin, environment_of(results))

    def on_end(part: PartResult) -> None:
        ended[part.name] = part
        write_result(result(), folder)
        print(f"{part.state:8} {part.name:24} {part.seconds:6.1f} s  {part.text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as work:
        try:
            Conductor(Path(work), BUDGET_SECONDS).run_all(parts, on_end)
        finally:
            write_result(result(), folder)
            write_log(Path(work), [part.name for part in parts], folder)
    last = result()
    for line in last.bars():
        print(line)
    if commit:
        from benchmarks.gpu_status import commit_result

        try:
            print(commit_result(folder))
        except ValueError as error:
            print(f"gpu-check: {error}", file=sys.stderr)
            return 1
    return 1 if any(part.state == FAILED for part in last.parts) else 0


if __name__ == "__main__":
    sys.exit(main())
