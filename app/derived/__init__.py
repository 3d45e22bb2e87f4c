"""Files made from a stored run so that pages are fast: made when missing, safe to delete at any time."""
