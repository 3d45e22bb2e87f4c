"""The artifact of a placement: bucket plan, torchrun lines, and the hook with its transport, without Hotbench."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from analyzer.errors import RecordError
from analyzer.record import dump_json
from optimizers.placement.buckets import BucketPlan

PACKAGE = "hotbench_placement"
ROOT = "optimizers.placement.hook"
PLAN_FILE = "bucket_plan.json"
OURS = ("analyzer", "kernels", "optimizers")
LOADS_WITH = 'model, state = runpy.run_path("DIR/load.py")["wrap"](model)'
CHECKED_WORKERS = 2
_TIMEOUT_SECONDS = 300
_IMPORT = re.compile(rf"^(\s*)from ((?:{'|'.join(OURS)})(?:\.[\w.]+)?) import", re.MULTILINE)
_LOADER = '''"""Trains a model data-parallel with the bucket plan of this folder; see launch.txt.

    import runpy
    model, state = runpy.run_path("DIR/load.py")["wrap"](model)    # under torchrun, in every worker
    ...                                                           # the script's own steps
    state.close()
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))


def wrap(model, **options):
    """Return the model in DistributedDataParallel with the hook, and the hook's state; close that at the end.

    options: as of HookState.open: form, interface, secret (default: HOTBENCH_SECRET), transports, timeout_seconds.
    """
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from hotbench_placement.optimizers.placement.hook import HookState, ddp_hook

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    plan = json.loads((FOLDER / "bucket_plan.json").read_text(encoding="utf-8"))
    state = HookState.open(**{"form": plan["form"], **options})
    wrapped = DistributedDataParallel(
        model, gradient_as_bucket_view=True, bucket_cap_mb=plan["cap_bytes"] / (1 << 20)
    )
    wrapped.register_comm_hook(state, ddp_hook)
    return wrapped, state


def check():
    """Return max|a-b| of a small model's gradients after a step of all workers against the mean of each one's own."""
    import torch
    import torch.distributed as dist

    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(37, 41), torch.nn.Tanh(), torch.nn.Linear(41, 3))
    dist.init_process_group("gloo")
    expected = None
    for rank in range(dist.get_world_size()):
        own = torch.autograd.grad(model(_batch(rank)).square().mean(), list(model.parameters()))
        expected = own if expected is None else [left + right for left, right in zip(expected, own)]
    wrapped, state = wrap(model)
    wrapped(_batch(dist.get_rank())).square().mean().backward()
    found = [parameter.grad for parameter in model.parameters()]
    error = max(float((grad - mean / dist.get_world_size()).abs().max()) for grad, mean in zip(found, expected))
    state.close()
    dist.destroy_process_group()
    return error


def _batch(rank):
    import torch

    return torch.randn(5, 37, generator=torch.Generator().manual_seed(rank))


if __name__ == "__main__":
    print(json.dumps({"max_abs_error": check()}), flush=True)
'''


def artifact_files(buckets: BucketPlan) -> dict[str, bytes]:
    """Return the artifact's files by name: plan, launch lines, loader, and the hook's modules, imports rewritten."""
    launch = {
        "world_size": buckets.world_size,
        "backend": "hotbench",
        "form": buckets.form,
        "bucket_megabytes": buckets.cap_bytes / (1 << 20),
        "gradient_as_bucket_view": True,
    }
    files = {
        PLAN_FILE: buckets.encode(),
        "launch.json": dump_json(launch),
        "launch.txt": launch_lines(buckets.world_size).encode(),
        "load.py": _LOADER.encode(),
        f"{PACKAGE}/__init__.py": b"",
    }
    for path, source in _modules():
        files[f"{PACKAGE}/{path}"] = _IMPORT.sub(rf"\1from {PACKAGE}.\2 import", source).encode()
    return files


def launch_lines(world_size: int) -> str:
    """Return how the workers are started, on one host and on several."""
    halves = max(world_size // 2, 1)
    return (
        "One secret for all workers, kept from everybody else:\n"
        "  export HOTBENCH_SECRET=$(python -c 'import secrets; print(secrets.token_hex(16))')\n\n"
        f"On one host, {world_size} workers:\n"
        f"  torchrun --standalone --nproc-per-node={world_size} train.py\n\n"
        "On two hosts (the same on the other one with --node-rank=1 and the same secret; HOTBENCH_INTERFACE, and\n"
        "GLOO_SOCKET_IFNAME for torch's own start, name the network interface where the default is the wrong one):\n"
        f"  torchrun --nnodes=2 --node-rank=0 --nproc-per-node={halves} "
        "--master-addr=FIRST-HOST --master-port=29500 train.py\n\n"
        "In train.py, where the model is ready:\n"
        f"  import runpy; {LOADS_WITH}\n\n"
        "libucp is looked for at HOTBENCH_UCX, then in the system, then in the packages mpich and libucx.\n"
    )


def _modules() -> Iterator[tuple[str, str]]:
    """Yield path and source of the hook's module and of all of ours that it imports, packages included."""
    waiting, done = [ROOT], set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise RecordError(f"the source of {name} is not there; install Hotbench from its sources to export")
        source = Path(spec.origin).read_text(encoding="utf-8")
        tail = "/__init__.py" if spec.submodule_search_locations else ".py"
        yield name.replace(".", "/") + tail, source
        waiting += [*_parents(name), *_imported(source)]


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            yield node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if _is_module(inner):
                    yield inner


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def check_files(folder: Path) -> float:
    """Return max|a-b| of gradients after a step of two fresh workers that have the artifact alone.

    Raises RecordError where its code does not run, or its gradients are not the mean.
    """
    with socket.socket() as probe, tempfile.TemporaryDirectory(prefix="hotbench-verify-") as elsewhere:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        secret = secrets.token_hex(16)
        processes = [_worker(folder, rank, port, secret, elsewhere) for rank in range(CHECKED_WORKERS)]
        try:
            outputs = [process.communicate(timeout=_TIMEOUT_SECONDS) for process in processes]
        except subprocess.TimeoutExpired as error:
            raise RecordError(f"the artifact's workers did not end in {_TIMEOUT_SECONDS} s; export it again") from error
        finally:
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
    errors = []
    for output, said in outputs:
        try:
            errors.append(float(json.loads(output.strip().splitlines()[-1])["max_abs_error"]))
        except (IndexError, ValueError, KeyError) as error:
            last = (said.strip().splitlines() or ["no message"])[-1]
            raise RecordError(f"the artifact does not run in fresh workers: {last}") from error
    worst = max(errors)
    if not math.isfinite(worst) or worst > 1e-5:
        raise RecordError(f"with the artifact gradients are {worst:g} from their mean; optimize the run again")
    return worst


def _worker(folder: Path, rank: int, port: int, secret: str, elsewhere: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TORCHELASTIC"))}
    environment.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(CHECKED_WORKERS),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        HOTBENCH_SECRET=secret,
        OMP_NUM_THREADS="1",
    )
    return subprocess.Popen(
        [sys.executable, "-I", str(folder / "load.py")],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
