"""Layered layout of directed graphs: layers, order within them, coordinates, routes. Deterministic; numpy only."""
