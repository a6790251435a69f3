"""Predictions: windows that a model gave back become one pyramid."""
