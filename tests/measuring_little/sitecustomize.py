"""Python runs this first where it is on its path: experiments measure little there.

For tests of what surrounds an experiment: what would be found by measuring long must be plain in a moment as well.
"""

import importlib.machinery
import sys

LITTLE = {"blocks": 5, "most_blocks": 5, "confirmations": 2, "confirm_blocks": 2, "block_seconds": 0.1}


class _MeasureLittle:
    def find_spec(self, name, path=None, target=None):
        if name != "analyzer.schedule":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.DEFAULT_SAMPLING = module.Sampling(**LITTLE)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _MeasureLittle())
