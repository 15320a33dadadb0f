"""ONNX functions of the graph that computes corrections.

They read outputs that are centred at the means of the float network, so that the mean of squares gives the variance
without cancellation.
"""

from haq.quantization.corrections import LARGEST_SCALE

_MOMENTS = """squares = Mul (flat, flat)
    square = ReduceMean <keepdims = 0> (squares, axes)
    shift = ReduceMean <keepdims = 0> (flat, axes)
    shift_square = Mul (shift, shift)
    difference = Sub (square, shift_square)
    found_variance = Relu (difference)
    above = Add (found_variance, epsilon)"""
"""Mean `shift` of centred channels, and their variance plus epsilon; Relu keeps the rounded variance above 0."""
CORRECT = """
<domain: "haq", opset_import: ["" : 18]>
Correct (centred, rows, axes, mean, along) => (y, bias)
{
    flat = Reshape (centred, rows)
    shift = ReduceMean <keepdims = 0> (flat, axes)
    bias = Neg (shift)
    back = Add (bias, mean)
    aligned = Reshape (back, along)
    y = Add (centred, aligned)
}
"""
"""Shifts every channel so that its mean equals that of the float network."""
MATCH = f"""
<domain: "haq", opset_import: ["" : 18]>
Match <epsilon> (centred, rows, axes, mean, variance, zeros, ones) => (y, scale, bias)
{{
    epsilon = Constant <value_float: float = @epsilon> ()
    low = Constant <value_float = {1 / LARGEST_SCALE}> ()
    high = Constant <value_float = {LARGEST_SCALE}> ()
    shape = Shape (centred)
    flat = Reshape (centred, rows)
    {_MOMENTS}
    float_above = Add (variance, epsilon)
    ratio = Div (float_above, above)
    root = Sqrt (ratio)
    scale = Clip (root, low, high)
    scaled_shift = Mul (scale, shift)
    back = Sub (mean, scaled_shift)
    scaled_mean = Mul (scale, mean)
    bias = Sub (back, scaled_mean)
    scaled = BatchNormalization <epsilon = 0.0> (flat, scale, back, zeros, ones)
    y = Reshape (scaled, shape)
}}
"""
"""Scales and shifts every channel so that its variance and mean equal those of the float network."""
RENORMALIZE = f"""
<domain: "haq", opset_import: ["" : 18]>
Renormalize <epsilon> (centred, gamma, beta, mean, variance, float_mean, float_variance)
    => (y, moved_mean, moved_variance)
{{
    epsilon = Constant <value_float: float = @epsilon> ()
    rows = Constant <value_ints = [0, 0, -1]> ()
    axes = Constant <value_ints = [0, 2]> ()
    shape = Shape (centred)
    flat = Reshape (centred, rows)
    {_MOMENTS}
    float_above = Add (float_variance, epsilon)
    ratio = Div (above, float_above)
    moved_variance = Mul (variance, ratio)
    moved_mean = Add (mean, shift)
    from_float_mean = Sub (moved_mean, float_mean)
    normalized = BatchNormalization <epsilon: float = @epsilon> (flat, gamma, beta, from_float_mean, moved_variance)
    y = Reshape (normalized, shape)
}}
"""
"""Batch norm whose statistics change as much as those of its input."""
CENTRE = """
<domain: "haq", opset_import: ["" : 18]>
Centre (x, float_mean) => (centred)
{
    rows = Constant <value_ints = [0, 0, -1]> ()
    column = Constant <value_ints = [-1, 1]> ()
    shape = Shape (x)
    flat = Reshape (x, rows)
    aligned = Reshape (float_mean, column)
    centred_rows = Sub (flat, aligned)
    centred = Reshape (centred_rows, shape)
}
"""
"""Subtracts the means of the float network from an input [n, channels, ...]."""
FUNCTIONS = (CORRECT, MATCH, RENORMALIZE, CENTRE)
"""All functions."""
