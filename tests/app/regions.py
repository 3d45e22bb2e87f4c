"""A proof of regions made by hand: what fusion leaves in a candidate, without fusing anything."""

from optimizers.fusion.alternatives import Alternative
from optimizers.fusion.errors import Errors
from optimizers.fusion.proof_record import Proof, RegionProof

NAMES = ["aten::mm", "aten::add", "aten::tanh", "aten::mul"] * 6


def ways(kept=True, eager=2e-5, fused=4e-6):
    return (
        Alternative("eager", eager, rounds=61, kept=not kept, reason="" if not kept else "the kernel is faster"),
        Alternative("fused", fused, eager / fused, 4.8, 5.2, 61, kept, "" if kept else "eager is as fast"),
        Alternative("library", None, reason="it gave other results", against="fused"),
    )


def proof(count=3):
    graph = tuple((f"{name.rpartition('::')[2]}_{k}", name) for k, name in enumerate(NAMES))
    regions = [
        RegionProof(
            kernel=f"region_{k:012d}",
            kind="region",
            graph="",
            calls=2,
            ops=((1 + 4 * (k % 6), 2 + 4 * (k % 6)), (3,)),
            alternatives=ways(eager=2e-5 * (k + 1)),
            kept=True,
            errors=Errors(100, 3.0, 2.0, 0.5, 1e-7),
            eager_errors=Errors(100, 4.0, 2.5, 0.6, 2e-7),
            flops=1e4,
            bytes_before=4000,
            bytes_after=1000,
        )
        for k in range(count)
    ]
    refused = RegionProof("region_refused", "region", "", 0, ((0,),), ways(kept=False), False, unproven="kept there")
    return Proof({"": graph}, (*regions, refused), ways()[:2], {"tracing the model": 1.25})
