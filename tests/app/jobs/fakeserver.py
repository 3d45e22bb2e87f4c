"""A server's part that has jobs done, alone in a process, to be killed: python -m tests.app.jobs.fakeserver PLACE."""

import sys
import time

from app.jobs.queue import Jobs
from app.jobs.runner import Runner
from app.store import open_store
from tests.app.jobs.making import COMMAND

if __name__ == "__main__":
    with open_store(sys.argv[1]) as store:
        Runner(store, Jobs(store.database), COMMAND).start()
        time.sleep(600)
