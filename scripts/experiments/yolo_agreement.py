"""Compare the boxes of quantized Yolo-Fastest networks with those of the float networks, on the eight images of COCO8.

For each network, number of bits and treatment of zero points, prints how many boxes both networks find (score 0.3 and
0.1, same class, IoU 0.5), and AP. First layer and heads have 8 bits. Four of the images are those of the calibration.
Eight images are too few to rank settings by AP. Each result is one JSON file in --out.

    python scripts/experiments/yolo_agreement.py --data coco:data/coco8 --weights weights --out results/detection/yolo
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from stored_cells import Cell, stored_cell

from haq.config import search_config
from haq.execution.structures import Structure
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.policy import PolicyBits
from haq.tasks.base import SplitName
from haq.tasks.detection.agreement import BoxAgreement, box_agreement
from haq.tasks.detection.average_precision import average_precision
from haq.tasks.detection.outputs import Detections, GroundTruth
from haq.tasks.detection.task import heads_of

NETWORKS = ("yolo-fastest-1.1", "yolo-fastest-1.1-xl")
SPLITS: tuple[SplitName, ...] = ("calibration", "search", "report")
"""Splits that together hold all images."""
SHIFTS = {"shift": "auto", "no-shift": "none"}
"""Settings of zero points: where they reduce the error, or none."""
SCORES = (0.3, 0.1)
"""Scores from which a box counts."""


@dataclass(frozen=True)
class Case:
    """A network with a treatment of zero points."""

    options: argparse.Namespace
    name: str
    shift: str

    @cached_property
    def network(self) -> Network:
        """The network, prepared for evaluations."""
        folder: Path = self.options.weights
        return prepare_network(
            search_config(
                model=f"darknet:{folder / self.name}.cfg",
                weights=f"{folder / self.name}.weights",
                data=self.options.data,
                zero_points=SHIFTS[self.shift],
                engine="torch",
            )
        )

    @cached_property
    def images(self) -> list[tuple[Structure, list[GroundTruth]]]:
        """Batches of all images, with their objects."""
        task = self.network.task
        return [batch for split in SPLITS for batch in task.batches(split, batch_size=1)]

    @torch.no_grad()
    def detections(self, bits: PolicyBits | None) -> list[Detections]:
        """Return the boxes in each image; of the float network if `bits` is None."""
        heads, run = heads_of(self.network.priced.model), self.network.engine.runner(bits)
        assert heads is not None, "a detector"
        return [boxes for inputs, _ in self.images for boxes in heads.detect(run(inputs))]

    def compare(self, bits: int | None) -> Cell:
        """Return agreement and AP of uniform bits, or the AP of the float network."""
        layers, ends = self.network.priced.layers, {0, *self._heads()}
        widths = [8 if place in ends else bits for place in range(len(layers))]
        found = self.detections(None if bits is None else (tuple(widths), tuple(widths)))
        expected = self.detections(None)
        truths = [truth for _, batch in self.images for truth in batch]
        scores = average_precision(found, truths)
        agreement = {
            str(score): asdict(sum(box_agreement(found, expected, score=score), BoxAgreement())) for score in SCORES
        }
        return {"ap": scores.ap, "ap50": scores.ap50, "images": len(truths), "agreement": agreement}

    def _heads(self) -> Iterator[int]:
        for place, layer in enumerate(self.network.priced.layers):
            if layer.name in self.network.priced.heads:
                yield place


def main() -> None:
    """Compute the cells that are missing, and print the table."""
    options = _options()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    columns = [f"boxes of both, of the float network, of the quantized one (score {score})" for score in SCORES]
    print(f"| network | bits | zero points | {' | '.join(columns)} | share of both (F1) | AP | AP50 |")
    print("|" + "---|" * (6 + len(columns)))
    for name in NETWORKS:
        for shift in SHIFTS:
            case = Case(options, name, shift)
            for bits in (None, *options.bits) if shift == "shift" else options.bits:
                label = "float" if bits is None else f"w{bits}a{bits}-{shift}"
                path = options.out / f"{name}-{label}.json"
                cell = stored_cell(path, partial(case.compare, bits), options, seed=0)
                print(row(name, bits, shift, cell), flush=True)


def row(name: str, bits: int | None, shift: str, cell: Cell) -> str:
    """Return a row of the table."""
    counts = [BoxAgreement(**cell["agreement"][str(score)]) for score in SCORES]
    cells = [
        name,
        "float" if bits is None else f"W{bits}A{bits}",
        "" if bits is None else {"shift": "yes", "no-shift": "no"}[shift],
        *(f"{each.matched} / {each.expected} / {each.found}" for each in counts),
        " / ".join(f"{each.share:.2f}" for each in counts),
        f"{100 * cell['ap']:.1f}",
        f"{100 * cell['ap50']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="coco:DIR of COCO8")
    parser.add_argument("--weights", type=Path, required=True, help="folder of Darknet's cfg and weights files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 6, 4])
    return parser.parse_args()


if __name__ == "__main__":
    main()
