"""CPUs, ordered queues and progress bars: what all of ndzarr runs its threads by."""

import os
import subprocess
import sys
import threading
import time

import pytest

from ndzarr._concurrency import OrderedQueue, available_cpus, cgroup_quota, decode_pool, ordered_map


def control_groups(root, membership, **files):
    """A mount of /proc and /sys with these control groups."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(membership)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, float("inf")),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a__b__cpu.max": "max 100000\n", "a__cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a\n", {"a__cpu.max": "400000 100000\n", "cpu.max": "200000 100000\n"}, 2),
        ("3:cpuset:/\n1:cpu,cpuacct:/a\n", {"cpu__a__cpu.cfs_quota_us": "-1"}, float("inf")),
        ("1:cpu:/a\n", {"cpu__a__cpu.cfs_quota_us": "300000", "cpu__a__cpu.cfs_period_us": "100000"}, 3),
        ("1:cpu:/docker/x\n", {"cpu__cpu.cfs_quota_us": "100000", "cpu__cpu.cfs_period_us": "100000"}, 1),
        ("", {}, float("inf")),
    ],
)  # fmt: skip
def test_the_quota_of_control_groups_is_the_least_of_all_ancestors(tmp_path, membership, files, expected):
    assert cgroup_quota(control_groups(tmp_path, membership, **files)) == expected


def test_a_system_without_control_groups_sets_no_limit(tmp_path):
    assert cgroup_quota(tmp_path) == float("inf")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_the_affinity_of_the_process_counts():
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    script += "from ndzarr._concurrency import available_cpus as n; print(n())"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "1\n"
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_child_has_threads_of_its_own():
    script = """
import os
from ndzarr._concurrency import decode_pool
assert decode_pool().submit(lambda: 1).result() == 1
pid = os.fork()
if not pid:
    os._exit(decode_pool().submit(lambda: 7).result(20))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert decode_pool().submit(lambda: 2).result() == 2
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
    assert decode_pool() is decode_pool()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers):
    def work(k):
        time.sleep((7 * k % 5) / 500)
        return k

    assert list(ordered_map(work, range(40), workers)) == list(range(40))


def test_an_ordered_map_takes_few_items_ahead():
    taken = []

    def items():
        for k in range(100):
            taken.append(k)
            yield k

    results = ordered_map(lambda k: k, items(), workers=2, ahead=3)
    for k in range(10):
        assert next(results) == k
        assert len(taken) <= k + 1 + 3 + 1
    results.close()
    assert len(taken) < 20


def test_an_error_ends_an_ordered_map_without_the_items_that_have_not_begun():
    begun = []

    def work(k):
        begun.append(k)
        time.sleep(0.01)
        if k == 3:
            raise ZeroDivisionError
        return k

    results = ordered_map(work, range(1000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert len(begun) < 12


def test_an_interrupted_queue_cancels_what_has_not_begun():
    go, done = threading.Event(), []

    def work(k):
        go.wait(20)
        done.append(k)

    def interrupted():
        with OrderedQueue(2, 50, "test") as queue:
            for k in range(40):
                list(queue.submit(work, k))
            go.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) < 40


def test_importing_the_package_starts_nothing():
    script = """
import os, sys, threading
hooks = []
os.register_at_fork = lambda **options: hooks.append(sys._getframe(1).f_globals["__name__"])
import ndzarr._concurrency, ndzarr._files, ndzarr._progress, ndzarr._store.writer, ndzarr._export.cog
print([name for name in hooks if "ndzarr" in name], threading.active_count(), "tqdm" in sys.modules)
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[] 1 False\n"
