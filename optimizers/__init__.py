"""Optimizers, and the pipeline that plans, applies, proves and exports them. No web, no database."""
