"""Windows with their annotations: targets in, labelled samples out."""

from ndzarr.sampler import accessor as accessor  # registers `Dataset.ndzarr`
