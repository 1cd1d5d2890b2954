"""Small /proc, /sys and /dev trees for tests."""

from collections.abc import Mapping
from pathlib import Path

CPUINFO = """\
processor : 0
model name : Some CPU 9000
flags : fpu sse4_2 avx avx2 fma f16c avx512f avx512_vnni
processor : 1
model name : Some CPU 9000
flags : fpu sse4_2 avx avx2 fma f16c avx512f avx512_vnni
"""
ARM_CPUINFO = "processor : 0\nFeatures : fp asimd asimddp i8mm bf16 sve\nCPU part : 0xd40\n"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def cores(siblings: Mapping[int, str]) -> dict[str, str]:
    """The topology of CPUs, each with the list of those on its core."""
    folder = "sys/devices/system/cpu"
    files = {
        f"{folder}/cpu{cpu}/topology/core_cpus_list": f"{shared}\n"
        for cpu, shared in siblings.items()
    }
    return {**files, f"{folder}/online": ",".join(str(cpu) for cpu in siblings)}


def pci(
    root: Path, address: str, *, vendor: str, device: str, kind: str, driver: str | None = None
) -> Path:
    """A device on the bus; `kind` is its PCI class."""
    folder = f"sys/bus/pci/devices/{address}"
    write(root, {f"{folder}/vendor": vendor, f"{folder}/device": device, f"{folder}/class": kind})
    if driver is not None:
        bound = root / f"sys/bus/pci/drivers/{driver}"
        bound.mkdir(parents=True, exist_ok=True)
        (root / folder / "driver").symlink_to(bound)
    return root / folder
