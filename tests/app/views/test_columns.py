from hypothesis import given
from hypothesis import strategies as some

from app.views.columns import Columns, arrange

HEIGHTS = some.floats(10, 2000)
CARDS = some.lists(HEIGHTS, max_size=6).map(lambda found: [(f"card-{place}", high) for place, high in enumerate(found)])


def test_columns_of_one_height_leave_the_cards_in_rows_of_two():
    cards = [("memory", 300), ("bytes", 360), ("modules", 220), ("capture", 300), ("device", 200)]
    expected = (("memory", "bytes"), ("modules", "capture"), ("device",))
    assert arrange(500, 520, cards) == Columns((), (), expected)


def test_a_low_card_stands_alone_beside_no_high_one():
    cards = [("modules", 120), ("capture", 300), ("device", 200)]
    assert arrange(500, 520, cards).rows == (("modules",), ("capture", "device"))


def test_a_short_column_is_filled_with_what_fits():
    assert arrange(500, 90, [("memory", 300), ("bytes", 360)]) == Columns((), ("memory",), (("bytes",),))
    assert arrange(500, 1200, [("memory", 300), ("bytes", 360)]) == Columns(("memory", "bytes"), (), ())


@given(HEIGHTS, HEIGHTS, CARDS)
def test_every_card_has_one_place_and_the_columns_come_no_further_apart(left, right, cards):
    heights = dict(cards)
    found = arrange(left, right, cards)
    placed = [*found.left, *found.right, *(name for row in found.rows for name in row)]
    assert sorted(placed) == sorted(heights)
    after = left + sum(heights[name] for name in found.left) - right - sum(heights[name] for name in found.right)
    assert abs(after) <= abs(left - right)
