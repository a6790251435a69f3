"""From a target to a labelled sample."""

from ndzarr._sampling import accessor as accessor  # registers `Dataset.ndzarr`
