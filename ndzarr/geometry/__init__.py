"""Where is what?  Index arithmetic on named axes: selections, windows, levels, padding, resampling (numpy only)."""
