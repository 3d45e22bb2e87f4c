"""What launchers share, without a device: what arguments are refused, which form is chosen, what is asked of CUDA."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from kernels.cuda.kernel import KernelSource
from kernels.cuda.launch import (
    ArgumentError,
    DeviceKernels,
    LaunchBuffer,
    LaunchError,
    address_of,
    addresses_of,
    require_disjoint,
)

X = LaunchBuffer("x", "float32", 6)
CODES = LaunchBuffer("codes", "uint32", 6, given_as=("int8", "uint8"))


def device_array(shape: tuple[int, ...], dtype: str = "<f4", strides: tuple[int, ...] | None = None) -> SimpleNamespace:
    """Return what a launcher sees of a CUDA tensor at address 256."""
    interface = {"data": (256, False), "shape": shape, "typestr": dtype, "strides": strides, "version": 2}
    return SimpleNamespace(__cuda_array_interface__=interface)


class FakeCuda:
    """Stands in for the CUDA module: each compiled kernel notes its launches, and 12 blocks of 256 threads fit."""

    def __init__(self) -> None:
        self.compiled: list[tuple[object, dict[str, object]]] = []
        self.launches: list[tuple[object, ...]] = []
        self.overload = SimpleNamespace(
            cooperative=False, max_cooperative_grid_blocks=lambda threads: 3072 // threads, local_mem_per_thread=0
        )

    def jit(self, signature: object, **options: object):
        self.compiled.append((signature, options))
        return lambda function: self

    @property
    def overloads(self) -> dict[str, SimpleNamespace]:
        return {"only": self.overload}

    def external_stream(self, handle: int) -> str:
        return f"stream {handle}"

    def __getitem__(self, configuration: tuple[object, ...]):
        return lambda *arguments: self.launches.append((*configuration, arguments))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    monkeypatch.setattr(cuda_support, "cuda_module", lambda: cuda)
    monkeypatch.setattr(cuda_support, "require_device", lambda: None)
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 4)
    monkeypatch.setattr(cuda_kernel, "device_function", lambda source: source.entry)
    monkeypatch.setattr(cuda_kernel, "signature", lambda source: source.entry)
    return cuda


def source(**fields: object) -> KernelSource:
    return KernelSource("kernel", "", "", (16, 4), 1, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("buffer", "argument", "message"),
    [
        (X, device_array((5,)), "buffer x needs 6 elements, not 5; pass all of them"),
        (X, device_array((6,), "<f8"), "buffer x needs float32, not float64; convert it first"),
        (X, device_array((2, 3), strides=(4, 8)), r"buffer x has strides \(4, 8\)"),
        (X, object(), "buffer x needs an address or a CUDA array, not object; pass a CUDA tensor"),
        (CODES, device_array((23,), "|i1"), "buffer codes needs 6 elements, not 5"),
        (CODES, device_array((12,), "<f2"), "buffer codes needs uint32, not float16"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_in_one_line(
    buffer: LaunchBuffer, argument: object, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message) as raised:
        address_of(buffer, argument)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("buffer", "argument"),
    [
        (X, device_array((2, 3), strides=(12, 4))),
        (X, device_array((1, 7), strides=(999, 4))),
        (CODES, device_array((24,), "|i1")),
        (CODES, device_array((6,), "<u4")),
        (X, 256),
    ],
)
def test_contiguous_arrays_of_the_right_bytes_and_plain_addresses_are_taken(
    buffer: LaunchBuffer, argument: object
) -> None:
    assert address_of(buffer, argument) == 256


def test_the_number_of_arguments_is_checked() -> None:
    with pytest.raises(ArgumentError, match="1 arguments for 2 buffers; give one for each"):
        addresses_of((X, CODES), (256,))


@pytest.mark.parametrize(
    ("addresses", "overlap"),
    [
        ((0, 24, 48), None),
        ((0, 0, 48), None),  # both are only read
        ((0, 48, 24), None),
        ((0, 64, 20), "x and out"),
        ((40, 64, 20), "out and x"),
        ((0, 200, 0), "and out|out and"),
        ((100, 8, 12), "y and out"),
    ],
)
def test_memory_that_is_written_belongs_to_one_buffer(addresses: tuple[int, ...], overlap: str | None) -> None:
    buffers = (X, LaunchBuffer("y", "float32", 6), LaunchBuffer("out", "float32", 6, written=True))
    if overlap is None:
        require_disjoint(buffers, addresses)
    else:
        with pytest.raises(ArgumentError, match=f"{overlap}.* overlap, and one is written; give each its own memory"):
            require_disjoint(buffers, addresses)


def test_buffers_of_any_places_are_told_apart_as_byte_by_byte() -> None:
    random = np.random.default_rng()
    for _ in range(300):
        count = int(random.integers(1, 5))
        buffers = [
            LaunchBuffer(f"b{k}", "uint8", int(random.integers(0, 6)), bool(random.integers(2))) for k in range(count)
        ]
        addresses = [int(address) for address in random.integers(0, 20, count)]
        owners: dict[int, list[LaunchBuffer]] = {}
        for buffer, address in zip(buffers, addresses, strict=True):
            for byte in range(address, address + buffer.elements):
                owners.setdefault(byte, []).append(buffer)
        shared = any(len(found) > 1 and any(b.written for b in found) for found in owners.values())
        try:
            require_disjoint(buffers, addresses)
            refused = False
        except ArgumentError:
            refused = True
        assert refused == shared, (buffers, addresses)


def test_the_first_form_whose_alignment_fits_is_chosen() -> None:
    scalar = KernelSource("kernel", "", "", (4, 4), 1)
    kernels = DeviceKernels({"wide": source(), "scalar": scalar})
    assert [kernels.choose(addresses) for addresses in ((32, 4), (36, 4))] == ["wide", "scalar"]
    with pytest.raises(ArgumentError, match="no multiple of its element's size"):
        kernels.choose((33, 4))


def test_a_form_is_compiled_once_for_each_device(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = DeviceKernels({"wide": source(threads=192)})
    kernels.prepare()
    kernels.launch("wide", 3, 192, 0, (256, 512))
    assert cuda.compiled == [("kernel", {"launch_bounds": 192})]
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 1)
    kernels.launch("wide", 3, 192, 7, (256, 512, 9))
    assert len(cuda.compiled) == 2
    assert cuda.launches == [(3, 192, 0, (256, 512)), (3, 192, "stream 7", (256, 512, 9))]


@pytest.mark.parametrize("cooperative", [False, True])
def test_a_kernel_with_a_grid_barrier_is_launched_cooperatively(cuda: FakeCuda, cooperative: bool) -> None:
    DeviceKernels({"wide": source(cooperative=cooperative)}).prepare()
    assert cuda.overload.cooperative is cooperative


def test_a_grid_that_does_not_fit_at_once_is_refused(cuda: FakeCuda) -> None:
    kernels = DeviceKernels({"wide": source(cooperative=True)})
    assert kernels.resident_blocks("wide", 256) == 12
    kernels.require_resident("wide", 12, 256)
    with pytest.raises(LaunchError, match="a grid of 13 blocks of 256 threads .* but this device runs 12"):
        kernels.require_resident("wide", 13, 256)
