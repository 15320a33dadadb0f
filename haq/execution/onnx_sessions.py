"""Options of onnxruntime sessions on the CPU."""

import onnxruntime as ort

EXACT_PRODUCTS = "session.x64quantprecision"
"""Entry of a session's configuration with which integer kernels are exact on every processor, at "1".

On x86 processors without VNNI instructions, onnxruntime multiplies unsigned inputs with signed weights in pairs whose
sums saturate at 16 bits. With this entry it makes weights unsigned, where they do not. Other processors ignore it.
"""


def session_options(*, threads: int) -> ort.SessionOptions:
    """Return the options that all sessions share.

    Args:
        threads: Threads within an operator.

    Returns:
        New options; operators run one after the other, and integer kernels are exact.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry(EXACT_PRODUCTS, "1")
    return options
