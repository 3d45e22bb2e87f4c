"""Capture, describe, diagnose and compare PyTorch runs. Knows nothing of the other packages."""
