"""onnxruntime as the runtime of exported ONNX files."""

from collections.abc import Iterator

import torch

from haq.evaluation.chunks import in_chunks
from haq.evaluation.engines.onnxruntime import open_session
from haq.evaluation.engines.onnxruntime.sessions import run_session
from haq.execution.structures import Structure, rebuilt
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, FormatName
from haq.exporters.onnx.float_layers import compare_float_layers
from haq.exporters.onnx.kernel_codes import compare_kernels
from haq.exporters.onnx.kernels import optimize
from haq.exporters.protocols import LayerCodes
from haq.tasks.predictions import Runner


class OnnxRuntime:
    """onnxruntime on the CPU, with all optimizations.

    Attributes:
        name: Name of the runtime.
        format: Format of the files that it executes.
        max_images: None: it has ordinary speed.
    """

    name = "onnxruntime"
    format: FormatName = "onnx"
    max_images: int | None = None

    def missing(self) -> str | None:
        """Return None: haq itself needs onnxruntime."""
        return None

    def runner(self, export: Export, network: Deployable) -> Runner:
        """Return the exported network as a function.

        Args:
            export: Files to execute.
            network: Network that was exported.

        Returns:
            Function from inputs [n, ...] to outputs [n, ...].

        Raises:
            UserError: onnxruntime does not open the file.
        """
        session = open_session(export.main, threads=torch.get_num_threads())
        with torch.no_grad():
            outputs = network.evaluated(network.example)

        def run(inputs: Structure) -> Structure:
            return rebuilt(outputs, map(torch.from_numpy, run_session(session, inputs)))

        return lambda inputs: in_chunks(run, inputs)

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        """Compare the output codes of every layer with those of the integer reference.

        Args:
            export: Files to execute.
            network: Network that was exported.
            inputs: Inputs of the network, [n, ...].

        Returns:
            Iterator over the layers of the policy in order.
        """
        threads, names = torch.get_num_threads(), [layer.name for layer in export.layers]
        optimized = optimize(export.main, names, threads=threads)
        counts = compare_kernels(optimized, inputs, threads=threads)
        floats = [name for name in names if name not in counts]
        counts |= compare_float_layers(export.main, network, floats, inputs, threads=threads)
        for layer in export.layers:
            yield LayerCodes(
                layer=layer.name,
                is_integer=layer.name in optimized.kernels,
                reason=layer.reason,
                compared=counts[layer.name].compared,
                differing=counts[layer.name].differing,
            )
