"""Rules that find what costs time or memory, one file a rule."""
