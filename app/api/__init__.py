"""Routes that are no page: events, downloads, and the workers' protocol."""
