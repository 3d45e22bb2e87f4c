"""Where saved values live: a database of entries, and a folder of blobs beside it."""

from app.store.entry import Entry
from app.store.errors import StoreError
from app.store.store import Store, open_store

__all__ = ["Entry", "Store", "StoreError", "open_store"]
