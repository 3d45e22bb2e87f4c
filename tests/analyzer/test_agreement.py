import math

import torch
from torch.nn.functional import normalize

from analyzer.agreement import ARG_MAX, NEIGHBOUR, agreements


def embeddings(rows=12, size=7):
    return normalize(torch.randn(rows, size), dim=1)


def test_embeddings_agree_where_their_nearest_neighbours_do_whatever_their_arg_max():
    wanted = [embeddings(), embeddings(5)]
    turn = torch.linalg.qr(torch.randn(7, 7))[0]
    assert agreements([rows @ turn for rows in wanted], wanted) == (17, 17, NEIGHBOUR)


def test_neighbours_are_sought_among_the_rows_of_all_inputs():
    pairs = embeddings(4, 8)
    wanted = [pairs, normalize(pairs + 1e-3, dim=1)]
    assert agreements([wanted[0], wanted[1].flip(0)], wanted)[0] < 8


def test_other_outputs_agree_where_their_arg_max_does():
    wanted = torch.tensor([[0.0, 2.0], [3.0, 1.0], [0.0, 5.0]])
    assert agreements([wanted.clone().index_fill_(1, torch.tensor(1), 9.0)], [wanted]) == (2, 3, ARG_MAX)


def test_a_row_with_a_nan_in_one_of_the_two_does_not_agree():
    for wanted in (embeddings(), 3 * embeddings()):
        found = wanted.clone()
        found[4, 2] = math.nan
        assert agreements([found], [wanted])[0] <= 11


def test_outputs_without_a_last_axis_have_no_rows():
    assert agreements([torch.ones(3, 1)], [torch.ones(3, 1)]) == (0, 0, ARG_MAX)
    assert agreements([torch.ones(0, 3)], [torch.ones(0, 3)]) == (0, 0, ARG_MAX)
