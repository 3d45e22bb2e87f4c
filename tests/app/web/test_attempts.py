from app.web.attempts import (
    TRIES_OF_ADDRESS,
    TRIES_OF_ADDRESS_AND_NAME,
    TRIES_OF_NAME,
    WINDOW_SECONDS,
    Attempts,
)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_the_wait_ends_with_the_window():
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(TRIES_OF_ADDRESS_AND_NAME):
        assert attempts.begin("10.0.0.1", "vera") == 0
    assert attempts.begin("10.0.0.1", "vera") == WINDOW_SECONDS
    clock.now += WINDOW_SECONDS - 1
    assert attempts.begin("10.0.0.1", "vera") == 1
    clock.now += 1
    assert attempts.begin("10.0.0.1", "vera") == 0


def test_another_name_and_another_address_may_still_try():
    attempts = Attempts(Clock())
    for _ in range(TRIES_OF_ADDRESS_AND_NAME):
        attempts.begin("10.0.0.1", "vera")
    assert attempts.begin("10.0.0.1", "edgar") == 0
    assert attempts.begin("10.0.0.2", "vera") == 0


def test_one_address_cannot_try_ever_new_names():
    attempts = Attempts(Clock())
    for index in range(TRIES_OF_ADDRESS):
        assert attempts.begin("10.0.0.1", f"name{index}") == 0
    assert attempts.begin("10.0.0.1", "one more") > 0


def test_many_addresses_cannot_try_one_name_without_end():
    attempts = Attempts(Clock())
    for index in range(TRIES_OF_NAME):
        assert attempts.begin(f"10.0.1.{index}", "vera") == 0
    assert attempts.begin("10.0.2.1", "vera") > 0


def test_the_right_password_is_not_counted():
    attempts = Attempts(Clock())
    for _ in range(3 * TRIES_OF_NAME):
        assert attempts.begin("10.0.0.1", "vera") == 0
        attempts.succeeded("10.0.0.1", "vera")


def test_endless_new_names_do_not_fill_the_memory():
    attempts = Attempts(Clock())
    for index in range(21_000):
        attempts.begin(f"10.{index // 65536}.{index // 256 % 256}.{index % 256}", f"name{index}")
    assert len(attempts._times) <= 20_000
