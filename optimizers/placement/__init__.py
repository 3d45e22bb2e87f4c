"""Distributed training: what crosses workers, how it is sent, and what a step on a cluster would take."""
