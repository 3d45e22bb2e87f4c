"""Compression of models: rules say which layers, by which method and how far; a gate says what may be kept."""
