"""Python runs this first: a process that has it on its path can import no web, database or page package.

It also measures little, so that a test of what happens around an experiment need not wait for a good one.
"""

import importlib.machinery
import sys

REFUSED = frozenset(
    "alembic dash dash_ag_grid dash_cytoscape dash_mantine_components flask flask_limiter flask_login flask_talisman "
    "jinja2 platformdirs plotly rich sqlalchemy waitress werkzeug".split()
)


class _Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is not on a worker's machine", name=name)


class _MeasureLittle:
    def find_spec(self, name, path=None, target=None):
        if name != "analyzer.schedule":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.DEFAULT_SAMPLING = module.Sampling(
                blocks=5, most_blocks=5, confirmations=0, confirm_blocks=1, block_seconds=0.02
            )

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path[:0] = [_Refuse(), _MeasureLittle()]
