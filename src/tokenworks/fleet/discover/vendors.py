"""Who makes accelerators: by PCI vendor id, and the device nodes that their drivers make.

Ids are the PCI-SIG's as the PCI ID repository (https://pci-ids.ucw.cz) lists them; those of
Cambricon, Iluvatar and MetaX, and what T-Head (an Alibaba id) is, as GPUStack detects them. Device
nodes are those that the vendors' container instructions pass on.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vendor:
    """`nodes` are patterns below /dev; `others` are device ids that are accelerators although
    their PCI class does not say so."""

    name: str
    nodes: tuple[str, ...] = ()
    others: tuple[int, ...] = ()


VENDORS = {
    0x10DE: Vendor("NVIDIA", ("nvidia[0-9]*",)),
    0x1002: Vendor("AMD", ("kfd",)),
    0x8086: Vendor("Intel"),  # nodes of drm and accel, which every device names itself
    0x19E5: Vendor("Huawei Ascend", ("davinci[0-9]*",)),
    0xCABC: Vendor("Cambricon", ("cambricon_dev[0-9]*",)),
    0x1D94: Vendor("Hygon", ("kfd", "mkfd")),
    0x1ED5: Vendor("Moore Threads", ("mtgpu[.0-9]*",)),
    0x9999: Vendor("MetaX", ("mxcd",)),
    0x1E3E: Vendor("Iluvatar", ("iluvatar[0-9]*",)),
    0x1DED: Vendor("T-Head", ("alixpu_ppu[0-9]*",)),
    0x1D22: Vendor("Kunlunxin", ("xpu[0-9]*",)),
    0x1DA3: Vendor("Habana", ("hl[0-9]*",)),
    # Classes of these two are not those of accelerators. Ids: jax, hardware_utils.py; PCI IDs.
    0x1AE0: Vendor(
        "Google TPU", ("accel[0-9]*",), (0x0027, 0x0056, 0x005E, 0x0062, 0x0063, 0x006F, 0x0076)
    ),
    0x1D0F: Vendor("AWS Neuron", ("neuron[0-9]*",), (0x7064, 0x7164, 0x7264, 0x7364)),
}
