"""Hotbench against its peers, measured in one sitting: `python -m benchmarks.NAME [--quick] [--json] [--list]`."""
