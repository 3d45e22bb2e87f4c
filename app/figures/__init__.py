"""Plotly figures of values. Pure: the same value gives the same figure; light and dark are templates."""
