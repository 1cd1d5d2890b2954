"""Accelerators of any vendor, found by what the PCI bus says: no vendor's library is needed."""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

import msgspec

from tokenworks.fleet.discover.files import folders, link_name, number
from tokenworks.fleet.discover.groups import ROOT
from tokenworks.fleet.discover.vendors import VENDORS, Vendor

Kind = Literal["display", "processing"]
_CLASSES: dict[int, Kind] = {0x03: "display", 0x12: "processing"}  # PCI base classes
_ON_CHIP = "on chip"


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """One device. `id` is `vendor:device` in hexadecimal; `driver` the kernel driver bound to it;
    `nodes` the paths below /dev that it or, where the driver does not say whose they are, its
    vendor has."""

    address: str
    vendor: str
    id: str
    kind: Kind
    numa_node: int | None
    driver: str | None
    nodes: tuple[str, ...]

    @property
    def state(self) -> str:
        """What stands between the device and a program, in words."""
        if self.address == _ON_CHIP:
            return "part of the system"
        if self.driver is None:
            return "no driver bound"
        if self.driver.startswith("vfio"):
            return f"driver {self.driver}: passed through to a guest or a program"
        if not self.nodes:
            return f"driver {self.driver}, no device node"
        return f"driver {self.driver}, {', '.join(self.nodes)}"


def read_accelerators(
    root: Path = ROOT,
    *,
    system: str = sys.platform,
    machine: str = platform.machine(),
) -> tuple[Accelerator, ...]:
    """The display and processing accelerators on the PCI bus, by address.

    Apple's processors (`system` darwin, `machine` arm64) have one on the chip, not on the bus.
    """
    if system == "darwin" and machine == "arm64":
        return (_apple(),)
    found = (_read(root, device) for device in folders(root / "sys/bus/pci/devices", "*"))
    return tuple(accelerator for accelerator in found if accelerator is not None)


def _read(root: Path, device: Path) -> Accelerator | None:
    vendor_id, device_id = number(device / "vendor", base=16), number(device / "device", base=16)
    if vendor_id is None or device_id is None:
        return None
    vendor = VENDORS.get(vendor_id, Vendor(f"vendor {vendor_id:04x}"))
    base_class = (number(device / "class", base=16) or 0) >> 16
    kind = "processing" if device_id in vendor.others else _CLASSES.get(base_class)
    if kind is None:
        return None
    near = number(device / "numa_node")
    return Accelerator(
        address=device.name,
        vendor=vendor.name,
        id=f"{vendor_id:04x}:{device_id:04x}",
        kind=kind,
        numa_node=near if near is not None and near >= 0 else None,  # -1: the firmware says none
        driver=link_name(device / "driver"),
        nodes=_nodes(root, device, vendor),
    )


def _nodes(root: Path, device: Path, vendor: Vendor) -> tuple[str, ...]:
    """Device nodes that are there: the device's own, then those of its vendor's driver."""
    own = [f"dri/{folder.name}" for folder in folders(device / "drm", "renderD*")]
    own += [f"accel/{folder.name}" for folder in folders(device / "accel", "accel*")]
    paths = [root / "dev" / name for name in own]
    for pattern in vendor.nodes:
        paths += folders(root / "dev", pattern)
    return tuple(f"/{path.relative_to(root)}" for path in paths if os.path.exists(path))


def _apple() -> Accelerator:
    return Accelerator(
        address=_ON_CHIP,
        vendor="Apple",
        id="",
        kind="display",
        numa_node=None,
        driver=None,
        nodes=(),
    )
