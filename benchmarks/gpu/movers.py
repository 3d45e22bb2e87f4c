"""Part: gather, scatter and pack, many tensors in one launch, against torch's own ways and a copy of as many bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu.contest import OURS, Contest, Rival, require_device, run_contest
from benchmarks.gpu.findings import Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import copying, keeping, stream_handle
from kernels.transfer.gather import ArenaLauncher, ArenaPlan
from kernels.transfer.pack import FORMATS, Format, PackLauncher, PackPlan

MIB = 2**20
COPY, FOREACH, CAT = "copy", "foreach-copy", "cat"
# Elements: as the parameters of a transformer, large matrices and many short vectors.
SHAPES = (*((768 * 3072,) * 16), *((768 * 768,) * 24), *((768,) * 60))
TINY = (257,) * 4096


def tasks(argument: str) -> list[Task]:
    """Return a task for each way to move tensors."""
    listed = [
        Task("gather-parameters", functools.partial(run, lambda: gathering("gather-parameters", SHAPES, "cuda"))),
        Task("gather-tiny", functools.partial(run, lambda: gathering("gather-tiny", TINY, "cuda", in_cache=True))),
        Task("scatter-parameters", functools.partial(run, lambda: scattering("scatter-parameters", SHAPES, "cuda"))),
    ]
    for name, form in FORMATS.items():
        listed.append(Task(f"pack-{name}", functools.partial(run, functools.partial(packing, form, SHAPES, "cuda"))))
        listed.append(
            Task(f"unpack-{name}", functools.partial(run, functools.partial(unpacking, form, SHAPES, "cuda")))
        )
    return listed


def run(build: Callable[[], Contest]) -> Found:
    """Return the figures of one way."""
    require_device()
    return run_contest(build())


def draw(elements: Sequence[int], device: str) -> tuple[list[torch.Tensor], tuple[int, ...], tuple[int, ...]]:
    """Return random float32 tensors, their addresses and their sizes in bytes."""
    tensors = [torch.randn(count, device=device) for count in elements]
    return tensors, tuple(t.data_ptr() for t in tensors), tuple(t.nbytes for t in tensors)


def arena_of(size: int, device: str) -> torch.Tensor:
    """Return so many zero bytes, at an address that is a multiple of 16."""
    whole = torch.zeros(size + 16, dtype=torch.uint8, device=device)
    start = -whole.data_ptr() % 16
    return whole[start : start + size]


def gathering(case: str, elements: Sequence[int], device: str, *, in_cache: bool = False) -> Contest:
    """Return the contest of gathering tensors into an arena.

    in_cache: so few bytes that their time is told, not a bandwidth.
    """
    tensors, addresses, sizes = draw(elements, device)
    plan = ArenaPlan.of(addresses, sizes)
    arena, launcher = arena_of(plan.arena_bytes, device), ArenaLauncher(plan)
    targets = [_slice(arena, offset, size) for offset, size in zip(plan.offsets, sizes, strict=True)]
    return Contest(
        case=case,
        rivals={
            OURS: lambda: _alone(lambda: launcher.gather(arena.data_ptr(), stream_handle()), lambda: _joined(targets)),
            FOREACH: lambda: _alone(lambda: torch._foreach_copy_(targets, tensors), lambda: _joined(targets)),
            CAT: lambda: keeping(torch.cat, [(tensors,)]),
            COPY: lambda: _whole_copy(sum(sizes), device),
        },
        wanted=lambda: torch.cat(tensors).double(),
        tolerance=0.0,
        bytes_moved=0 if in_cache else 2 * sum(sizes),
        tolerances={COPY: None},
    )


def scattering(case: str, elements: Sequence[int], device: str) -> Contest:
    """Return the contest of filling tensors from an arena."""
    tensors, addresses, sizes = draw(elements, device)
    plan = ArenaPlan.of(addresses, sizes)
    arena, launcher = arena_of(plan.arena_bytes, device), ArenaLauncher(plan)
    sources = [_slice(arena, offset, size) for offset, size in zip(plan.offsets, sizes, strict=True)]
    for source in sources:
        source.normal_()
    return Contest(
        case=case,
        rivals={
            OURS: lambda: _alone(lambda: launcher.scatter(arena.data_ptr(), stream_handle()), lambda: _joined(tensors)),
            FOREACH: lambda: _alone(lambda: torch._foreach_copy_(tensors, sources), lambda: _joined(tensors)),
            COPY: lambda: _whole_copy(sum(sizes), device),
        },
        wanted=lambda: torch.cat(sources).double(),
        tolerance=0.0,
        bytes_moved=2 * sum(sizes),
        tolerances={COPY: None},
    )


def packing(form: Format, elements: Sequence[int], device: str) -> Contest:
    """Return the contest of packing tensors into a staging buffer; what is checked is what unpacks from it."""
    tensors, addresses, sizes = draw(elements, device)
    copies = [tensor.clone() for tensor in tensors]
    plan = PackPlan.of(form, addresses, sizes)
    back = PackLauncher(PackPlan.of(form, tuple(copy.data_ptr() for copy in copies), sizes))
    staging, launcher = arena_of(plan.staging_bytes, device), PackLauncher(plan)

    def unpacked() -> torch.Tensor:
        for copy in copies:
            copy.zero_()
        back.unpack(staging.data_ptr(), stream_handle())
        return _joined(copies)

    return Contest(
        case=f"pack-{form.name}",
        rivals={
            OURS: lambda: _alone(lambda: launcher.pack(staging.data_ptr(), stream_handle()), unpacked),
            **_converting(form, tensors),
            COPY: lambda: _whole_copy((sum(sizes) + plan.staging_bytes) // 2, device),
        },
        wanted=lambda: torch.cat(tensors).double(),
        tolerance=_tolerance(form),
        bytes_moved=sum(sizes) + plan.staging_bytes,
        tolerances={COPY: None},
    )


def unpacking(form: Format, elements: Sequence[int], device: str) -> Contest:
    """Return the contest of unpacking tensors from a staging buffer."""
    tensors, addresses, sizes = draw(elements, device)
    wanted = torch.cat(tensors)
    plan = PackPlan.of(form, addresses, sizes)
    staging, launcher = arena_of(plan.staging_bytes, device), PackLauncher(plan)

    def ours() -> Rival:
        launcher.pack(staging.data_ptr(), stream_handle())
        return _alone(lambda: launcher.unpack(staging.data_ptr(), stream_handle()), lambda: _joined(tensors))

    return Contest(
        case=f"unpack-{form.name}",
        rivals={OURS: ours, COPY: lambda: _whole_copy((sum(sizes) + plan.staging_bytes) // 2, device)},
        wanted=wanted.double,
        tolerance=_tolerance(form),
        bytes_moved=sum(sizes) + plan.staging_bytes,
        tolerances={COPY: None},
    )


def _converting(form: Format, tensors: list[torch.Tensor]) -> dict[str, Callable[[], Rival]]:
    """Return torch's way to the same bytes, where it has one."""
    if form.name == "lossless":
        return {CAT: lambda: keeping(torch.cat, [(tensors,)])}
    if form.name == "bfloat16":
        return {CAT: lambda: keeping(_cat_bfloat16, [(tensors,)])}
    return {}


def _cat_bfloat16(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.bfloat16() for tensor in tensors])


def _tolerance(form: Format) -> float:
    return {"lossless": 0.0, "bfloat16": 4e-3, "int8": 2e-2}[form.name]


def _alone(work: Callable[[], object], result: Callable[[], torch.Tensor]) -> Rival:
    """Return a rival of one call; what it did is read off only when it is checked."""
    return Rival([work], result)


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _slice(arena: torch.Tensor, offset: int, size: int) -> torch.Tensor:
    return arena[offset : offset + size].view(torch.float32)


def _whole_copy(size: int, device: str) -> Rival:
    source = torch.ones(size // 4, device=device)
    return copying([source], [torch.empty_like(source)])
