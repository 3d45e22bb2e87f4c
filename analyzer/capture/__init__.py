"""Run a workload and record its graph, timings, memory and device samples."""

from analyzer.capture.session import capture

__all__ = ["capture"]
