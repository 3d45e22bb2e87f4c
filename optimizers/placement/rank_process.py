"""One rank's process: `python -m optimizers.placement.rank_process` answers JSON requests, a line each, with a line.

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name its place, as under torchrun. Requests: build, steps, save, quit.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed.rendezvous import rendezvous

from analyzer.errors import HotbenchError
from analyzer.variant import build, die_with_parent, take_pipes
from analyzer.workload import Workload, seed_everything
from optimizers.placement.backends import make_backend
from optimizers.placement.baselines.backend import BackendError, World, address_towards
from optimizers.placement.rank import Rank
from optimizers.placement.workers import SECRET


def world_from_environment(timeout_seconds: float) -> World:
    """Return this process's place among the ranks, from the variables that torchrun sets, too.

    Raises BackendError for missing variables or a meeting point that does not answer.
    """
    absent = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if absent:
        raise BackendError(f"no {' and no '.join(absent)} in the environment; start the ranks by torchrun")
    timeout = datetime.timedelta(seconds=timeout_seconds)
    try:
        store, rank, size = next(rendezvous("env://", timeout=timeout))
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise BackendError(f"rank {os.environ['RANK']} found nobody at {place}; see whether it is up") from error
    host = address_towards(os.environ["MASTER_ADDR"])
    return World(rank, size, store, host, timeout_seconds, os.environ.get(SECRET, ""))


def build_workload(entry: str, argument: dict[str, Any], threads: int) -> Workload:
    """Return the workload that every rank builds alike, from the same seed."""
    torch.set_num_threads(threads)
    seed_everything(0)
    return build(entry, argument)


def make_rank(plan: dict[str, Any], world: World) -> Rank:
    """Return this rank of a launch (given as a dict), connected."""
    workload = build_workload(plan["entry"], plan["argument"], plan["threads"])
    rank = Rank(workload, make_backend(plan["backend"], plan["settings"]), world)
    rank.seed_generators(0)
    return rank


class Session:
    """The requests that a rank answers; each method's result is plain JSON."""

    def __init__(self) -> None:
        self._rank: Rank | None = None

    def build(self, launch: dict[str, Any]) -> dict[str, Any]:
        """Build the workload and connect to the other ranks."""
        self._rank = make_rank(launch, world_from_environment(launch["timeout_seconds"]))
        return {"transport": self._rank.backend.transport, "pid": os.getpid()}

    def steps(self, count: int, seeds: list[int] | None = None) -> dict[str, Any]:
        """Run steps; return each one's times and loss. seeds: a batch for each step, in place of the present one."""
        rank = self._built()
        times, losses = [], []
        for position in range(count):
            if seeds is not None:
                rank.draw(seeds[position])
            loss, step = rank.step()
            times.append(dataclasses.astuple(step))
            losses.append(float(loss))
        return {"times": times, "losses": losses}

    def step_alike(self, seed: int) -> dict[str, Any]:
        """Run one step beside a rank 0 that is driven elsewhere, on the batch of its seed."""
        rank = self._built()
        if seed != rank.seed:
            rank.seed_generators(seed)
            rank.draw(seed)
        rank.step()
        return {}

    def save(self, path: str) -> dict[str, Any]:
        """Write the parameters and buffers to a file."""
        from safetensors.torch import save_file

        state = self._built().workload.model.state_dict()
        save_file({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, Path(path))
        return {}

    def evaluate(self) -> dict[str, Any]:
        """Return the workload's metrics."""
        workload = self._built().workload
        found = {} if workload.evaluate is None else workload.evaluate(workload.model)
        return {"metrics": {name: float(value) for name, value in found.items()}}

    def quit(self) -> dict[str, Any]:
        """Leave the other ranks in peace."""
        if self._rank is not None:
            self._rank.close()
        return {"quit": True}

    def _built(self) -> Rank:
        if self._rank is None:
            raise BackendError("the rank was asked to run before it was built")
        return self._rank


REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "build": Session.build,
    "steps": Session.steps,
    "step-alike": Session.step_alike,
    "save": Session.save,
    "evaluate": Session.evaluate,
    "quit": Session.quit,
}


def serve(requests: Mapping[str, Callable[..., dict[str, Any]]], session: object) -> NoReturn:
    """Answer each request line by a line, until they end or "quit" has been answered; then end this process."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines, replies = take_pipes()
    for line in lines:
        message = json.loads(line)
        name = message.pop("request")
        try:
            reply = requests[name](session, **message)
        except HotbenchError as error:
            reply = {"error": str(error)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if name == "quit":
            break
    # Agents of a peer that died may keep threads that never end.
    os._exit(0)


if __name__ == "__main__":
    serve(REQUESTS, Session())
