"""From a target to a labelled sample."""
