import os

import pytest
import torch

from analyzer.device import describe_device, describe_environment, measure_peaks
from analyzer.errors import WorkloadError


def test_the_cpu_has_measured_peaks_and_its_own_memory():
    device = describe_device("cpu")
    assert device.kind == "cpu" and device.name and 1 <= device.cores <= (os.cpu_count() or 1)
    assert device.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for peak, unit in ((device.flops_per_second, "FLOP/s"), (device.bytes_per_second, "B/s")):
        assert peak is not None and peak.unit == unit and peak.source.startswith("measured: ")
        assert f"{torch.get_num_threads()} thread" in peak.source
        assert 1e8 < peak.value < 1e15


def test_peaks_are_measured_once_a_process():
    assert describe_device("cpu") == describe_device("cpu")
    assert measure_peaks("cpu", torch.get_num_threads()) is measure_peaks("cpu", torch.get_num_threads())


@pytest.mark.parametrize("kind", ["tpu", "cuda:99"])
def test_an_absent_device_is_refused(kind):
    with pytest.raises(WorkloadError, match=kind):
        describe_device(kind)


def test_the_environment_names_its_versions():
    environment = describe_environment()
    assert environment.torch == torch.__version__ and environment.python.startswith("3.")
    assert environment.numba and environment.operating_system and environment.cpu
    assert list(environment.cpu_features) == sorted(set(environment.cpu_features))
    assert describe_environment() == environment
