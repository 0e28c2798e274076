"""A network drawn layer by layer, as SVG."""

from __future__ import annotations

import html

from torch import fx, nn

from cnnhw.models.blocks import Classifier, count_parameters
from cnnhw.plots.figures import Svg
from cnnhw.theory.tracing import trace

__all__ = ["diagram"]


def diagram(model: Classifier) -> Svg:
    """Draw a model's layers as a graph.

    Each box is a layer with what follows from it: the shape of its output for one photo, and its parameters. A bar
    shows the layer's share of all parameters; a curve on the left is a connection that skips layers.

    Parameters
    ----------
    model : Classifier
        Any model that ``torch.fx`` can trace.

    Returns
    -------
    Svg
        The picture, a str.

    Examples
    --------
    >>> import cnnhw
    >>> from cnnhw import plots
    >>> plots.diagram(cnnhw.models.create("q1_shallow"))[:4]
    '<svg'
    """
    graph, modules = trace(model)
    total = max(1, count_parameters(model))

    box: dict[fx.Node, int] = {}  # node -> number of the box that draws it
    labels: list[tuple[str, str]] = []  # what it is, shape of the output
    counts: list[int] = []
    sources: list[list[int]] = []
    for node in graph.nodes:
        if node.op == "output" or "tensor_meta" not in node.meta:  # a size, not a map
            continue
        inputs = [box[source] for source in node.all_input_nodes if source in box]
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        shape = "×".join(map(str, node.meta["tensor_meta"].shape[1:]))
        parameters = count_parameters(module) if module is not None else 0
        added = {nn.ReLU: " + ReLU", nn.BatchNorm2d: " + norm"}.get(type(module))
        if added and len(inputs) == 1 and len(node.all_input_nodes[0].users) == 1:
            (at,) = inputs
            labels[at] = labels[at][0] + added, shape
            counts[at] += parameters
            box[node] = at
            continue
        box[node] = len(labels)
        labels.append((_describe(node, module), shape))
        counts.append(parameters)
        sources.append(inputs)

    depth: list[int] = []
    for inputs in sources:
        depth.append(1 + max((depth[i] for i in inputs), default=-1))
    lanes = [depth[:i].count(d) for i, d in enumerate(depth)]
    width, height, gap = 300, 34, 16
    skips = any(depth[i] - depth[source] > 1 for i, inputs in enumerate(sources) for source in inputs)
    margin = 60 if skips else 20
    place = [(margin + lane * (width + 200), 20 + d * (height + gap)) for lane, d in zip(lanes, depth, strict=True)]
    full_width = max(x for x, _ in place) + width + 200
    full_height = max(y for _, y in place) + height + 20
    largest = max(range(len(counts)), key=counts.__getitem__)
    seen = (
        f"Diagram of {model.name}: {len(labels)} steps from photo to scores, {total:,} parameters, "
        f"{100 * counts[largest] / total:.0f} % of them in one layer, {labels[largest][0]}."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" width="{full_width}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img">'
        f"<title>{html.escape(seen)}</title>"
        f'<rect width="{full_width}" height="{full_height}" fill="#fff"/>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#666"/></marker></defs>'
    ]
    for inputs, (x, y) in zip(sources, place, strict=True):
        for source in inputs:
            from_x, from_y = place[source]
            if y - from_y > height + gap + 1 and from_x == x:
                start, end = from_y + height / 2, y + height / 2
                parts.append(
                    f'<path d="M{x} {start}C{x - 45} {start} {x - 45} {end} {x - 1} {end}" fill="none" '
                    'stroke="#666" marker-end="url(#tip)"/>'
                )
                continue
            parts.append(
                f'<line x1="{from_x + width / 2}" y1="{from_y + height}" x2="{x + width / 2}" y2="{y - 1}" '
                'stroke="#666" marker-end="url(#tip)"/>'
            )
    for (label, shape), count, (x, y) in zip(labels, counts, place, strict=True):
        colour = "#cfe3f3" if "conv" in label else "#fbe3c8" if "linear" in label else "#eeeeee"
        bar = max(1.0, 160 * count / total) if count else 0
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{colour}" stroke="#888"/>'
            f'<text x="{x + 10}" y="{y + 22}">{html.escape(label)}</text>'
            f'<text x="{x + width - 10}" y="{y + 22}" text-anchor="end" fill="#444">{shape}</text>'
            f'<rect x="{x + width + 8}" y="{y + 4}" width="{bar:.1f}" height="10" fill="#0072B2"/>'
            f'<text x="{x + width + 8}" y="{y + 29}" font-size="12" fill="#444">{f"{count:,}" if count else ""}</text>'
        )
    return Svg("".join(parts) + "</svg>\n")


_CALLED = {"cat": "concatenate", "interpolate": "resize"}


def _describe(node: fx.Node, module: nn.Module | None) -> str:
    match module:
        case nn.Conv2d():
            stride = f", stride {module.stride[0]}" if module.stride[0] > 1 else ""
            return f"{module.kernel_size[0]}×{module.kernel_size[1]} conv, {module.out_channels}{stride}"
        case nn.Linear():
            return f"linear, {module.out_features}"
        case nn.MaxPool2d() | nn.AvgPool2d():
            kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
            return f"{module.kernel_size}×{module.kernel_size} {kind} pool"
        case nn.AdaptiveAvgPool2d():
            return "average over all positions"
        case None:
            called = str(getattr(node.target, "__name__", node.target))
            return "photo" if node.op == "placeholder" else _CALLED.get(called, called)
        case _:
            return type(module).__name__.lower()
