"""Measurements that ndzarr's choices rest on; each module runs with ``python -m benchmarks.<name>``."""
