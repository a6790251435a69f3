"""Index arithmetic: selections, windows, read plans, resampling."""
