"""Object detection: images with boxes, average precision, and distances of the raw outputs of detection heads."""
