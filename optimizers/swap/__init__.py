"""Memory swap: what a step's idle tensors could be moved to, when, and what that would cost; simulated, not yet run."""
