"""YOLOv4 and YOLOv4-tiny as text of cfg files, with any number of channels."""

from collections.abc import Sequence

from haq.network.models.yolo import yolov4, yolov4_tiny


class Cfg:
    """Text of a cfg file that grows by a section at a time."""

    def __init__(self, side: int) -> None:
        self.text = f"[net]\nwidth={side}\nheight={side}\nchannels=3\n"

    def add(self, kind: str, **options: object) -> None:
        self.text += f"\n[{kind}]\n" + "".join(f"{name}={value}\n" for name, value in options.items())

    def conv(self, filters: int, size: int = 1, *, stride: int = 1, activation: str = "leaky") -> None:
        norm = {} if activation == "linear" else {"batch_normalize": 1}
        self.add("convolutional", **norm, filters=filters, size=size, stride=stride, pad=1, activation=activation)

    def route(self, *layers: int, **options: object) -> None:
        self.add("route", layers=", ".join(map(str, layers)), **options)

    def yolo(self, mask: Sequence[int], anchors: Sequence[tuple[float, float]], classes: int, scale: float) -> None:
        sizes = ",  ".join(f"{width:g}, {height:g}" for width, height in anchors)
        masks = ",".join(map(str, mask))
        self.add(
            "yolo", mask=masks, anchors=sizes, classes=classes, num=len(anchors), ignore_thresh=0.7, iou_thresh=0.213,
            scale_x_y=scale, iou_normalizer=0.07, nms_kind="greedynms", beta_nms=0.6,
        )  # fmt: skip


def yolov4_cfg(base: int, *, classes: int, side: int) -> str:
    cfg = Cfg(side)
    cfg.conv(base, 3, activation="mish")
    for place, blocks in enumerate(yolov4.BLOCKS):
        width = base * 2**place
        branch = 2 * width if place == 0 else width
        cfg.conv(2 * width, 3, stride=2, activation="mish")
        cfg.conv(branch, activation="mish")
        cfg.route(-2)
        cfg.conv(branch, activation="mish")
        for _ in range(blocks):
            cfg.conv(width, activation="mish")
            cfg.conv(branch, 3, activation="mish")
            cfg.add("shortcut", **{"from": -3, "activation": "linear"})
        cfg.conv(branch, activation="mish")
        cfg.route(-1, -1 - (3 * blocks + 3) - 0)
        cfg.conv(2 * width, activation="mish")
    _neck(cfg, base, classes)
    return cfg.text


def _neck(cfg: Cfg, base: int, classes: int) -> None:
    """Pyramid, PANet and heads, with the absolute and relative numbers of layers of the published file."""
    outputs = 3 * (5 + classes)
    anchors = [size for head in yolov4.ANCHORS for size in head]
    for filters, size in ((16, 1), (32, 3), (16, 1)):
        cfg.conv(filters * base, size)
    for window, back in ((5, -2), (9, -4), (13, None)):
        cfg.add("maxpool", size=window, stride=1)
        cfg.route(back) if back else cfg.route(-1, -3, -5, -6)
    for filters, size in ((16, 1), (32, 3), (16, 1)):
        cfg.conv(filters * base, size)
    for filters, fine in ((8, 85), (4, 54)):
        cfg.conv(filters * base)
        cfg.add("upsample", stride=2)
        cfg.route(fine)
        cfg.conv(filters * base)
        cfg.route(-1, -3)
        for size in (1, 3, 1, 3, 1):
            cfg.conv(filters * base * (2 if size == 3 else 1), size)
    for place, (filters, back) in enumerate(((4, None), (8, -16), (16, -37))):
        if back:
            cfg.route(-4)
            cfg.conv(filters * base, 3, stride=2)
            cfg.route(-1, back)
            for size in (1, 3, 1, 3, 1):
                cfg.conv(filters * base * (2 if size == 3 else 1), size)
        cfg.conv(2 * filters * base, 3)
        cfg.conv(outputs, activation="linear")
        cfg.yolo(range(3 * place, 3 * place + 3), anchors, classes, yolov4.SCALES[place])


def yolov4_tiny_cfg(base: int, *, classes: int, side: int) -> str:
    cfg, outputs = Cfg(side), 3 * (5 + classes)
    anchors = [(10, 14), *yolov4_tiny.ANCHORS[1], *yolov4_tiny.ANCHORS[0][1:]]
    cfg.conv(base, 3, stride=2)
    cfg.conv(2 * base, 3, stride=2)
    for factor in (2, 4, 8):
        cfg.conv(factor * base, 3)
        cfg.route(-1, groups=2, group_id=1)
        cfg.conv(factor * base // 2, 3)
        cfg.conv(factor * base // 2, 3)
        cfg.route(-1, -2)
        cfg.conv(factor * base)
        cfg.route(-6, -1)
        cfg.add("maxpool", size=2, stride=2)
    cfg.conv(16 * base, 3)
    cfg.conv(8 * base)
    cfg.conv(16 * base, 3)
    cfg.conv(outputs, activation="linear")
    cfg.yolo((3, 4, 5), anchors, classes, yolov4_tiny.SCALE)
    cfg.route(-4)
    cfg.conv(4 * base)
    cfg.add("upsample", stride=2)
    cfg.route(-1, 23)
    cfg.conv(8 * base, 3)
    cfg.conv(outputs, activation="linear")
    cfg.yolo((1, 2, 3), anchors, classes, yolov4_tiny.SCALE)
    return cfg.text
