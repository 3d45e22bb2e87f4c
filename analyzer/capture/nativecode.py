"""The machine code that torch calls at the start and the end of each op: it writes a tick and a tag into a buffer.

One entry is two 64-bit words: the processor's tick counter, and a tag. A start's tag has the name's offset in the
`names` memory in its upper 24 bits and the lower 40 bits of the op's address below; an end's tag has the address alone.
Names are copied, since those of autograd's nodes do not outlive the op; a table by address finds those known already.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm

NAME_SHIFT = 40
TABLE_SLOTS = 4096
# The processor's tick counter and the thread's own address are read in ways that only this kind of machine has.
ARCHITECTURE = "x86_64"


_FIELDS = (
    "entries", "limit", "room", "buffer", "thread", "strangers", "stopped", "full", "recording", "waking",
    "wakes_left", "table", "names", "names_used", "names_size",
)  # fmt: skip


class State(ctypes.Structure):
    """What the machine code reads and writes.

    entries:   written so far.        limit: the first start from this entry on is the recording's last.
    room:      of the buffer, in entries: a little more than any limit, for the ends that are still to come.
    thread:    the one that is recorded (its pthread_self); strangers counts what came from others or found no room.
    stopped:   the entry of that last start; -1: there was none.
    full:      1 when the memory for names was used up.
    recording, waking: handles of the two callbacks; wakes_left: samples until the waking one starts the recording.
    """

    _fields_ = tuple((name, ctypes.c_int64) for name in _FIELDS)

    entries: int
    limit: int
    room: int
    buffer: int
    thread: int
    strangers: int
    stopped: int
    full: int
    recording: int
    waking: int
    wakes_left: int
    table: int
    names: int
    names_used: int
    names_size: int


@dataclass(frozen=True)
class NativeCode:
    """Addresses of the functions, one to read the counter, and the state; kept for the life of the process."""

    started: int
    ended: int
    woken: int
    read_ticks: Callable[[], int]
    state: State
    engine: object


@functools.cache
def native_code(called: tuple[tuple[str, int], ...]) -> NativeCode:
    """Return the compiled functions; `called` are the addresses of name, disable, reenable, strcmp and strlen."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    module = llvm.parse_assembly(assembly(dict(called)))
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return NativeCode(
        started=engine.get_function_address("started"),
        ended=engine.get_function_address("ended"),
        woken=engine.get_function_address("woken"),
        read_ticks=ctypes.CFUNCTYPE(ctypes.c_int64)(engine.get_function_address("ticks")),
        state=State.from_address(engine.get_global_value_address("state")),
        engine=engine,
    )


def assembly(called: Mapping[str, int]) -> str:
    """Return the LLVM assembly, with the addresses of what it calls written in."""
    functions = {name: f"inttoptr (i64 {address} to ptr)" for name, address in called.items()}
    fields = {f"state_{name}": f"getelementptr (i8, ptr @state, i64 {getattr(State, name).offset})" for name in _FIELDS}
    return _ASSEMBLY.format(
        state_bytes=ctypes.sizeof(State), name_shift=NAME_SHIFT, address_mask=(1 << NAME_SHIFT) - 1,
        slot_mask=TABLE_SLOTS - 1, **functions, **fields,
    )  # fmt: skip


# The start callback returns an object by a hidden pointer (sret): a null one, since all that we keep is in the buffer.
# Address space 257 is the thread's own: its first word is what pthread_self returns.
# A start reads the counter last and an end first, so that our own work is not in the op's time.
_ASSEMBLY = """
@state = global [{state_bytes} x i8] zeroinitializer, align 64

declare i64 @llvm.readcyclecounter()
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define void @started(ptr sret(ptr) %result, ptr %op) nounwind {{
  store ptr null, ptr %result
  %self = load i64, ptr addrspace(257) null
  %thread = load i64, ptr {state_thread}
  %own = icmp eq i64 %self, %thread
  br i1 %own, label %mine, label %strange

strange:
  call void @count_stranger()
  ret void

mine:
  %index = load i64, ptr {state_entries}
  %room = load i64, ptr {state_room}
  %below = icmp slt i64 %index, %room
  br i1 %below, label %take, label %strange

take:
  %name = call ptr {name}(ptr %op)
  %name_address = ptrtoint ptr %name to i64
  %mixed = lshr i64 %name_address, 4
  %slot = and i64 %mixed, {slot_mask}
  %table = load ptr, ptr {state_table}
  %place = getelementptr i64, ptr %table, i64 %slot
  %known = load i64, ptr %place
  %names = load ptr, ptr {state_names}
  %text = getelementptr i8, ptr %names, i64 %known
  %difference = call i32 {strcmp}(ptr %text, ptr %name)
  %same = icmp eq i32 %difference, 0
  br i1 %same, label %write, label %copy

copy:
  %fresh = call i64 @keep_name(ptr %name)
  store i64 %fresh, ptr %place
  br label %write

write:
  %offset = phi i64 [ %known, %take ], [ %fresh, %copy ]
  %upper = shl i64 %offset, {name_shift}
  %op_address = ptrtoint ptr %op to i64
  %lower = and i64 %op_address, {address_mask}
  %tag = or i64 %upper, %lower
  %buffer = load ptr, ptr {state_buffer}
  %word = shl i64 %index, 1
  %entry = getelementptr i64, ptr %buffer, i64 %word
  %second = getelementptr i64, ptr %entry, i64 1
  store i64 %tag, ptr %second
  %next = add i64 %index, 1
  store i64 %next, ptr {state_entries}
  %limit = load i64, ptr {state_limit}
  %last = icmp sge i64 %index, %limit
  br i1 %last, label %stop, label %begin

stop:
  %before = load i64, ptr {state_stopped}
  %first = icmp slt i64 %before, 0
  %stopped = select i1 %first, i64 %index, i64 %before
  store i64 %stopped, ptr {state_stopped}
  %handle = load i64, ptr {state_recording}
  call void {disable}(i64 %handle)
  br label %begin

begin:
  %tick = call i64 @llvm.readcyclecounter()
  store i64 %tick, ptr %entry
  ret void
}}

define void @ended(ptr %op, ptr %context) nounwind {{
  %tick = call i64 @llvm.readcyclecounter()
  %self = load i64, ptr addrspace(257) null
  %thread = load i64, ptr {state_thread}
  %own = icmp eq i64 %self, %thread
  %index = load i64, ptr {state_entries}
  %room = load i64, ptr {state_room}
  %below = icmp slt i64 %index, %room
  %fits = and i1 %own, %below
  br i1 %fits, label %write, label %strange

strange:
  call void @count_stranger()
  ret void

write:
  %op_address = ptrtoint ptr %op to i64
  %lower = and i64 %op_address, {address_mask}
  %buffer = load ptr, ptr {state_buffer}
  %word = shl i64 %index, 1
  %entry = getelementptr i64, ptr %buffer, i64 %word
  store i64 %tick, ptr %entry
  %second = getelementptr i64, ptr %entry, i64 1
  store i64 %lower, ptr %second
  %next = add i64 %index, 1
  store i64 %next, ptr {state_entries}
  ret void
}}

define void @woken(ptr sret(ptr) %result, ptr %op) nounwind {{
  store ptr null, ptr %result
  %self = load i64, ptr addrspace(257) null
  %thread = load i64, ptr {state_thread}
  %own = icmp eq i64 %self, %thread
  br i1 %own, label %mine, label %asleep

mine:
  %left = load i64, ptr {state_wakes_left}
  %less = sub i64 %left, 1
  store i64 %less, ptr {state_wakes_left}
  %now = icmp eq i64 %less, 0
  br i1 %now, label %wake, label %asleep

wake:
  %recording = load i64, ptr {state_recording}
  call void {reenable}(i64 %recording)
  %waking = load i64, ptr {state_waking}
  call void {disable}(i64 %waking)
  br label %asleep

asleep:
  ret void
}}

define i64 @ticks() nounwind {{
  %tick = call i64 @llvm.readcyclecounter()
  ret i64 %tick
}}

define i64 @keep_name(ptr %name) nounwind noinline {{
  %length = call i64 {strlen}(ptr %name)
  %bytes = add i64 %length, 1
  %used = load i64, ptr {state_names_used}
  %size = load i64, ptr {state_names_size}
  %after = add i64 %used, %bytes
  %fits = icmp slt i64 %after, %size
  br i1 %fits, label %copy, label %full

full:
  store i64 1, ptr {state_full}
  ret i64 0

copy:
  %names = load ptr, ptr {state_names}
  %target = getelementptr i8, ptr %names, i64 %used
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %name, i64 %bytes, i1 false)
  store i64 %after, ptr {state_names_used}
  ret i64 %used
}}

define void @count_stranger() nounwind noinline {{
  %seen = load i64, ptr {state_strangers}
  %more = add i64 %seen, 1
  store i64 %more, ptr {state_strangers}
  ret void
}}
"""
