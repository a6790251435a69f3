"""Many targets at once: batches, lazy batches and extraction."""
