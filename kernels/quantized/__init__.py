"""Products of a vector, or a few, with int8 and 4-bit codebook weights."""
