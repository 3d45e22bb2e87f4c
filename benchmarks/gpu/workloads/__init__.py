"""Workloads that are captured to check the capture; a folder of their own, since a workload's folder is importable."""
