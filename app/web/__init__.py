"""What every request passes through: where things are, who asks, and what is refused."""
