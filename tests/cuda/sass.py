"""What the compiler made of a kernel: PTX by numba-cuda, machine code by ptxas, its instructions by nvdisasm.

No driver and no GPU take part. Run inside the toolchain environment.
"""

from __future__ import annotations

import collections
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# "/*0070*/  @!P0 LDG.E.128.CONSTANT R4, …" -> LDG.E.128.CONSTANT
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P(?:\d+|T)\s+)?([A-Z][A-Z0-9_.]*)")
_FLOAT64 = re.compile(r"^D(ADD|MUL|FMA|SETP|MNMX)|\.F64|^MUFU\.\w+64H")


@dataclass(frozen=True, slots=True)
class SassReport:
    """One kernel on one architecture.

    registers:    a thread's.
    spill_bytes:  stores and loads of registers that did not fit, together.
    stack_bytes:  a thread's stack frame.
    vector_loads: 128-bit loads from global memory; global_loads counts those of any width.
    instructions: how many there are of each opcode, modifiers included.
    """

    architecture: str
    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int
    instruction_count: int
    local_memory_instructions: int
    float64_instructions: int
    global_loads: int
    vector_loads: int
    global_stores: int
    vector_stores: int
    generic_accesses: int
    instructions: dict[str, int]


def compile_report(
    kernel: Any,
    signature: Any,
    capability: tuple[int, int],
    maximum_registers: int | None = None,
    threads: int | None = None,
) -> SassReport:
    """Return the report of a Numba-CUDA kernel; maximum_registers as ptxas's --maxrregcount, threads as launch bounds.

    Raises RuntimeError with ptxas's words if it rejects the code.
    """
    from kernels.cuda.support import compile_ptx

    ptx = compile_ptx(kernel, signature, capability, threads)
    architecture = f"sm_{capability[0]}{capability[1]}"
    with tempfile.TemporaryDirectory() as folder:
        text, binary = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        text.write_text(ptx)
        limit = [f"--maxrregcount={maximum_registers}"] if maximum_registers else []
        resources = _run("ptxas", f"-arch={architecture}", "-v", "-O3", *limit, str(text), "-o", str(binary))
        return read_report(architecture, resources, _run("nvdisasm", "--print-code", "--no-dataflow", str(binary)))


def read_report(architecture: str, resources: str, disassembly: str) -> SassReport:
    """Return the report from ptxas's resource lines and nvdisasm's listing."""
    opcodes = collections.Counter(match.group(1) for match in _INSTRUCTION.finditer(disassembly))

    def count(pattern: str) -> int:
        return sum(number for opcode, number in opcodes.items() if re.search(pattern, opcode))

    return SassReport(
        architecture=architecture,
        registers=_number(resources, r"Used (\d+) registers"),
        spill_bytes=_number(resources, r"(\d+) bytes spill stores") + _number(resources, r"(\d+) bytes spill loads"),
        stack_bytes=_number(resources, r"(\d+) bytes stack frame"),
        shared_bytes=_number(resources, r"(\d+) bytes smem", absent=0),
        instruction_count=sum(opcodes.values()),
        local_memory_instructions=count(r"^(LDL|STL)\b"),
        float64_instructions=count(_FLOAT64.pattern),
        global_loads=count(r"^LDG\b"),
        vector_loads=count(r"^LDG\b.*\.128\b"),
        global_stores=count(r"^STG\b"),
        vector_stores=count(r"^STG\b.*\.128\b"),
        generic_accesses=count(r"^(LD|ST)(\.|$)"),
        instructions=dict(sorted(opcodes.items())),
    )


def _number(text: str, pattern: str, absent: int | None = None) -> int:
    match = re.search(pattern, text)
    if match is None:
        # A missing line must not read as "0 bytes of spills".
        if absent is None:
            raise RuntimeError(f"ptxas reported no line like {pattern!r}: {text}")
        return absent
    return int(match.group(1))


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run([str(_toolkit() / tool), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tool} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout + done.stderr


def _toolkit() -> Path:
    import nvidia.cu13

    return Path(next(iter(nvidia.cu13.__path__))) / "bin"
