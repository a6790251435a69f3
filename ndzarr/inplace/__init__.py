"""Files that are read where they lie, through the same interface as pyramids."""
