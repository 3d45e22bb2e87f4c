"""Memory, calls and arithmetic for generated kernels, as LLVM has them: what Python or Numba would check or widen.

Self-contained (numba, llvmlite): an exported artifact carries this file beside its kernels.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import binding as llvm
from llvmlite import ir
from numba import extending

types: Any = numba.types
intrinsic: Any = extending.intrinsic

_FLOAT, _DOUBLE, _I8, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_MEMORY = {"float32": _FLOAT, "float64": _DOUBLE, "int32": _I32, "int64": _I64, "bool": _I8}
_NUMBA = {dtype: getattr(types, dtype if dtype != "bool" else "boolean") for dtype in _MEMORY}
SCOPES = 48
"""Memory scopes that LLVM is told apart; a buffer beyond them is only checked at run time."""


# Memory. Numba's arguments carry no `noalias`; each access names its scope instead (buffers that may overlap share
# one), and LLVM then vectorises without run-time checks.


def _mark(builder: Any, instruction: Any, scope: int) -> Any:
    if scope < SCOPES:
        # kept with the module that is being built: there are few scopes, and many accesses
        known = vars(builder.module).setdefault("hotbench_scopes", {})
        if scope not in known:
            known[scope] = _own_and_others(builder.module, scope)
        for name, scopes in zip(("alias.scope", "noalias"), known[scope], strict=True):
            instruction.set_metadata(name, scopes)
    return instruction


def _own_and_others(module: Any, scope: int) -> tuple[Any, Any]:
    text = [ir.MetaDataString(module, f"hotbench.{name}") for name in ("buffers", *map(str, range(SCOPES)))]
    domain = module.add_metadata([text[0]])
    scopes = [module.add_metadata([name, domain]) for name in text[1:]]
    return module.add_metadata([scopes[scope]]), module.add_metadata([s for k, s in enumerate(scopes) if k != scope])


def _element(builder: Any, dtype: str, address: Any, index: Any) -> Any:
    pointer = builder.inttoptr(address, _MEMORY[dtype].as_pointer())
    return builder.gep(pointer, [index], inbounds=True)


def _loader(dtype: str) -> Any:
    def load(typing_context: Any, address: Any, index: Any, scope: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_element(builder, dtype, arguments[0], arguments[1]))
            _mark(builder, value, scope.literal_value)
            return builder.icmp_unsigned("!=", value, ir.Constant(_I8, 0)) if dtype == "bool" else value

        return _NUMBA[dtype](types.int64, types.int64, scope), generate

    load.__name__ = f"load_{dtype}"
    return intrinsic(prefer_literal=True)(load)


def _storer(dtype: str) -> Any:
    def store(typing_context: Any, address: Any, index: Any, value: Any, scope: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            stored = builder.zext(arguments[2], _I8) if dtype == "bool" else arguments[2]
            instruction = builder.store(stored, _element(builder, dtype, arguments[0], arguments[1]))
            _mark(builder, instruction, scope.literal_value)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, _NUMBA[dtype], scope), generate

    store.__name__ = f"store_{dtype}"
    return intrinsic(prefer_literal=True)(store)


load_float32, store_float32 = _loader("float32"), _storer("float32")
load_float64, store_float64 = _loader("float64"), _storer("float64")
load_int32, store_int32 = _loader("int32"), _storer("int32")
load_int64, store_int64 = _loader("int64"), _storer("int64")
load_bool, store_bool = _loader("bool"), _storer("bool")


@intrinsic(prefer_literal=True)
def stack(typing_context: Any, size: Any) -> Any:
    """Return the address of `size` (a literal) bytes of stack, aligned for vectors; alive until the kernel returns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():
            slot = builder.alloca(ir.ArrayType(_I8, size.literal_value))
            slot.align = 64
        return builder.ptrtoint(slot, _I64)

    return types.int64(size), generate


# Calls through addresses: the OpenMP pool of the process.


@intrinsic
def call_integer(typing_context: Any, function: Any) -> Any:
    """Return what the C function `int function(void)` at the address returns, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(_I32, []).as_pointer())
        return builder.sext(builder.call(pointer, []), _I64)

    return types.int64(types.int64), generate


@intrinsic
def call_parallel(typing_context: Any, parallel: Any, share: Any, task: Any, threads: Any) -> Any:
    """Call GOMP_parallel at the address `parallel`: `share(task)` on each of `threads` threads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function_type = ir.FunctionType(ir.VoidType(), [_I64, _I64, _I32, _I32])
        pointer = builder.inttoptr(arguments[0], function_type.as_pointer())
        count = builder.trunc(arguments[3], _I32)
        builder.call(pointer, [arguments[1], arguments[2], count, ir.Constant(_I32, 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


# Building blocks that Python or Numba would widen, branch on or check.


@intrinsic
def bits_of(typing_context: Any, value: Any) -> Any:
    """Return a float32's bits as an int32."""
    return types.int32(types.float32), lambda c, builder, s, arguments: builder.bitcast(arguments[0], _I32)


@intrinsic
def from_bits(typing_context: Any, bits: Any) -> Any:
    """Return the float32 of an int32's bits."""
    return types.float32(types.int32), lambda c, builder, s, arguments: builder.bitcast(arguments[0], _FLOAT)


@intrinsic
def select(typing_context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, else `no`, without a branch."""
    if yes != no:
        return None
    return yes(types.boolean, yes, no), lambda c, builder, s, arguments: builder.select(*arguments)


def _int32_operation(name: str) -> Any:
    def operation(typing_context: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments)

        return types.int32(types.int32, types.int32), generate

    operation.__name__ = f"{name.strip('_')}_int32"
    return intrinsic(operation)


add_int32, subtract_int32, multiply_int32 = (_int32_operation(name) for name in ("add", "sub", "mul"))
shift_left_int32, shift_right_int32 = _int32_operation("shl"), _int32_operation("ashr")
and_int32, or_int32, xor_int32 = (_int32_operation(name) for name in ("and_", "or_", "xor"))


def _float_intrinsic(name: str, operands: int, flags: tuple[str, ...] = ()) -> Any:
    def operation(typing_context: Any, *values: Any) -> Any:
        kind = values[0]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            scalar = arguments[0].type
            function_type = ir.FunctionType(scalar, [scalar] * operands)
            declared = builder.module.declare_intrinsic(f"llvm.{name}", [scalar], function_type)
            return builder.call(declared, arguments, fastmath=flags)

        return kind(*[kind] * len(values)), generate

    if operands == 1:

        def unary(typing_context: Any, value: Any) -> Any:
            return operation(typing_context, value)

        return intrinsic(unary)

    def binary(typing_context: Any, left: Any, right: Any) -> Any:
        return operation(typing_context, left, right)

    return intrinsic(binary)


square_root = _float_intrinsic("sqrt", 1)
floor, ceil, trunc, round_half_even = (_float_intrinsic(name, 1) for name in ("floor", "ceil", "trunc", "rint"))
absolute = _float_intrinsic("fabs", 1)
copy_sign = _float_intrinsic("copysign", 2)
# NaN wins; the sign of a zero result is open (nsz), as it is in torch: that halves the instructions.
maximum, minimum = (_float_intrinsic(name, 2, ("nsz",)) for name in ("maximum", "minimum"))


@intrinsic
def truncated_remainder(typing_context: Any, left: Any, right: Any) -> Any:
    """Return C's fmod."""
    return left(left, left), lambda c, builder, s, arguments: builder.frem(*arguments)


def _reassociated(name: str) -> Any:
    def operation(typing_context: Any, total: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments, flags=("reassoc",))

        return total(total, total), generate

    return intrinsic(operation)


# The only operations that LLVM may reorder: the accumulators of one block of a reduction.
accumulate_sum, accumulate_product = _reassociated("fadd"), _reassociated("fmul")


# LLVM 22 makes one instruction of load_exponent where there is AVX-512, and many elsewhere.
HAS_SCALE = llvm.llvm_version_info[0] >= 22 and llvm.get_host_cpu_features().get("avx512f", False)


@intrinsic
def load_exponent(typing_context: Any, x: Any, power: Any) -> Any:
    """Return x * 2^power, rounded once: one instruction of AVX-512."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function_type = ir.FunctionType(_FLOAT, [_FLOAT, _I32])
        declared = builder.module.declare_intrinsic("llvm.ldexp.f32", [_I32], function_type)
        return builder.call(declared, arguments)

    return x(types.float32, types.int32), generate
