"""Repetition in sequences."""

import random

from app.derived.repeats import FEWEST_COVERED, FEWEST_TIMES, Repeat, find_repeats


def test_an_unrolled_loop_is_found_between_what_stands_beside_it():
    body = [5, 6, 7, 6]
    assert find_repeats([1, 2, *body * 9, 3]) == (Repeat(2, 4, 9),)


def test_the_shortest_period_is_taken():
    assert find_repeats([4] * 30) == (Repeat(0, 1, 30),)
    assert find_repeats([1, 2] * 20) == (Repeat(0, 2, 20),)


def test_two_loops_one_after_the_other_are_both_found():
    assert find_repeats([1, 2, 3] * 10 + [9] + [4, 5] * 11) == (Repeat(0, 3, 10), Repeat(31, 2, 11))


def test_nothing_is_found_where_nothing_repeats_often_enough():
    assert find_repeats([]) == ()
    assert find_repeats(list(range(200))) == ()
    assert find_repeats([1, 2, 3, 4, 5, 6, 7] * 2) == ()
    assert find_repeats([1] * (FEWEST_COVERED - 1)) == ()


def test_every_repeat_is_one_and_none_overlap():
    generator = random.Random(7)
    for _ in range(40):
        tokens = [generator.randrange(3) for _ in range(generator.randrange(120))]
        end = 0
        for repeat in find_repeats(tokens):
            turns = [
                tokens[repeat.start + turn * repeat.period : repeat.start + (turn + 1) * repeat.period]
                for turn in range(repeat.times)
            ]
            assert repeat.start >= end and all(turn == turns[0] for turn in turns)
            assert repeat.times >= FEWEST_TIMES and repeat.times * repeat.period >= FEWEST_COVERED
            end = repeat.end
