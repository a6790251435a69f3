"""Pixels with names: how arrays become labelled xarray objects, cheaply."""
