"""The kernel compiler: an affine-index IR, its verifier, code printers and a disk cache; no torch."""
