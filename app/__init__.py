"""The workbench: command line, store, reports; the only package that knows web or database libraries."""
