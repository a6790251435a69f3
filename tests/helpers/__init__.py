"""What tests share: made data, foreign readers, and functions that other processes run."""
