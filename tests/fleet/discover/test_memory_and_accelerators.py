"""Memory, NUMA nodes and accelerators, read from small trees."""

import os
from pathlib import Path

import pytest

from small_machine import pci, write
from tokenworks.fleet.discover.accelerators import read_accelerators
from tokenworks.fleet.discover.memory import NumaNode, read_memory, read_numa_nodes
from tokenworks.fleet.discover.vendors import VENDORS

GIB = 2**30


def test_usable_memory_is_what_is_available_within_the_groups_limit(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\nSwapFree: 0\n"},
    )
    free = read_memory(root)
    write(root, {"sys/fs/cgroup/memory.max": str(4 * GIB), "sys/fs/cgroup/memory.current": "0"})
    limited = read_memory(root)

    assert (free.total, free.usable, free.limit) == (16 * GIB, 8 * GIB, None)
    assert (limited.total, limited.usable, limited.limit) == (16 * GIB, 4 * GIB, 4 * GIB)


def test_memory_that_is_not_stated_is_unknown(tmp_path: Path) -> None:
    assert read_memory(tmp_path).usable is None


def test_numa_nodes_have_cpus_and_memory(tmp_path: Path) -> None:
    nodes = "sys/devices/system/node"
    write(
        tmp_path,
        {
            f"{nodes}/node0/cpulist": "0-1",
            f"{nodes}/node0/meminfo": "Node 0 MemTotal: 1024 kB\nNode 0 MemFree: 512 kB\n",
            f"{nodes}/node1/cpulist": "",
            f"{nodes}/nodes_are_odd/cpulist": "7",
        },
    )

    assert read_numa_nodes(tmp_path) == (
        NumaNode(number=0, cpus=(0, 1), total=2**20, free=2**19),
        NumaNode(number=1, cpus=(), total=None, free=None),
    )


def test_an_accelerator_has_vendor_driver_node_and_place(tmp_path: Path) -> None:
    device = pci(
        tmp_path, "0000:65:00.0", vendor="0x10de", device="0x2330", kind="0x030200", driver="nvidia"
    )
    write(tmp_path, {"dev/nvidia0": "", "dev/nvidiactl": ""})
    (device / "numa_node").write_text("1\n")

    (found,) = read_accelerators(tmp_path, system="linux", machine="x86_64")

    assert (found.vendor, found.id, found.kind) == ("NVIDIA", "10de:2330", "display")
    assert (found.numa_node, found.nodes) == (1, ("/dev/nvidia0",))
    assert found.state == "driver nvidia, /dev/nvidia0"


def test_a_device_names_its_own_render_node(tmp_path: Path) -> None:
    device = pci(
        tmp_path, "0000:03:00.0", vendor="0x1002", device="0x74a1", kind="0x120000", driver="amdgpu"
    )
    (device / "drm/renderD129").mkdir(parents=True)
    write(tmp_path, {"dev/dri/renderD128": "", "dev/dri/renderD129": "", "dev/kfd": ""})

    (found,) = read_accelerators(tmp_path, system="linux", machine="x86_64")

    assert found.kind == "processing"
    assert found.nodes == ("/dev/dri/renderD129", "/dev/kfd")


@pytest.mark.parametrize(
    ("driver", "state"),
    [
        (None, "no driver bound"),
        ("drv", "driver drv, no device node"),
        ("vfio-pci", "driver vfio-pci: passed through to a guest or a program"),
    ],
)
def test_a_device_that_no_program_can_use_says_what_is_missing(
    tmp_path: Path, driver: str | None, state: str
) -> None:
    pci(tmp_path, "0000:01:00.0", vendor="0x19e5", device="0xd802", kind="0x120000", driver=driver)

    (found,) = read_accelerators(tmp_path, system="linux", machine="aarch64")

    assert (found.vendor, found.state) == ("Huawei Ascend", state)


def test_an_unknown_vendor_is_shown_by_its_number(tmp_path: Path) -> None:
    pci(tmp_path, "0000:01:00.0", vendor="0x1234", device="0x1111", kind="0x030000")

    (found,) = read_accelerators(tmp_path, system="linux", machine="x86_64")

    assert (found.vendor, found.id) == ("vendor 1234", "1234:1111")


def test_network_cards_are_none_and_neuron_devices_are_although_of_another_class(
    tmp_path: Path,
) -> None:
    pci(tmp_path, "0000:00:04.0", vendor="0x1d0f", device="0xec20", kind="0x020000")
    pci(tmp_path, "0000:00:1e.0", vendor="0x1d0f", device="0x7364", kind="0x088000")
    pci(tmp_path, "0000:00:1f.0", vendor="torn", device="0x7364", kind="0x120000")

    (found,) = read_accelerators(tmp_path, system="linux", machine="x86_64")

    assert (found.address, found.vendor) == ("0000:00:1e.0", "AWS Neuron")


def test_apples_processors_have_one_on_the_chip(tmp_path: Path) -> None:
    (found,) = read_accelerators(tmp_path, system="darwin", machine="arm64")

    assert (found.vendor, found.state) == ("Apple", "part of the system")
    assert read_accelerators(tmp_path, system="darwin", machine="x86_64") == ()


@pytest.mark.skipif(
    not os.path.exists("/usr/lib/udev/hwdb.d/20-pci-vendor-model.hwdb"),
    reason="no hardware database here to compare vendor ids with",
)
def test_vendor_ids_agree_with_the_hardware_database() -> None:
    names = {
        0x10DE: "NVIDIA", 0x1002: "Advanced Micro", 0x8086: "Intel", 0x19E5: "Huawei",
        0x1D94: "Haiguang", 0x1ED5: "Moore Threads", 0x1DED: "Alibaba", 0x1D22: "Baidu",
        0x1DA3: "Habana", 0x1AE0: "Google", 0x1D0F: "Amazon",
    }  # fmt: skip
    said = Path("/usr/lib/udev/hwdb.d/20-pci-vendor-model.hwdb").read_text()
    for number, name in names.items():
        entry = said.split(f"pci:v{number:08X}*\n ID_VENDOR_FROM_DATABASE=")[1]
        assert name in entry.split("\n")[0]
    assert set(names) | {0xCABC, 0x9999, 0x1E3E} == set(VENDORS)
