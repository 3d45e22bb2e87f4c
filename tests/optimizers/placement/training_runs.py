"""Training runs made by hand: layers with a weight each, their gradients accumulated one after the other."""

import dataclasses
from itertools import pairwise

from analyzer.graph import Edge, Graph, Op, Tensor
from analyzer.measurement import Measurement
from analyzer.run import MemoryProfile
from optimizers.placement.analysis import ACCUMULATE
from tests.synthetic import Call, make_run


class _Made:
    """Ops and tensors in the making."""

    def __init__(self):
        self.ops, self.tensors, self.edges = [], [], []

    def tensor(self, shape, producer, category, storage=None):
        index = len(self.tensors)
        count = 1
        for size in shape:
            count *= size
        strides = tuple(1 for _ in shape)
        place = index if storage is None else storage
        self.tensors.append(Tensor(index, place, 0, shape, strides, "float32", "cpu", 4 * count, producer, category))
        return index

    def op(self, name, phase, inputs, shape=None, category="temporary", seconds=1e-3, scope="", forward=-1, mutates=()):
        index = len(self.ops)
        outputs = () if shape is None else (self.tensor(shape, index, category),)
        timed = Measurement(seconds, 0.9 * seconds, 1.1 * seconds, 7, "s")
        self.ops.append(
            Op(index, name, -1, phase, 1, tuple(inputs), outputs, scope=scope, forward_op=forward, self_seconds=timed,
               mutates=tuple(mutates))
        )  # fmt: skip
        for read in inputs:
            producer = self.tensors[read].producer
            if 0 <= producer < index:
                self.edges.append(Edge(producer, index, read))
        return index if shape is None else outputs[0]


def training_run(widths=(33, 65, 129, 17), rows=8, step_seconds=0.06, name="model.py:training"):
    """Return the run of a chain of layers from width to width."""
    made = _Made()
    value = made.tensor((rows, widths[0]), -1, "input")
    weights, activations, forwards = [], [value], []
    for layer, shape in enumerate(pairwise(widths)):
        weights.append(made.tensor(shape, -1, "parameter"))
        forwards.append(len(made.ops))
        value = made.op("aten::linear", "forward", (value, weights[-1]), (rows, shape[1]), "activation",
                        scope=f"layers.{layer}")  # fmt: skip
        activations.append(value)
    flowing = value
    gradients = []
    for layer in reversed(range(len(weights))):
        shape = made.tensors[weights[layer]].shape
        common = {"scope": f"layers.{layer}", "forward": forwards[layer], "seconds": 2e-3}
        gradient = made.op("aten::mm", "backward", (flowing, activations[layer]), shape, "gradient", **common)
        made.op(ACCUMULATE, "backward", (gradient,), seconds=1e-5)
        flowing = made.op("aten::mm", "backward", (flowing, weights[layer]), (rows, shape[0]), **common)
        gradients.append((weights[layer], gradient))
    for weight, gradient in gradients:
        made.op("aten::add_", "optimizer", (weight, gradient), mutates=(weight,), seconds=5e-4)
    graph = Graph(tuple(made.ops), tuple(made.tensors), tuple(made.edges)).check()
    run = make_run([Call("aten::x", 1e-3)], training=True, step_seconds=step_seconds)
    sizes = sum(made.tensors[weight].nbytes for weight in weights)
    memory = MemoryProfile(4 * sizes, {"parameter": sizes, "gradient": sizes, "activation": 2 * sizes}, ())
    return dataclasses.replace(run, graph=graph, memory=memory, name=name)
