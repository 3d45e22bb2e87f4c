"""One file a step; REVISIONS in app.store.migrate lists them in order."""
