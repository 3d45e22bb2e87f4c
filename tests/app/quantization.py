"""A compression made by hand: what a search leaves in a candidate, and a captured run whose layers have weights."""

import dataclasses
import random

import numpy as np

from analyzer.experiment import experiment_id
from analyzer.graph import Tensor
from analyzer.measurement import Estimate
from analyzer.progress import silent
from app import workbench
from optimizers.candidate import make_candidate, save_candidate
from optimizers.plan import Applied, Plan
from optimizers.quantization.compressed import CompressedWeight, rounded_centroids
from optimizers.quantization.limits import Limits
from optimizers.quantization.search import search
from optimizers.quantization.views import histogram, left_layer, view_of
from tests.optimizers.quantization.benches import FakeBench
from tests.synthetic import Call, make_run

GATE = {"min_agreement": 0.95, "min_cosine": 0.99, "max_metric_drop": None}


def quantization_view(seed=0, count=7):
    """Return the view of a search over made-up layers, one of them left alone for a reason that looks like markup."""
    bench = FakeBench(count, seed, refused=frozenset({("layer.1", "kmeans-3")}))
    found = search(bench, Limits(0.95, 0.99, None), "size", 0.0, silent)
    draw = np.random.default_rng(seed)
    weights = {}
    for layer in bench.layers:
        values = draw.normal(size=layer.shapes[0]).astype(np.float32)
        codebook = rounded_centroids(np.sort(draw.normal(size=(len(values), 16)), axis=1))
        codes = draw.integers(0, 16, values.shape).astype(np.uint8)
        chosen = CompressedWeight("codebook", values.shape, 4, None, {"codes": codes, "centroids": codebook})
        is_codebook = found.best.forms[layer.name] == "kmeans-4"
        weights[layer.name] = (histogram(f"{layer.name}.weight", values, chosen if is_codebook else None),)
    left = (left_layer("<b>head</b>", "other", ((3, 5),), 60, "no method takes a <script>Head</script>"),)
    return view_of(found, left, weights, 96, GATE)


def layered_run(names=("embed", "layer.0", "layer.1", "head"), training=False):
    """Return a run with one linear layer of a name each, and a layer of another kind at the end."""
    draw = random.Random(3)
    ops = ["aten::embedding", *["aten::linear"] * (len(names) - 1)]
    calls = [
        Call(op, seconds=2e-4, reads=(k - 1,) if k else (), scope=name, flops=1e6)
        for k, (op, name) in enumerate(zip(ops, names, strict=True))
    ]
    run = make_run([*calls, Call("aten::bilinear", 1e-4, (len(names) - 1,), scope="last")], training=training)
    tensors, changed = list(run.graph.tensors), list(run.graph.ops)
    for op in run.graph.ops:
        rows, index = draw.choice((17, 96, 384)), len(tensors)
        tensors.append(Tensor(index, index, 0, (rows, 48), (48, 1), "float32", "cpu", 4 * rows * 48, -1, "parameter"))
        changed[op.index] = dataclasses.replace(op, inputs=(*op.inputs, index))
    graph = dataclasses.replace(run.graph, ops=tuple(changed), tensors=tuple(tensors)).check()
    return dataclasses.replace(run, graph=graph)


def save_quantization(store, run, drawn, view, blobs=None):
    """Save a candidate with compressed layers and an experiment like `drawn`; return the experiment's id."""
    plan = Plan(
        "plan-000000000008", run.id, "quantization", {"bits": 4, **GATE}, (), Estimate(1, 2, 3, "x", "b"), "smaller"
    )
    files = {"quantization_view.json": view.encode()} if blobs is None else blobs
    decisions = {"bytes_before": view.bytes_before, "layers": [{"layer": "a", "form": "int8"}], "threads": 1}
    candidate = make_candidate(run.id, run.workload, (Applied(plan, decisions, files),))
    store.save(
        "candidate",
        lambda folder: save_candidate(candidate, folder),
        name="compressed",
        parent=run.id,
        created=run.created,
        summary={"optimizers": ["quantization"]},
    )
    value = dataclasses.replace(drawn, id="", parent=candidate.id)
    value = dataclasses.replace(value, id=experiment_id(value))
    workbench._save_experiment(store, value, "compressed")
    return value.id
