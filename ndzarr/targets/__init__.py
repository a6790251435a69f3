"""Which windows to read: tables of targets."""
