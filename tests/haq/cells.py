"""A detection task of small images, and a detector that finds all of their objects without training."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from haq.execution.structures import Structure
from haq.tasks.detection.outputs import Detections, GroundTruth, OutputPart


class Cells:
    """Images [3, 16, 16] of red and green objects that each fill one of 4x4 cells; the first has none."""

    def __init__(self, count: int, seed: int) -> None:
        generator = Generator().manual_seed(seed)
        self.images = 0.1 * torch.rand(count, 3, 16, 16, generator=generator)
        self.cells = torch.rand(count, 16, generator=generator) < 0.15
        self.cells[0] = False
        self.labels = torch.randint(0, 2, (count, 16), generator=generator)
        filled = (self.cells[:, None] * one_hot(self.labels, 3).movedim(2, 1)).view(count, 3, 4, 4)
        self.images += 0.9 * filled.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, GroundTruth]:
        places = self.cells[index].nonzero().squeeze(1)
        return self.images[index], GroundTruth(
            cell_corners(places), self.labels[index, places], torch.zeros(len(places), dtype=torch.bool)
        )


def cell_corners(places: Tensor) -> Tensor:
    corner = 4 * torch.stack((places % 4, places // 4), dim=1).float()
    return torch.cat((corner, corner + 4), dim=1)


class CellHeads:
    """Outputs [n, 7, 4, 4]: shifts of the four corners, objectness, and two classes of each cell."""

    num_classes = 2

    def detect(self, outputs: Structure) -> list[Detections]:
        boxes, objectness, classes = (part.values for part in self.parts(outputs))
        boxes = boxes + cell_corners(torch.arange(16)).to(boxes)
        scores, labels = (objectness.sigmoid() * classes.sigmoid()).max(dim=2)
        order = scores.argsort(dim=1, descending=True)[:, :8]
        return [
            Detections(boxes[image, best], labels[image, best], scores[image, best]) for image, best in enumerate(order)
        ]

    def loss(self, outputs: Structure, targets: Sequence[GroundTruth]) -> Tensor:
        boxes, objectness, classes = (part.values for part in self.parts(outputs))
        wanted = torch.zeros_like(classes)
        for image, truth in enumerate(targets):
            rows, columns = (((truth.boxes[:, axis] + truth.boxes[:, axis + 2]) / 8).long() for axis in (1, 0))
            places = 4 * rows.clamp(0, 3) + columns.clamp(0, 3)
            wanted[image, places, truth.labels] = 1.0
        found = classes + objectness
        return binary_cross_entropy_with_logits(found, wanted) + (wanted.amax(2)[..., None] * boxes).square().mean()

    def parts(self, outputs: Structure) -> list[OutputPart]:
        values = outputs.flatten(2).movedim(1, 2)
        return [
            OutputPart("box", values[..., :4]),
            OutputPart("objectness", values[..., 4:5]),
            OutputPart("class", values[..., 5:]),
        ]


class CellNet(nn.Module):
    """Finds the objects by the mean of each colour in a cell, without training."""

    def __init__(self) -> None:
        super().__init__()
        self.detection = CellHeads()
        self.mean, self.mix, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 7, 1)
        with torch.no_grad():
            for layer in (self.mean, self.mix, self.head):
                layer.weight.zero_()
                assert layer.bias is not None
                layer.bias.zero_()
            for colour in range(3):
                self.mean.weight[colour, colour] = 1 / 16
                self.mix.weight[colour, colour] = 1.0
            self.head.weight[4, :2], self.head.bias[4] = 20.0, -10.0
            self.head.weight[5, 0], self.head.weight[5, 1] = 10.0, -10.0
            self.head.weight[6, 0], self.head.weight[6, 1] = -10.0, 10.0

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.mix(torch.relu(self.mean(x)))))
        return found
