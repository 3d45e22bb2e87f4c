"""What the driver says of the GPU while steps run: NVML readings from a thread of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from analyzer.run import DeviceSample

INTERVAL_SECONDS = 0.02
Reader = Callable[[float], DeviceSample]


class Sampler:
    """Collects readings until stopped; `reason` says why there are none."""

    def __init__(self) -> None:
        self.samples: list[DeviceSample] = []
        self.reason = ""

    @contextmanager
    def running(self, reader: Reader | None, interval: float = INTERVAL_SECONDS) -> Iterator[None]:
        """Read every `interval` seconds meanwhile; without a reader, read nothing."""
        if reader is None:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._collect, args=(reader, interval, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _collect(self, reader: Reader, interval: float, stop: threading.Event) -> None:
        begin = time.perf_counter()
        while True:
            self.samples.append(reader(time.perf_counter() - begin))
            if stop.wait(interval):
                return


@contextmanager
def nvml_reader(index: int) -> Iterator[Reader | None]:
    """Give a function that reads the GPU `index`, or None where the library or the driver is absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no permission: each means that there is nothing to read
        yield None
        return
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        yield lambda seconds: read_sample(pynvml, handle, seconds)
    finally:
        pynvml.nvmlShutdown()


def read_sample(nvml: Any, handle: Any, seconds: float) -> DeviceSample:
    """Return one reading; a field that the driver refuses is None."""
    utilization = _ask(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
    memory = _ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
    return DeviceSample(
        seconds=seconds,
        utilization=utilization,
        memory_used_bytes=None if memory is None else int(memory),
        power_watts=_ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        temperature_celsius=_ask(nvml, lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        sm_clock_mhz=_ask(nvml, lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))),
    )


def _ask(nvml: Any, question: Callable[[], float]) -> float | None:
    try:
        return question()
    except nvml.NVMLError:
        return None
