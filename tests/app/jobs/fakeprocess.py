"""The real job process with kinds made for tests; what it starts writes its pid into the job's folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from analyzer.errors import HotbenchError
from app.jobs.process import main

SLEEPER = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"


def hang(folder):
    """Say that we are there, and wait to be ended."""
    (folder / "here").touch()
    time.sleep(600)


def quick(store, arguments, progress, echo):
    progress("half", 0.5)
    print("printed by the workload", flush=True)
    os.write(2, b"written by native code\n")
    echo("told")
    return {"answer": 42, "ratio": float("nan")}


def fail(store, arguments, progress, echo):
    raise HotbenchError("no file 'x.py'; give one that is there")


def bug(store, arguments, progress, echo):
    return {}["missing"]


def crash(store, arguments, progress, echo):
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(10)


def family(store, arguments, progress, echo):
    """Start a child in a session of its own, as a capture does, and hang."""
    folder = Path(arguments["folder"])
    child = subprocess.Popen([sys.executable, "-S", "-c", SLEEPER, str(folder / "child-here")], start_new_session=True)
    (folder / "child").write_text(str(child.pid))
    while not (folder / "child-here").exists():
        time.sleep(0.02)
    progress("hanging", 0.25)
    hang(folder)


def stubborn(store, arguments, progress, echo):
    """Heed no request to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(Path(arguments["folder"]))


def save(store, arguments, progress, echo):
    """Save a run, and hang before the end is written."""
    # Imported where it is used: the other kinds need no torch.
    from analyzer.run import save_run, with_content_id
    from tests.app.values import report_run

    run = with_content_id(report_run())
    store.save("run", lambda folder: save_run(run, folder), name=run.name)
    hang(Path(arguments["folder"]))


def halve(store, arguments, progress, echo):
    """Hang while a run is being written."""
    from analyzer.run import save_run, with_content_id
    from tests.app.values import report_run

    run = with_content_id(report_run())

    def write(folder):
        save_run(run, folder)
        hang(Path(arguments["folder"]))

    store.save("run", write, name=run.name)


def wait_for_file(store, arguments, progress, echo):
    """Go on until the test lets it end."""
    folder = Path(arguments["folder"])
    (folder / "here").touch()
    while not (folder / "end").exists():
        time.sleep(0.02)
    return {"answer": 42}


KINDS = {kind.__name__: kind for kind in (quick, fail, bug, crash, family, stubborn, save, halve, wait_for_file)}

if __name__ == "__main__":
    raise SystemExit(main(kinds=KINDS))
