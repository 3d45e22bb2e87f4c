"""Long work: a job is a row and a process, here or on a worker."""
