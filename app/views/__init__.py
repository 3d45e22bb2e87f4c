"""Stored values to what a page shows. Pure: no dash, no flask; tested without a browser."""
