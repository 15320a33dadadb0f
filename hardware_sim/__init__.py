"""Cost models that give the latency, energy and size of a layer at every pair of bit widths.

>>> from hardware_sim import load_accelerator, networks
>>> table = load_accelerator("bismo-cloud").table(networks.mobilenet_v2())
>>> eight_bits = [8] * len(table.layers)
>>> table.policy_cost(eight_bits, eight_bits).cycles
39624933.0
"""

from hardware_sim.accelerator import Accelerator
from hardware_sim.catalog import DeviceError, device_names, load_accelerator
from hardware_sim.cost import Cost, CostModel, CostTable, Limit, UnsupportedError
from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.description_files import DescriptionError
from hardware_sim.layer import Layer
from hardware_sim.target_catalog import load_target, target_names

__all__ = [
    "Accelerator",
    "Cost",
    "CostModel",
    "CostTable",
    "DeploymentTarget",
    "DescriptionError",
    "DeviceError",
    "Layer",
    "Limit",
    "UnsupportedError",
    "device_names",
    "load_accelerator",
    "load_target",
    "target_names",
]
