"""Measure what reconstruction gains after rounding to nearest and after GPTQ, and its processor time.

One network at uniform weight bits, with 8 bits for the first and the last layer. Prints a section of Markdown; takes
the flags of `haq evaluate` for networks and data:

    python scripts/experiments/compare_reconstruction.py --widths 3,2
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Annotated, Any, get_args

import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, read_several, with_config
from haq.config import SearchConfig, search_config
from haq.formatting import percent
from haq.reconstruction.config import reconstruction_config
from haq.reconstruction.reconstruct import ReconstructionRequest, reconstruct_configured
from haq.runs.environment import describe_environment
from haq.settings import Rounding

Summary = dict[str, Any]


def measure(config: SearchConfig, rounding: Rounding, *, w_bits: int, a_bits: int, learning: Summary) -> Summary:
    """Return the summary of one reconstruction with the processor seconds of all of it, evaluations included."""
    given = {key: getattr(config, key) for key in config.model_fields_set}
    settings, bits = search_config(**given, rounding=rounding), (w_bits, a_bits)
    request = ReconstructionRequest(settings, reconstruction_config(**learning), bits)
    began = process_time()
    with TemporaryDirectory() as folder:
        summary = reconstruct_configured(request, Path(folder) / "run").summary
    return {**summary.model_dump(mode="json"), "cpu_s": process_time() - began}


def row(name: str, found: Summary) -> str:
    """Return the Markdown row of one reconstruction: before and after learning."""
    before = f"{percent(found['search_accuracy_start'], digits=2)}, {found['search_divergence_start']:.4f}"
    after = f"{percent(found['search_accuracy'], digits=2)}, {found['search_divergence']:.4f}"
    report = f"{percent(found['accuracy'], digits=2)}, {found['divergence']:.4f}"
    return f"| {name} | {before} | {after} | {report} | {found['cpu_s']:.0f} s |"


@with_config(*MODEL_FLAGS, *DATA_FLAGS, "seed")
def main(
    config: SearchConfig,
    *,
    widths: Annotated[str, typer.Option(help="Bits of weights.")] = "4",
    roundings: Annotated[str, typer.Option(help="What learning starts from.")] = "nearest,gptq",
    a_bits: Annotated[int, typer.Option(help="Bits of activations.")] = 8,
    steps: Annotated[int | None, typer.Option(help="Steps of learning.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images of one step.")] = None,
) -> None:
    """Measure one network and print."""
    learning = {name: value for name, value in (("steps", steps), ("batch_size", batch_size)) if value is not None}
    chosen = [name for name in get_args(Rounding) if name in read_several(roundings)]
    found = {
        f"{rounding}, {width}/{a_bits} bits": measure(
            config, rounding, w_bits=int(width), a_bits=a_bits, learning=learning
        )
        for width in read_several(widths)
        for rounding in chosen
    }
    first = next(iter(found.values()))
    print(f"## {config.model}\n")
    print("Accuracy, and the mean KL divergence from the float network's outputs in nats, before and after learning on")
    print(f"{first['search_images']} search images and after it on {first['report_images']} report images; in float")
    print(f"{percent(first['search_accuracy_fp32'], digits=2)} and {percent(first['accuracy_fp32'], digits=2)}.")
    print(f"Calibration on {first['calibration_images']} images, seed {config.seed}; seconds of one processor.\n")
    print("| rounding | before, search | after, search | after, report | all of it |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        print(row(name, each))
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{package} {version}" for package, version in packages.items() if version)
    print(f"\nMade with `python scripts/experiments/compare_reconstruction.py {' '.join(sys.argv[1:])}`; {versions}.\n")


if __name__ == "__main__":
    typer.run(main)
