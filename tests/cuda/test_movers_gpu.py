"""Tier d of gather and pack: their launchers on a real device. Skipped, visibly, where there is none."""

from __future__ import annotations

import pytest

from kernels.transfer.gather import ArenaLauncher, ArenaPlan
from kernels.transfer.pack import BFLOAT16, FORMATS, INT8, LOSSLESS, PackLauncher, PackPlan
from tests.cuda.device import missing

torch = pytest.importorskip("torch")

WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY is not None, reason=f"no GPU test: {WHY}")]
COUNTS = (1, 7, 1024, 4099, 1_000_003, *range(1, 300, 7))


def stream_handle() -> int:
    return torch.cuda.current_stream().cuda_stream


def tensors(misaligned: bool) -> list:
    """Return tensors of many sizes; misaligned ones begin 4 bytes off the 16-byte grid."""
    return [torch.randn(count + 1, device="cuda")[int(misaligned) :][:count] for count in COUNTS]


def arena_plan(given: list) -> ArenaPlan:
    return ArenaPlan.of([t.data_ptr() for t in given], [t.numel() * t.element_size() for t in given])


@pytest.mark.parametrize("misaligned", [False, True])
def test_tensors_are_gathered_and_scattered_back_on_the_device(misaligned: bool) -> None:
    given = tensors(misaligned)
    plan = arena_plan(given)
    arena = torch.full((plan.arena_bytes,), 0xDE, dtype=torch.uint8, device="cuda")
    launcher = ArenaLauncher(plan)
    launcher.gather(arena, stream_handle())
    for tensor, offset in zip(given, plan.offsets, strict=True):
        assert torch.equal(arena[offset : offset + 4 * tensor.numel()].view(torch.float32), tensor)
    wanted = [tensor.clone() for tensor in given]
    for tensor in given:
        tensor.fill_(-1)
    launcher.scatter(arena, stream_handle())
    assert all(torch.equal(*pair) for pair in zip(given, wanted, strict=True))


def test_bytes_at_any_place_are_copied_on_the_device() -> None:
    memory = torch.randint(0, 256, (1 << 20,), dtype=torch.uint8, device="cuda")
    places = list(range(3, 1 << 20, 1021))[:-1]
    sizes = [k % 1000 for k in range(len(places))]
    plan = ArenaPlan.of([memory.data_ptr() + place for place in places], sizes)
    arena = torch.zeros(plan.arena_bytes, dtype=torch.uint8, device="cuda")
    ArenaLauncher(plan).gather(arena, stream_handle())
    for place, size, offset in zip(places, sizes, plan.offsets, strict=True):
        assert torch.equal(arena[offset : offset + size], memory[place : place + size])


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("misaligned", [False, True])
def test_packed_tensors_come_back_within_what_the_format_keeps(form, misaligned: bool) -> None:
    given = tensors(misaligned)
    wanted = [tensor.clone() for tensor in given]
    plan = PackPlan.of(form, [t.data_ptr() for t in given], [4 * t.numel() for t in given])
    staging = torch.zeros(plan.staging_bytes, dtype=torch.uint8, device="cuda")
    launcher = PackLauncher(plan)
    launcher.pack(staging, stream_handle())
    for tensor in given:
        tensor.fill_(-1)
    launcher.unpack(staging, stream_handle())
    for tensor, before in zip(given, wanted, strict=True):
        if form is LOSSLESS:
            assert torch.equal(tensor, before)
        elif form is BFLOAT16:
            assert torch.equal(tensor, before.to(torch.bfloat16).float())
        else:
            assert form is INT8
            assert float((tensor - before).abs().max()) <= float(before.abs().max()) / 254 * (1 + 1e-5)


def test_gather_and_pack_are_captured_into_a_cuda_graph_and_see_new_values() -> None:
    given = tensors(misaligned=False)
    plan = arena_plan(given)
    packing = PackPlan.of(INT8, plan.addresses, plan.byte_counts)
    arena = torch.zeros(plan.arena_bytes, dtype=torch.uint8, device="cuda")
    staging = torch.zeros(packing.staging_bytes, dtype=torch.uint8, device="cuda")
    gathering, packer = ArenaLauncher(plan), PackLauncher(packing)
    gathering.prepare()
    packer.prepare()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gathering.gather(arena, stream_handle())
        packer.pack(staging, stream_handle())
    for value in (3.0, -5.0):
        for tensor in given:
            tensor.fill_(value)
        graph.replay()
        torch.cuda.synchronize()
        for tensor, offset, packed in zip(given, plan.offsets, packing.offsets, strict=True):
            assert bool((arena[offset : offset + 4 * tensor.numel()].view(torch.float32) == value).all())
            codes = staging[packed : packed + tensor.numel()].view(torch.int8)
            assert bool((codes == (127 if value > 0 else -127)).all())


def test_a_gather_waits_for_the_work_before_it_on_its_stream() -> None:
    source = torch.zeros(1 << 20, device="cuda")
    plan = arena_plan([source])
    arena = torch.zeros(plan.arena_bytes, dtype=torch.uint8, device="cuda")
    launcher = ArenaLauncher(plan)
    launcher.prepare()
    matrix = torch.randn(4096, 4096, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(20):
            matrix = matrix @ matrix / 64
        source.fill_(7.0)
        launcher.gather(arena, stream_handle())
    side.synchronize()
    assert bool((arena.view(torch.float32) == 7.0).all())
