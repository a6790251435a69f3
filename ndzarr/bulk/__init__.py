"""Many targets at once: planned batches, lazy ones, and whole extractions."""
