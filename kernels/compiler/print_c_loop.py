"""LoopProgram -> plain C99: a function for each statement, called trip after trip. The second opinion on print_loop."""

from __future__ import annotations

from kernels.compiler.loop_ir import Apply, LoopProgram, Product, Term, Window
from kernels.compiler.loop_plain import plain_loop
from kernels.compiler.loop_verify import verify_loop
from kernels.compiler.print_c import region_function
from kernels.compiler.print_c_scalar import C_TYPES, PREAMBLE


def print_c_loop(program: LoopProgram, name: str) -> str:
    """Return a file with `void name(void *p0, …)`, one address a buffer; what would lie in panels stays untouched.

    Raises IrError for an invalid program.
    """
    verify_loop(program)
    plain = plain_loop(program)
    functions: list[str] = []
    calls: list[str] = []
    for position, statement in enumerate((*plain.prologue, *plain.body)):
        inner = f"{name}_{position}"
        functions.append(_product(statement, inner) if isinstance(statement, Product) else _region(statement, inner))
        calls.append(_call(statement, inner))
    first = len(plain.prologue)
    parameters = ", ".join(f"void *p{k}" for k in range(len(program.buffers)))
    lines = [
        f"void {name}({parameters})",
        "{",
        "    int64_t trip = -1;",
        *(f"    {line}" for line in calls[:first]),
        f"    for (trip = 0; trip < {program.trips}; ++trip) {{",
        *(f"        {line}" for line in calls[first:]),
        "    }",
        "}",
        "",
    ]
    return "\n".join([PREAMBLE, *functions, *lines])


def _region(statement: Apply, name: str) -> str:
    return "static " + region_function(statement.region, name)


def _call(statement: Apply | Product, name: str) -> str:
    if isinstance(statement, Apply):
        windows = list(statement.windows)
    else:
        windows = [window for term in statement.terms for window in (term.left, term.right)] + [statement.out]
    return f"{name}({', '.join(map(_address, windows))});"


def _address(window: Window) -> str:
    terms = [str(window.offset)]
    if window.step:
        terms.append(f"INT64_C({window.step}) * trip")
    if window.alternate:
        terms.append(f"INT64_C({window.alternate}) * ((trip + {window.phase}) & 1)")
    return f"(char *)p{window.buffer} + {' + '.join(terms)}"


def _product(product: Product, name: str) -> str:
    """Return a product that adds up in double and rounds once."""
    kind = C_TYPES[product.dtype]
    count = range(len(product.terms))
    parameters = ", ".join([*(f"const void *left{k}, const void *right{k}" for k in count), "void *out"])
    lines = [
        f"static void {name}({parameters})",
        "{",
        f"    for (int64_t i = 0; i < {product.rows}; ++i)",
        f"        for (int64_t j = 0; j < {product.columns}; ++j) {{",
        "            double total = 0;",
        *(f"            {line}" for k, term in enumerate(product.terms) for line in _term(term, k, kind)),
        f"            (({kind} *)out)[{product.out_stride} * i + j] = ({kind})total;",
        "        }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _term(term: Term, number: int, kind: str) -> list[str]:
    left = f"((const {kind} *)left{number})[{term.left_strides[0]} * i + {term.left_strides[1]} * d]"
    right = f"((const {kind} *)right{number})[{term.right_strides[0]} * d + {term.right_strides[1]} * j]"
    return [f"for (int64_t d = 0; d < {term.depth}; ++d)", f"    total += (double){left} * (double){right};"]
