"""The ways to exchange gradients, by name: ours, and those that it is measured against."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping

from optimizers.placement.baselines.backend import Backend, BackendError

OURS = "hotbench"
BASELINES = ("gloo", "grpc", "grpc-flat", "torch-rpc")
NAMES = (OURS, *BASELINES)
SETTINGS = ("bucket_megabytes", "direct", "form", "interface", "transports")
"""What "hotbench" can be told; the baselines run in their best configuration and are told nothing."""


def make_backend(name: str, settings: dict[str, object] | None = None) -> Backend:
    """Return a backend that has not been started. Raises BackendError for an unknown one, or one that is not here.

    settings: of "hotbench" alone: SETTINGS.
    """
    reason = unavailable(name) or unknown_settings(name, settings or {})
    if reason:
        raise BackendError(reason)
    return _FACTORIES[name](settings or {})


def unknown_settings(name: str, settings: Mapping[str, object]) -> str:
    """Return which of the settings the backend does not have, in one line; empty if it has them all."""
    known = SETTINGS if name == OURS else ()
    unknown = sorted(set(settings) - set(known))
    if not unknown:
        return ""
    return f"backend {name} has no setting {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"


def unavailable(name: str) -> str:
    """Return why a backend cannot run here, in one line; empty if it can."""
    if name not in NAMES:
        return f"no backend {name!r}; choose one of {', '.join(NAMES)}"
    return _REASONS.get(name, lambda: "")()


def _without_libucp() -> str:
    from optimizers.placement.transport.library import find_library

    found = find_library()
    return found if isinstance(found, str) else ""


def _without_grpc() -> str:
    absent = [package for package, module in (("grpcio", "grpc"), ("protobuf", "google.protobuf")) if _absent(module)]
    return f"{' and '.join(absent)} not installed; pip install {' '.join(absent)}" if absent else ""


def _without_rpc() -> str:
    from torch.distributed import rpc

    return "" if rpc.is_available() else "this torch was built without torch.distributed.rpc; install another build"


def _absent(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


def _hook(settings: dict[str, object]) -> Backend:
    from optimizers.placement.hook_backend import HookBackend

    return HookBackend(settings)


def _gloo(_: dict[str, object]) -> Backend:
    from optimizers.placement.baselines.data_parallel import DataParallel

    return DataParallel()


def _grpc(_: dict[str, object]) -> Backend:
    from optimizers.placement.baselines.grpc_backend import GrpcParameterServer

    return GrpcParameterServer(flat=False)


def _grpc_flat(_: dict[str, object]) -> Backend:
    from optimizers.placement.baselines.grpc_backend import GrpcParameterServer

    return GrpcParameterServer(flat=True)


def _torch_rpc(_: dict[str, object]) -> Backend:
    from optimizers.placement.baselines.torch_rpc import TorchRpc

    return TorchRpc()


_REASONS: dict[str, Callable[[], str]] = {
    OURS: _without_libucp,
    "grpc": _without_grpc,
    "grpc-flat": _without_grpc,
    "torch-rpc": _without_rpc,
}
_FACTORIES: dict[str, Callable[[dict[str, object]], Backend]] = {
    OURS: _hook,
    "gloo": _gloo,
    "grpc": _grpc,
    "grpc-flat": _grpc_flat,
    "torch-rpc": _torch_rpc,
}
