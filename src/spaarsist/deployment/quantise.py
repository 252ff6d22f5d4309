"""An ONNX file whose front-end multiplies 8-bit integers: of a detector's time, what is worth saving.

Nearly all of a detector's time is its front-end's, and nearly all of that its linear layers'. ONNX Runtime's own tool
turns them into products of integers (dynamic quantisation): weights once, with a scale for each output; what comes in
each time, with one scale for all of it. Convolutions, products within attention, back-end and head stay in float32.

* Weights have 7 bits of their 8. On processors without VNNI instructions sums of larger ones would saturate unseen, and
  the file would score otherwise there.
* The file takes one excerpt at a time. In a batch, the scale of what comes in would be all excerpts' in common, so that
  a score would depend on its neighbours.
"""

from __future__ import annotations

from ast import literal_eval
from pathlib import Path


def quantise(source: Path, output: Path, batch: str) -> int:
    """Write an exported detector anew, with the linear layers of its front-end in 8-bit integers.

    Args:
        source: ONNX file of `export` with the front-end; its folder holds a second copy of it in the meantime.
        output: ONNX file to write.
        batch: name of the dimension that becomes 1.

    Returns:
        How many layers have become integers.

    Source: onnxruntime.quantization.quantize_dynamic.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    graph = onnx.load(source, load_external_data=False).graph
    constant = {weights.name for weights in graph.initializer}
    layers = [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in constant and "frontend" in _scopes(node)
    ]
    quantize_dynamic(
        source, output, op_types_to_quantize=["MatMul"], nodes_to_quantize=layers, per_channel=True, reduce_range=True
    )
    model = onnx.load(output)
    make_dim_param_fixed(model.graph, batch, 1)
    onnx.save(model, output)
    return sum(node.op_type == "MatMulInteger" for node in model.graph.node)


def _scopes(node: object) -> list[str]:
    """Names of the modules that a node was traced in, outermost first."""
    names = {entry.key: entry.value for entry in node.metadata_props}
    return literal_eval(names.get("pkg.torch.onnx.name_scopes", "[]"))
