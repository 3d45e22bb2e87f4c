"""Memory swap: a training step within a memory budget, by moving what lies idle to disk or making it again."""
