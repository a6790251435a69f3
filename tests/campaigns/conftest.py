"""Processes that write, and may be killed."""

import multiprocessing

import pytest


@pytest.fixture(scope="session")
def processes():
    """Starts processes in which everything is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.write_operations"])
    return context
