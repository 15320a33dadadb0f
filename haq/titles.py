"""Names of devices and models as titles have them: without folders."""

from pathlib import Path

from hardware_sim.catalog import DeviceError, load_accelerator


def device_title(hardware: str) -> str:
    """The name that a device has itself; of a file that is not there any more the name of the file.

    >>> device_title("bismo-edge"), device_title("my/chip.toml")
    ('bismo-edge', 'chip')
    """
    try:
        return load_accelerator(hardware).name
    except DeviceError:
        path = Path(hardware)
        return path.stem if path.suffix.lower() in (".toml", ".csv") else path.name


def model_title(model: str) -> str:
    """What a model is called, without the folder of a file in it.

    >>> model_title("torchvision:resnet18"), model_title("darknet:nets/tiny.cfg")
    ('torchvision:resnet18', 'darknet:tiny.cfg')
    """
    kind, colon, rest = model.rpartition(":")
    return f"{kind}{colon}{Path(rest).name}"
