"""Windows with their annotations: targets in, labelled samples out."""

from ndzarr._sampling import accessor as accessor  # registers `Dataset.ndzarr`
