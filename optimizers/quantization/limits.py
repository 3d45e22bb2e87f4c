"""What the answers must keep, as the search sees it: the gate with a margin, and how far answers are beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from optimizers.quantization.sensitivity import Answers

MARGIN = 0.8
"""The share of what the gate allows that the search uses up: the experiment judges on other inputs."""
LOSS_WITHOUT_COSINE = 1e-2
"""The loss that a search starts from where no cosine is asked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The least agreement and cosine and the largest drop of a metric; None asks for nothing."""

    min_agreement: float | None
    min_cosine: float | None
    max_metric_drop: float | None

    @property
    def asks(self) -> bool:
        """Return whether anything is asked for."""
        return any(value is not None for value in (self.min_agreement, self.min_cosine, self.max_metric_drop))

    @property
    def allowed_loss(self) -> float:
        """Return the sum of losses, each 1 - cosine, that a search starts from."""
        if not self.asks:
            return float("inf")
        return LOSS_WITHOUT_COSINE if self.min_cosine is None else MARGIN * (1.0 - self.min_cosine)

    def excess(self, answers: Answers) -> float:
        """Return the largest loss over what is allowed of it: up to 1 passes."""
        return max((lost / max(allowed, 1e-9) for _, lost, allowed in self._figures(answers)), default=0.0)

    def reason(self, answers: Answers) -> str:
        """Return in words what does not pass; "" if all does."""
        return "; ".join(words for words, lost, allowed in self._figures(answers) if not lost <= allowed + 1e-9)

    def _figures(self, answers: Answers) -> Iterator[tuple[str, float, float]]:
        """Yield (words, what was lost, what may be lost) of each figure that is asked for."""
        if self.min_agreement is not None and answers.agreement is not None:
            least = 1.0 - MARGIN * (1.0 - self.min_agreement)
            yield _least("agreement", answers.agreement, least), 1.0 - answers.agreement, 1.0 - least
        if self.min_cosine is not None:
            least = 1.0 - MARGIN * (1.0 - self.min_cosine)
            yield _least("cosine", answers.cosine, least), 1.0 - answers.cosine, 1.0 - least
        if self.max_metric_drop is not None:
            for name, drop in sorted(answers.metric_drop.items()):
                words = f"{name} falls by {drop:.4g}, more than {self.max_metric_drop:g}"
                yield words, drop, self.max_metric_drop


def _least(name: str, value: float, least: float) -> str:
    return f"{name} {value:.5g}, less than {least:.5g} (the gate and a margin for other inputs)"
