"""One eager call written down op by op: what a fused program is made from, and the key under which it is found again.

Forward runs on real values that it cannot read: it gets tensors without memory, which stand for the real ones. So the
recorded ops are all that forward computes, whatever the values; what would read one is not recorded at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers.fusion.recordable import DependsOnValuesError, harmless, reads_no_values, why_not

_PLAIN = (int, float, bool, str, type(None), torch.dtype, torch.layout, torch.device, torch.memory_format)
_MOST_CONSTANT_ITEMS = 4096
_FRESH = torch.ops.aten.lift_fresh.default


class UnrecordableError(Exception):
    """Why a call cannot be recorded; it is traced in another way then, or refused in words."""


class CaughtError(UnrecordableError):
    """Forward caught an error of the recording's, and went on in another way than it goes by itself."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The tensor that has this number: placeholders first, then constants and results of ops in order."""

    number: int

    def __repr__(self) -> str:
        return f"%{self.number}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape, strides, offset and dtype of a tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype

    def __repr__(self) -> str:
        return f"{self.shape}{self.strides}{self.offset}{self.dtype}"


@dataclass(frozen=True, slots=True)
class Step:
    """One op: its arguments with Refs for tensors, the Refs of its results, and their layouts.

    many: it returns a tuple or list. constant: for a tensor made of Python numbers, its values.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: tuple[Ref | None, ...]
    layouts: tuple[Layout | None, ...]
    many: bool
    constant: torch.Tensor | None = None

    @property
    def writes(self) -> bool:
        """Return whether the op writes into an argument."""
        return bool(self.op._schema.is_mutable)

    def text(self) -> str:
        """Return all that the step is, in one line."""
        values = "" if self.constant is None else repr(self.constant.tolist())
        return f"{self.results}{self.layouts}{self.many} = {self.op}{self.args}{self.kwargs}{values}"


@dataclass(frozen=True, slots=True)
class Recording:
    """One call of a function of tensors.

    placeholders: layouts of the tensors that it was called with. outputs: Refs and plain values, flat.
    results: what the call returned, flat; the tensors are real.
    """

    placeholders: tuple[Layout, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Any, ...]
    results: tuple[Any, ...]

    def hash(self) -> str:
        """Return a hash of everything but the values of placeholders and results."""
        lines = [repr(self.placeholders), repr(self.outputs), *(step.text() for step in self.steps)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Stand(torch.Tensor):
    """Stands for a real tensor: the same shape, strides and dtype, and no memory that Python could read."""

    behind: torch.Tensor
    number: int
    recorder: Recorder
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor, recorder: Recorder) -> Stand:
        """Return what stands for `inner`."""
        stand: Stand = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
        )
        stand.behind, stand.number, stand.recorder = inner, recorder.numbers, recorder
        return stand

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        """Return the number: there is no value to show."""
        return f"Stand(%{self.number})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse what reaches a tensor outside of its recording."""
        raise UnrecordableError(f"{func} is called on a tensor of a recording that is over")

    def storage_offset(self) -> int:
        """Return where a tensor of forward's own begins in its memory; the caller's differs from call to call."""
        if self.recorder.is_given(self.behind):
            self.recorder.refused = self.recorder.refused or "forward reads the storage offset of an input or weight"
            raise DependsOnValuesError(f"{self.recorder.refused}, which other views of it would not share")
        return int(self.behind.storage_offset())

    def _unreadable(self, *_: Any, **__: Any) -> Any:
        """Refuse a way to the values that goes through no op."""
        self.recorder.refused = self.recorder.refused or "forward reads the values of a tensor"
        raise UnrecordableError(self.recorder.refused)

    tolist = numpy = data_ptr = untyped_storage = storage = __array__ = __dlpack__ = _unreadable


def record(call: Callable[..., Sequence[Any]], tensors: Sequence[torch.Tensor]) -> Recording:
    """Return the ops of `call(*tensors)`, which returns flat outputs, without gradients and without side effects.

    Raises UnrecordableError for what only another way of tracing can judge, CaughtError where `call` hides that;
    what else `call` raises is passed on.
    """
    return recorded(Recorder(), call, tensors)


def recorded(recorder: Recorder, call: Callable[..., Sequence[Any]], tensors: Sequence[torch.Tensor]) -> Recording:
    """Return what `record` does, by another recorder."""
    stands = [recorder.placeholder(tensor) for tensor in tensors]
    with torch.no_grad(), recorder:
        returned = list(call(*stands))
    if recorder.refused:
        raise CaughtError(recorder.refused)
    outputs = tuple(_output(item) for item in returned)
    results = tuple(item.behind if isinstance(item, Stand) else item for item in returned)
    return Recording(tuple(map(layout_of, tensors)), tuple(recorder.steps), outputs, results)


def _output(item: Any) -> Any:
    if type(item) is Stand:
        return Ref(item.number)
    if item is None or isinstance(item, int | float | bool | str):
        return item
    raise UnrecordableError(f"it returns a {type(item).__name__} that no op made")


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs each op on the real tensors behind its arguments, and writes it down."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.numbers = 0
        self.refused = ""
        """The first error that was raised in forward, which may have caught it; "" where there was none."""
        self._checked: dict[Any, str] = {}
        self._seen: set[Any] = set()
        self._given: set[int] = set()
        """Addresses of the storages that belong to the caller."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch wraps each op's dispatch in a guard of torch.compile's, which takes two seconds to load.
        return False

    def placeholder(self, tensor: torch.Tensor) -> Stand:
        """Return what stands for a tensor of the caller's, which no op may write."""
        self._given.add(tensor.untyped_storage().data_ptr())
        return self.stand(tensor)

    def is_given(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor lies in memory of the caller's."""
        return tensor.untyped_storage().data_ptr() in self._given

    def stand(self, inner: torch.Tensor) -> Stand:
        """Return what stands for a new tensor."""
        if (
            inner.layout != torch.strided
            or inner.is_nested
            or inner.device.type != "cpu"
            or inner.is_conj()
            or inner.is_neg()
        ):
            raise UnrecordableError(f"a tensor of layout {inner.layout} on {inner.device}, or lazily changed")
        stand = Stand(inner, self)
        self.numbers += 1
        return stand

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return what stands for the results of `func`."""
        if func not in self._checked:
            self._checked[func] = why_not(func)
        reason = self._checked[func]
        try:
            if reason and not harmless(func, args, kwargs or {}):
                raise UnrecordableError(reason)
            return self.execute(func, args, kwargs or {})
        except UnrecordableError as error:
            self.refused = self.refused or str(error)
            raise

    def execute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an op, write it down, and return what stands for its results."""
        if func is _FRESH and type(args[0]) is torch.Tensor:
            return self._constant(args[0])
        real_args, real_kwargs = [_real(arg) for arg in args], {name: _real(value) for name, value in kwargs.items()}
        if func._schema.is_mutable:
            self._refuse_writing(func, args, kwargs)
        returned = func(*real_args, **real_kwargs)
        if func not in self._seen and not reads_no_values(func, real_args, real_kwargs, returned):
            raise UnrecordableError(f"what {func} returns may depend on values")
        self._seen.add(func)
        many = isinstance(returned, tuple | list)
        stands = [self._result(item, args) for item in (returned if many else (returned,))]
        self.steps.append(
            Step(
                func,
                _numbered(args),
                tuple((name, _numbered(value)) for name, value in kwargs.items()),
                tuple(None if stand is None else Ref(stand.number) for stand in stands),
                tuple(None if stand is None else layout_of(stand.behind) for stand in stands),
                many,
            )
        )
        return type(returned)(stands) if many else stands[0]

    def _constant(self, tensor: torch.Tensor) -> Stand:
        """Return what stands for a tensor that forward makes of Python numbers."""
        if tensor.numel() > _MOST_CONSTANT_ITEMS or tensor.dtype.is_complex:
            raise UnrecordableError(f"a constant of {tensor.numel()} items of {tensor.dtype}")
        # Copies, since forward may write into what it made, and into the array that it made it of.
        stand, kept = self.stand(tensor.clone()), tensor.clone()
        self.steps.append(Step(_FRESH, (), (), (Ref(stand.number),), (layout_of(stand.behind),), False, kept))
        return stand

    def _result(self, item: Any, args: tuple[Any, ...]) -> Stand | None:
        if item is None:
            return None
        if not isinstance(item, torch.Tensor):
            raise UnrecordableError(f"an op returns a {type(item).__name__}")
        # An op that works in place returns the argument itself, and forward must see the same object.
        same = next((arg for arg in args if type(arg) is Stand and arg.behind is item), None)
        return same if same is not None else self.stand(item)

    def _refuse_writing(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        for item in pytree.tree_leaves([named.get(name) for name in names]):
            if type(item) is not Stand:
                raise UnrecordableError(f"{func} writes into what it does not name")
            if self.is_given(item.behind):
                raise UnrecordableError(f"{func} writes into an input or weight")


def layout_of(tensor: torch.Tensor) -> Layout:
    """Return the layout of a tensor."""
    return Layout(tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), tensor.dtype)


def _real(value: Any) -> Any:
    if type(value) is Stand:
        return value.behind
    if isinstance(value, list | tuple):
        return [_real(item) for item in value]
    return value


def _numbered(value: Any) -> Any:
    """Return an argument with Refs for tensors. Raises UnrecordableError for a kind of value that no text can hold."""
    if type(value) is Stand:
        return Ref(value.number)
    if isinstance(value, list | tuple):
        return tuple(_numbered(item) for item in value)
    if isinstance(value, _PLAIN):
        return value
    raise UnrecordableError(f"an op takes a {type(value).__name__} that no op made")
