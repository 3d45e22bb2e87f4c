"""The models of benchmarks.fusion: twins agree, sizes are the published ones."""

import pytest
import torch

from analyzer.errors import HotbenchError
from benchmarks.fusion_models import EAGER, LIBRARY, built, case_of, lstm
from benchmarks.fusion_peers import deviation, prepare, step_of
from benchmarks.fusion_recurrent import (
    DeepSpeech2,
    GRUVariant,
    LibraryLSTM,
    LibrarySeq2Seq,
    Seq2Seq,
    UnrolledLSTM,
)
from benchmarks.fusion_vision import AlexNet, NASNet, ResNeXt29


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "millions"), [(ResNeXt29, 68.16), (AlexNet, 62.38), (NASNet, 3.06), (DeepSpeech2, 6.50)]
)
def test_a_model_has_the_parameters_of_the_published_one(model, millions):
    with torch.device("meta"):
        assert parameters(model()) / 1e6 == pytest.approx(millions, abs=0.01)


@torch.no_grad()
def test_unrolled_layers_agree_with_the_librarys():
    torch.manual_seed(1)
    model, x = UnrolledLSTM(3, 7, 11), torch.randn(5, 2, 7)
    torch.testing.assert_close(LibraryLSTM(model)(x), model(x))


@torch.no_grad()
def test_the_decoder_feeds_its_output_back():
    torch.manual_seed(2)
    model, x = Seq2Seq(9, encoder_layers=2, decoder_layers=3, decoder_steps=4), torch.randn(6, 2, 9)
    torch.testing.assert_close(LibrarySeq2Seq(model)(x), model(x))


@torch.no_grad()
def test_convolutional_models_give_a_score_for_each_class():
    x = torch.randn(2, 3, 32, 32)
    assert ResNeXt29(cardinality=2, width=4).eval()(x).shape == (2, 10)
    assert NASNet(cells=1, filters=4).eval()(x).shape == (2, 10)


def test_a_case_is_the_same_in_every_process():
    first, second = (built(case_of("gru-variant-b1")) for _ in range(2))
    assert torch.equal(first.inputs[0], second.inputs[0])
    assert all(map(torch.equal, first.model.parameters(), second.model.parameters()))
    assert isinstance(first.model, GRUVariant) and not first.model.training


def test_a_training_step_gives_the_gradients_of_parameters_and_inputs():
    case = case_of("lstm-training-b32-h128")
    made = lstm(2, 5)
    made.inputs[0].requires_grad_()
    leaves = tuple(made.model.parameters())
    eager = step_of(case, prepare(case, EAGER, made), made, leaves)()
    assert [gradient.shape for gradient in eager] == [*(p.shape for p in leaves), made.inputs[0].shape]
    library = step_of(case, prepare(case, LIBRARY, made), made, tuple(made.library.parameters()))()
    assert deviation(library, eager) < 1e-5
    again = step_of(case, prepare(case, EAGER, made), made, leaves)()
    assert deviation(again, eager) == 0.0


def test_deviation_sees_other_shapes_nans_and_values():
    a = torch.tensor([1.0, -4.0])
    assert deviation((a, [a]), (a, a)) == 0.0
    assert deviation(a + 0.1, a) == pytest.approx(0.1 / 4, rel=1e-3)
    assert deviation(a, a[:1]) == float("inf")
    assert deviation(torch.tensor([float("nan"), -4.0]), a) == float("inf")


def test_a_peer_that_cannot_be_had_says_why(monkeypatch):
    case = case_of("gru-variant-b1")
    made = built(case)
    with pytest.raises(HotbenchError, match="torch has no kernel for gru-variant-b1"):
        prepare(case, LIBRARY, made)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(HotbenchError, match="no C\\+\\+ compiler is installed"):
        prepare(case, "inductor", made)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HotbenchError, match="onnxruntime not installed"):
        prepare(case, "onnxruntime", made)
