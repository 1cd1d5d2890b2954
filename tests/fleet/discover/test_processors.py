"""What /proc and /sys say of processors and control groups, on small machines made for it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_machine import ARM_CPUINFO, CPUINFO, cores, write
from tokenworks.fleet.discover.files import numbers, size
from tokenworks.fleet.discover.groups import cpu_share, memory_limit
from tokenworks.fleet.discover.machine import discover
from tokenworks.fleet.discover.processors import Cache, read_processors, usable_cores

TWO_CORES_OF_TWO_THREADS = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}


@pytest.mark.parametrize(
    ("allowed", "cpu_max", "expected"),
    [
        ({0, 1, 2, 3}, None, 2),
        ({0, 2}, None, 1),
        ({0, 1, 2, 3}, "max 100000\n", 2),
        ({0, 1, 2, 3}, "50000 100000\n", 1),
        ({0, 1, 2, 3}, "150000 100000\n", 2),
        ({0, 1, 2, 3}, "torn", 2),
    ],
)
def test_usable_cores_are_physical_ones_within_affinity_and_the_containers_share(
    tmp_path: Path, allowed: set[int], cpu_max: str | None, expected: int
) -> None:
    root = write(tmp_path, cores(TWO_CORES_OF_TWO_THREADS))
    if cpu_max is not None:
        write(root, {"sys/fs/cgroup/cpu.max": cpu_max})

    assert usable_cores(root, allowed) == expected


def test_a_machine_that_says_nothing_has_the_cpus_it_may_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {4, 5, 6}, raising=False)

    assert usable_cores(tmp_path) == 3


def test_processors_are_counted_and_their_caches_too(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": CPUINFO, **cores(TWO_CORES_OF_TWO_THREADS)})
    for cpu, shared in TWO_CORES_OF_TWO_THREADS.items():
        for index, (level, kind, capacity, sharers) in enumerate(
            [("1", "Data", "32K", shared), ("3", "Unified", "32M", "0-3"), ("x", "", "", "")]
        ):
            folder = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
            names = {"level": level, "type": kind, "size": capacity, "shared_cpu_list": sharers}
            write(root, {f"{folder}/{name}": text for name, text in names.items()})

    found = read_processors(root, {0, 1})

    assert found.model == "Some CPU 9000"
    assert (found.physical_cores, found.logical_cores) == (2, 4)
    assert (found.usable_cores, found.usable_threads) == (2, 2)
    telling = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni")
    assert found.instruction_sets == telling
    assert found.caches == (
        Cache(level=1, kind="data", bytes=32 << 10, count=2),
        Cache(level=3, kind="unified", bytes=32 << 20, count=1),
    )


def test_arm_names_its_instruction_sets_features(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": ARM_CPUINFO})

    found = read_processors(root, {0}).instruction_sets

    assert found == ("asimd", "asimddp", "i8mm", "bf16", "sve")


def test_the_strictest_control_group_above_this_process_binds(tmp_path: Path) -> None:
    groups = "sys/fs/cgroup"
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "12:cpu:/old\n0::/site/job\n",
            f"{groups}/site/cpu.max": "300000 100000",
            f"{groups}/site/job/cpu.max": "max 100000",
            f"{groups}/site/memory.max": "1000",
            f"{groups}/site/memory.current": "900",
            f"{groups}/site/job/memory.max": "500",
            f"{groups}/site/job/memory.current": "100",
        },
    )

    assert cpu_share(root) == 3.0
    assert memory_limit(root) == (1000, 100)


def test_a_groups_file_cache_is_free_to_take(tmp_path: Path) -> None:
    """A model that was just fetched fills it; the kernel gives it up before it ends a program."""
    stat = "anon 300\nfile 600\nshmem 50\ninactive_anon 50\nactive_file 150\ninactive_file 400\n"
    group = {"memory.max": "1000", "memory.current": "950", "memory.stat": stat}
    root = write(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in group.items()})

    assert memory_limit(root) == (1000, 600)


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert cpu_share(tmp_path) is None
    assert memory_limit(tmp_path) is None


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20)), max_size=6))
def test_a_list_of_cpus_holds_the_members_of_its_ranges(ranges: list[tuple[int, int]]) -> None:
    said = ",".join(f"{first}-{first + more}" for first, more in ranges)
    expected = {cpu for first, more in ranges for cpu in range(first, first + more + 1)}

    assert numbers(said) == expected


@given(st.text(max_size=40))
def test_odd_lists_and_sizes_are_no_error(said: str) -> None:
    assert all(cpu >= 0 for cpu in numbers(said))
    assert (size(said) or 0) >= 0


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "proc/cpuinfo",
                "proc/meminfo",
                "proc/self/cgroup",
                "sys/fs/cgroup/cpu.max",
                "sys/fs/cgroup/memory.max",
                "sys/devices/system/cpu/online",
                "sys/devices/system/cpu/cpu0/cache/index0/size",
                "sys/devices/system/node/node0/meminfo",
                "sys/bus/pci/devices/0000:00:01.0/vendor",
                "sys/bus/pci/devices/0000:00:01.0/class",
                "sys/bus/pci/devices/0000:00:01.0/device",
            ]
        ),
        st.one_of(st.binary(max_size=30), st.sampled_from([b"0::/a\0b", b"-1", b"0x10de", b"0-"])),
    )
)
def test_torn_and_odd_files_never_break_discovery(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("machine")
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    found = discover(root, allowed={0})

    assert found.processors.usable_cores == 1
