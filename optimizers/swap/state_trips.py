"""The optimizer's state between its updates: written out after one, back before the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from optimizers.swap.entries import Copying
from optimizers.swap.errors import SwapError
from optimizers.swap.itinerary import FETCH, FREE, LEAVE, Itinerary, Trip
from optimizers.swap.tier import FileTier


@dataclass(slots=True)
class _Tensor:
    """One tensor of the state. home: what it looks like there; None while it is at home."""

    tensor: torch.Tensor
    trip: Trip
    shape: torch.Size
    strides: tuple[int, ...]
    leaving: Copying | None = None
    arriving: Copying | None = None
    away: bool = False


class StateTrips:
    """Moves the state tensors that an itinerary names. A tensor that is away is empty; saving the state brings all."""

    def __init__(self, itinerary: Itinerary, tier: FileTier | None, optimizer: torch.optim.Optimizer | None) -> None:
        self.tier, self.optimizer = tier, optimizer
        self.plans = {state.buffer: state for state in itinerary.state}
        self.tensors: dict[int, _Tensor] = {}
        self.wrapping = [trip for trip in itinerary.trips if trip.buffer in self.plans and trip.before <= trip.after]
        self._hook = None
        if optimizer is not None and self.plans:
            self._hook = optimizer.register_state_dict_pre_hook(lambda _: self.bring_home())

    def close(self) -> None:
        """Bring everything home and let go of the optimizer."""
        self.bring_home()
        if self._hook is not None:
            self._hook.remove()

    def owns(self, trip: Trip) -> bool:
        """Return whether the trip is a state tensor's."""
        return trip.buffer in self.plans

    def begin(self) -> None:
        """Have away what a step begins without: after an update it has left, but not when it was brought home since."""
        home = [trip for trip in self.wrapping if trip.buffer not in self.tensors]
        for trip in home:
            self._leave(trip)
        for trip in home:
            if trip.buffer in self.tensors:
                self._free(self.tensors[trip.buffer])

    def act(self, kind: int, trip: Trip) -> None:
        """Do what is due for one of the tensors."""
        if kind == LEAVE:
            self._leave(trip)
        elif kind == FREE and trip.buffer in self.tensors:
            self._free(self.tensors[trip.buffer])
        elif kind == FETCH and trip.buffer in self.tensors:
            self._fetch(self.tensors[trip.buffer])

    def _leave(self, trip: Trip) -> None:
        tensor = self._find(trip)
        if self.tier is None or tensor is None or self.tier.trouble or tensor.untyped_storage().nbytes() != trip.bytes:
            return
        moved = _Tensor(tensor, trip, tensor.shape, tensor.stride())
        moved.leaving = self.tier.copy_out(tensor.untyped_storage(), trip.offset)
        self.tensors[trip.buffer] = moved

    def _find(self, trip: Trip) -> torch.Tensor | None:
        plan = self.plans[trip.buffer]
        if self.optimizer is None:
            return None
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[str, Any] = (
            self.optimizer.state.get(parameters[plan.parameter], {}) if plan.parameter < len(parameters) else {}
        )
        found = state.get(plan.name)
        return found if isinstance(found, torch.Tensor) and found.untyped_storage().nbytes() else None

    def _free(self, moved: _Tensor) -> None:
        leaving, moved.leaving = moved.leaving, None
        if leaving is None:
            return
        leaving.ticket.wait()
        if leaving.ticket.error is not None:
            assert self.tier is not None, "a copy was on its way there"
            self.tier.note_failure(leaving.ticket.error)
            return
        moved.away = True
        # The tensor stays the object that the optimizer knows; its elements are in the file alone.
        moved.tensor.data = torch.empty(0, dtype=moved.tensor.dtype)

    def _fetch(self, moved: _Tensor) -> None:
        self._free(moved)
        if moved.away and moved.arriving is None and self.tier is not None:
            moved.arriving = self.tier.copy_in(moved.trip.bytes, moved.trip.offset)

    def bring_home(self) -> None:
        """Have all of the state in memory. Raises SwapError where it cannot be read back."""
        for buffer, moved in list(self.tensors.items()):
            self._fetch(moved)
            arriving = moved.arriving
            if arriving is not None:
                arriving.ticket.wait()
                if arriving.ticket.error is not None:
                    raise SwapError(f"the optimizer's state cannot be read back ({arriving.ticket.error})")
                home = torch.empty(0, dtype=moved.tensor.dtype)
                moved.tensor.data = home.set_(arriving.storage, 0, moved.shape, moved.strides)
            del self.tensors[buffer]
