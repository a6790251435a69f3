"""Stores and files: opened, verified, made on first use and kept in a cache directory."""
