"""Models with torch's own recurrent modules: captured, seen changing, and left as they were."""

import pytest
import torch

from optimizers.fusion.api import build
from optimizers.fusion.capture import capture
from optimizers.fusion.module import FusedModule
from optimizers.fusion.runtime import Runner


class Tagger(torch.nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent
        self.head = torch.nn.Linear(recurrent.hidden_size * (1 + recurrent.bidirectional), 3)

    def forward(self, x):
        states, _ = self.recurrent(x)
        return torch.tanh(self.head(states)) * 2.0 + 1.0


KINDS = {
    "lstm": lambda: torch.nn.LSTM(5, 6, num_layers=2),
    "gru": lambda: torch.nn.GRU(5, 6, batch_first=True, bidirectional=True),
    "rnn": lambda: torch.nn.RNN(5, 6, bias=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_a_recurrent_module_is_fused_and_sees_its_weights_change(kind):
    torch.manual_seed(3)
    model, x = Tagger(KINDS[kind]()).eval(), torch.randn(4, 2, 5)
    before = model.recurrent._flat_weights
    captured = capture(model, (x,), {})
    assert model.recurrent._flat_weights is before and all(type(w) is torch.nn.Parameter for w in before)
    fused = FusedModule(model, captured, Runner(*build(captured)))
    with torch.no_grad():
        torch.testing.assert_close(fused(x), model(x))
        model.recurrent.weight_hh_l0.mul_(0.5)
        torch.testing.assert_close(fused(x), model(x))
        assert not fused.fallbacks
        model.recurrent.weight_hh_l0 = torch.nn.Parameter(torch.randn_like(model.recurrent.weight_hh_l0))
        torch.testing.assert_close(fused(x), model(x))
