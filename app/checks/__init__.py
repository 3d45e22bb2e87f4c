"""What a machine has of a GPU and of fast transfers: one module a subject, without web packages, each check alone."""
