"""Kernels find their op through correlation and containment, on traces made by hand."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.capture.devicesamples import Sampler, nvml_reader, read_sample
from analyzer.capture.devicework import NO_LAUNCH, NO_OP, busy_and_idle, join_device_work, parse_device_steps
from analyzer.run import DeviceSample

BASE = 1712195495519689


def span(category, name, start, duration, tid="1", **arguments):
    return {
        "ph": "X", "cat": category, "name": name, "pid": 4, "tid": tid, "ts": f"@{BASE}.{start:03d}@",
        "dur": duration / 1000, "args": arguments,
    }  # fmt: skip


def trace(*events):
    # Microseconds with nanoseconds as decimals, written as the exporter does: too long for a float64.
    return (
        json.dumps({"traceEvents": [{"ph": "M", "name": "process_name"}, *events]}).replace('"@', "").replace('@"', "")
    )


STEP = span("user_annotation", "hotbench::step", 0, 900)
TEXT = trace(
    STEP,
    span("cpu_op", "aten::linear", 10, 200, **{"External id": 77}),
    span("cpu_op", "aten::addmm", 20, 100, **{"External id": 2}),
    span("cpu_op", "aten::relu", 300, 100, **{"External id": 3}),
    span("cuda_runtime", "cudaLaunchKernel", 40, 5, correlation=3),
    span("cuda_runtime", "cudaLaunchKernel", 150, 5, correlation=2),
    span("cuda_driver", "cuLaunchKernelEx", 310, 5, correlation=77),
    span("cuda_runtime", "cudaGraphLaunch", 350, 5, correlation=90),
    span("cuda_runtime", "cudaLaunchKernel", 600, 5, correlation=91),
    # Its External id is its correlation, which collides with that of relu: it belongs to addmm.
    span("kernel", "gemm", 200, 100, "s7", correlation=3, stream=7, **{"External id": 3}),
    span("kernel", "bias", 320, 20, "s7", correlation=2, stream=7),
    span("kernel", "relu", 330, 100, "s8", correlation=77, stream=8),
    span("kernel", "graph part 1", 500, 10, "s7", correlation=90, stream=7),
    span("gpu_memset", "graph part 2", 505, 10, "s7", correlation=90, stream=7),
    span("kernel", "launched between ops", 620, 5, "s7", correlation=91, stream=7),
    span("gpu_memcpy", "no launch", 700, 50, "s7", correlation=1000, stream=7),
    {"ph": "f", "cat": "ac2g", "name": "ac2g", "pid": 4, "tid": "s7", "id": 3, "ts": 1},
)


def test_kernels_link_through_correlation_to_the_innermost_op():
    (step,) = parse_device_steps(TEXT)
    linked = {kernel.name: step.ops[kernel.op].name if kernel.op >= 0 else "" for kernel in step.kernels}
    assert linked == {
        "gemm": "aten::addmm",
        "bias": "aten::linear",
        "relu": "aten::relu",
        "graph part 1": "aten::relu",
        "graph part 2": "aten::relu",
        "launched between ops": "",
        "no launch": "",
    }
    assert step.orphans == {NO_OP: 1, NO_LAUNCH: 1}


def test_times_join_the_graph_and_busy_is_a_union():
    steps = parse_device_steps(TEXT)
    names = ["aten::linear", "aten::addmm", "aten::relu"]
    work = join_device_work(names, [0, 1, 2], steps * 3)
    assert [value.median for value in work.op_seconds] == pytest.approx([20e-9, 100e-9, 120e-9])
    assert work.op_seconds[0].samples == 3
    # 200-300, 320-430, 500-515, 620-625 and 700-750 between 200 and 750.
    assert work.busy_seconds == pytest.approx(280e-9) and work.idle_seconds == pytest.approx(270e-9)
    assert work.kernels[0].start_seconds == pytest.approx(200e-9) and work.kernels[0].stream == 7
    assert [kernel.op for kernel in work.kernels] == [1, 0, 2, 2, 2, -1, -1]


def test_ops_that_the_graph_does_not_have_leave_their_kernels_without_op():
    work = join_device_work(["aten::relu"], [0], parse_device_steps(TEXT))
    assert [kernel.op for kernel in work.kernels] == [-1, -1, 0, 0, 0, -1, -1]


def test_old_names_are_read():
    text = trace(
        STEP,
        span("Operator", "aten::mul", 10, 50, **{"external id": 5}),
        span("Runtime", "cudaLaunchKernel", 20, 5, **{"correlation": 9}),
        span("Kernel", "vectorized", 60, 30, 12, **{"correlation": 9}),
    )
    (step,) = parse_device_steps(text)
    assert [step.ops[kernel.op].name for kernel in step.kernels] == ["aten::mul"]


def test_an_empty_trace_has_no_steps():
    assert parse_device_steps(trace()) == []
    assert join_device_work([], [], parse_device_steps(trace(STEP))).busy_seconds == 0.0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=20))
def test_busy_counts_each_instant_once(rows):
    spans = [(start, start + length) for start, length in rows]
    covered = {instant for start, end in spans for instant in range(start, end)}
    busy, idle = busy_and_idle(spans)
    window = max(e for _, e in spans) - min(s for s, _ in spans) if spans else 0
    assert (busy, idle) == (len(covered), window - len(covered))


class RefusedError(Exception):
    pass


class Driver:
    """An NVML that knows its temperature and nothing else."""

    NVMLError = RefusedError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 41

    def __getattr__(self, name):
        def refuse(*arguments):
            raise RefusedError(name)

        return refuse


def test_a_field_that_the_driver_refuses_is_none():
    sample = read_sample(Driver(), None, 1.5)
    assert sample == DeviceSample(1.5, None, None, None, 41.0, None)


def test_the_sampler_reads_while_it_runs_and_stops():
    sampler = Sampler()
    with sampler.running(lambda seconds: DeviceSample(seconds, None, None, None, None, None), interval=0.001):
        while len(sampler.samples) < 3:
            pass
    count = len(sampler.samples)
    assert count >= 3 and all(a.seconds < b.seconds for a, b in pairwise(sampler.samples))
    with sampler.running(None):
        pass
    assert len(sampler.samples) == count


def test_without_a_driver_there_is_no_reader(monkeypatch):
    import pynvml

    def absent():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    with nvml_reader(0) as reader:
        assert reader is None
