"""Recurrent models of benchmarks.fusion, unrolled from elementary ops, and their twins from torch's own kernels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class LSTMLayer(nn.Module):
    """[steps, batch, inputs] -> (every h [steps, batch, hidden], last h, last c), in a Python loop."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.hidden = hidden
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, inputs).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden).uniform_(-bound, bound))

    def cell(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gates = x @ self.weight_ih.t() + self.bias_ih + h @ self.weight_hh.t() + self.bias_hh
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def zeros(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(x.shape[-2], self.hidden)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h, c = self.zeros(x), self.zeros(x)
        outputs = []
        for step in range(x.shape[0]):
            h, c = self.cell(x[step], h, c)
            outputs.append(h)
        return torch.stack(outputs), h, c


class UnrolledLSTM(nn.Module):
    """[steps, batch, hidden] -> [steps, batch, hidden] through a stack of layers."""

    def __init__(self, layers: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LSTMLayer(inputs if k == 0 else hidden, hidden) for k in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x, _, _ = layer(x)
        return x


class LibraryLSTM(nn.Module):
    """The same with torch.nn.LSTM."""

    def __init__(self, unrolled: UnrolledLSTM) -> None:
        super().__init__()
        self.recurrent = library_of(unrolled.layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.recurrent(x)[0]
        return outputs


def library_of(layers: nn.ModuleList) -> nn.LSTM:
    """torch.nn.LSTM with the weights of unrolled layers."""
    first = layers[0]
    library = nn.LSTM(first.weight_ih.shape[1], first.hidden, len(layers))
    with torch.no_grad():
        for position, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                getattr(library, f"{name}_l{position}").copy_(parameter)
    return library


class GRUVariantCell(nn.Module):
    """(x, h) -> the next h: GRU gates, a SiLU in the candidate, a learned decay. No library has a kernel for it."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, inputs).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(3 * hidden).uniform_(-bound, bound))
        self.decay = nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        update_x, reset_x, new_x = (x @ self.weight_ih.t() + self.bias).chunk(3, dim=1)
        update_h, reset_h, new_h = (h @ self.weight_hh.t()).chunk(3, dim=1)
        update = torch.sigmoid(update_x + update_h)
        candidate = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h) + 0.1 * functional.silu(new_x)
        return (1 - update) * candidate + update * h * torch.sigmoid(self.decay)


class GRUVariant(nn.Module):
    """[steps, batch, hidden] -> [steps, batch, hidden]: two such layers, the second adds the first one's state."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.lower, self.upper = GRUVariantCell(hidden, hidden), GRUVariantCell(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lower = upper = x.new_zeros(x.shape[1], self.hidden)
        outputs = []
        for step in range(x.shape[0]):
            lower = self.lower(x[step], lower)
            upper = self.upper(lower, upper) + lower
            outputs.append(upper)
        return torch.stack(outputs)


class Seq2Seq(nn.Module):
    """[encoder steps, batch, hidden] -> the decoder's last output [batch, hidden].

    The encoder's last cell state is the decoder's first input; then each output is the next input.
    """

    def __init__(self, hidden: int, encoder_layers: int, decoder_layers: int, decoder_steps: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(LSTMLayer(hidden, hidden) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(LSTMLayer(hidden, hidden) for _ in range(decoder_layers))
        self.decoder_steps = decoder_steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.encoder:
            x, _, value = layer(x)
        states = [(layer.zeros(value), layer.zeros(value)) for layer in self.decoder]
        for _ in range(self.decoder_steps):
            for position, layer in enumerate(self.decoder):
                states[position] = layer.cell(value, *states[position])
                value = states[position][0]
        return value


class LibrarySeq2Seq(nn.Module):
    """The same with torch.nn.LSTM, the decoder called step by step."""

    def __init__(self, unrolled: Seq2Seq) -> None:
        super().__init__()
        self.encoder, self.decoder = library_of(unrolled.encoder), library_of(unrolled.decoder)
        self.decoder_steps = unrolled.decoder_steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, state = self.encoder(x)[1][1][-1:], None
        for _ in range(self.decoder_steps):
            value, state = self.decoder(value, state)
        last: torch.Tensor = value[0]
        return last


class DeepSpeech2(nn.Module):
    """[batch, 1, 300 frames, 171 bins] -> [75 * batch, 29 characters]: two convolutions, seven LSTM layers."""

    def __init__(self, layers: int = 7, hidden: int = 256, characters: int = 29) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv2d(1, 32, (41, 11), (2, 2), (20, 5), bias=False),
            nn.ReLU6(),
            nn.BatchNorm2d(32),
            nn.Conv2d(32, 32, (21, 11), (2, 1), (10, 5), bias=False),
            nn.ReLU6(),
            nn.BatchNorm2d(32),
        )
        self.recurrent: nn.Module = UnrolledLSTM(layers, 32 * 86, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.head = nn.Linear(hidden, characters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.front(x)
        sequence = features.permute(2, 0, 3, 1).flatten(2)
        scores: torch.Tensor = self.head(self.norm(self.recurrent(sequence).flatten(0, 1)))
        return scores
