"""`python -m analyzer`: capture a workload to a folder, show a captured one."""

import sys

from analyzer.cli import main

sys.exit(main())
