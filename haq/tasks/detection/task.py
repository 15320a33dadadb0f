"""Detection tasks: average precision, and distances of the raw outputs of detection heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import Structure, describe
from haq.execution.user_code import one_line
from haq.tasks.base import SplitName
from haq.tasks.detection.agreement import box_agreement
from haq.tasks.detection.augmentation import augment_images
from haq.tasks.detection.average_precision import AveragePrecisionMeter
from haq.tasks.detection.outputs import DetectionHeads, GroundTruth, OutputPart
from haq.tasks.detection.parts_distance import object_probabilities, parts_distance, weighted_values
from haq.tasks.distances import Distance
from haq.tasks.item_task import ItemTask
from haq.tasks.items import StoredSplit
from haq.tasks.metrics import AP, Metric

SCORED: tuple[SplitName, ...] = ("search", "selection", "report")
"""Splits that average precision is computed on."""

LEAST_AP = 0.005
"""Average precision below which a detector finds next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionTask(ItemTask):
    """Task of finding the objects in images: inputs [n, 3, h, w], and a list of one `GroundTruth` for each image.

    Args:
        class_names: Names of the classes; the network must detect as many.
        heads: Meaning of the network's outputs; None for a network that is no detector, of which only the data are
            used.
    """

    class_names: tuple[str, ...]
    heads: DetectionHeads | None

    @property
    def metric(self) -> Metric:
        return AP

    def prepare(self) -> None:
        """Read the images of all splits but `train`; see `Task.prepare`.

        Raises:
            UserError: Items cannot be read, or a split that is scored has no object.
        """
        super(DetectionTask, self).prepare()
        for name in SCORED:
            split = self.splits.get(name)
            if isinstance(split, StoredSplit) and not any(bool((~each.crowd).any()) for each in split.stored[1]):
                raise UserError(
                    f"no image of the {name} split of {self.name} has an object, so that it has no AP; "
                    f"use more images (--search-images, --report-images) or another --split-seed"
                )

    def validate(self, model: nn.Module) -> None:
        """Run a network on one image and check that it is a detector of the classes of the data.

        Args:
            model: Float network, on the CPU and in evaluation mode.

        Raises:
            UserError: The network is no detector, its outputs do not fit its heads, or it has other classes.
        """
        heads = self._heads()
        with torch.no_grad():
            outputs = run_network(model, self.example())
        found = _parts(heads, outputs)
        try:
            heads.detect(outputs)
        except Exception as error:  # heads of a user may raise anything
            raise UserError(f"the network's outputs cannot be decoded to boxes ({one_line(error)})") from error
        if not found:
            raise UserError("the network's `detection` finds no boxes, objectness or classes in its outputs")
        names = len(self.class_names)
        if heads.num_classes != names:
            raise UserError(
                f"the network detects {heads.num_classes} classes and {self.name} has {names}; "
                "give weights for these classes, or list the classes of all outputs in classes.txt"
            )

    def loss(self, outputs: Structure, targets: Sequence[GroundTruth]) -> Tensor:
        return self._heads().loss(outputs, targets)

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        heads = self._heads()
        return parts_distance(heads.parts(outputs), heads.parts(reference))

    def values(self, outputs: Structure) -> Tensor:
        parts = self._heads().parts(outputs)
        return weighted_values(parts, list(object_probabilities(parts)))

    def meter(self) -> AveragePrecisionMeter:
        return AveragePrecisionMeter(self._heads())

    def same_predictions(self, outputs: Structure, reference: Structure) -> Tensor:
        heads = self._heads()
        counts = box_agreement(heads.detect(outputs), heads.detect(reference))
        return torch.tensor([each.matched == each.found == each.expected for each in counts])

    def augment(
        self, inputs: Tensor, targets: Sequence[GroundTruth], how: str, generator: torch.Generator
    ) -> tuple[Tensor, Sequence[GroundTruth]]:
        if how == "none":
            return inputs, targets
        return augment_images(inputs, targets, flips=how != "crop", generator=generator)

    def chance_warning(self, score: float, *, items: int) -> str | None:
        if score >= LEAST_AP:
            return None
        return (
            f"AP is {AP.text(score)} on {items} images: are the weights of this model loaded, are the classes in the "
            "order of its outputs, are size and normalization right (--resize, --normalize)?"
        )

    def description(self) -> Mapping[str, Any]:
        return {"name": self.name, "class_names": list(self.class_names), **self.facts}

    def _heads(self) -> DetectionHeads:
        if self.heads is None:
            raise UserError(
                f"{self.name} needs a detector, a network with an attribute `detection` "
                "(haq.tasks.detection.outputs.DetectionHeads), such as shapes_detector"
            )
        return self.heads


def heads_of(model: nn.Module | None) -> DetectionHeads | None:
    """Return the meaning of a network's outputs.

    Args:
        model: Network; None for none.

    Returns:
        Its attribute `detection`; None if it has none.
    """
    found = getattr(model, "detection", None)
    return found if isinstance(found, DetectionHeads) else None


def _parts(heads: DetectionHeads, outputs: Structure) -> Sequence[OutputPart]:
    try:
        return heads.parts(outputs)
    except Exception as error:  # heads of a user may raise anything
        raise UserError(
            f"the network answers one image with {describe(outputs)}, which its `detection` cannot read "
            f"({one_line(error)})"
        ) from error
