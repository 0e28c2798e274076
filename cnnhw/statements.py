"""Every claim of the book, written down before its study was run.

Never edit a claim whose study has been run: its hash is in the records, and the page would call it post hoc.
"""

from __future__ import annotations

from typing import Any

from cnnhw.claims import Claim

__all__ = ["CLAIMS"]

_POINT = 0.01


def _claim(id: str, statement: str, first: str, second: str, refuted_by: str, **rest: Any) -> Claim:
    settings = {"measure": "accuracy", "direction": "greater", "margin": 0.0, **rest}
    return Claim(
        id=id, statement=statement, first=first, second=second, refuted_by=refuted_by,
        registered="2026-11-24", **settings,
    )  # fmt: skip


def _length(id: str, statement: str, first: str, second: str, refuted_by: str, **rest: Any) -> Claim:
    return _claim(f"i-{id}", statement, first, second, refuted_by, **{"study": "length", **rest})


def _alike(id: str, statement: str, first: str, second: str, study: str) -> Claim:
    refuted_by = "a difference of more than 2.5 points"
    close = {"direction": "equivalent", "margin": 2.5 * _POINT}
    return _claim(id, statement, first, second, refuted_by, study=study, **close)


def _fault(id: str, statement: str, first: str, second: str) -> Claim:
    return _claim(f"fault-{id}", statement, first, second, "an accuracy that is no higher", study="faults")


CLAIMS: tuple[Claim, ...] = (
    _length(
        "two-over-one",
        "In 24 convolutions with batch norm, connections over two are more accurate than connections over one.",
        "d24_span2",
        "d24_span1",
        "connections over one that are at least as accurate",
    ),
    _length(
        "one-is-little",
        "In 24 convolutions with batch norm, connections over one come within 2.5 points of none at all.",
        "d24_span1",
        "d24_plain",
        "connections over one that gain or lose more than 2.5 points",
        direction="equivalent",
        margin=2.5 * _POINT,
    ),
    _length(
        "two-over-plain",
        "In 24 convolutions with batch norm, connections over two gain at least 2 points over none.",
        "d24_span2",
        "d24_plain",
        "a gain of less than 2 points",
        margin=2 * _POINT,
    ),
    _length(
        "three-like-two",
        "In 24 convolutions, connections over three come within 2.5 points of connections over two.",
        "d24_span3",
        "d24_span2",
        "a difference of more than 2.5 points",
        direction="equivalent",
        margin=2.5 * _POINT,
    ),
    _length(
        "two-over-six",
        "In 24 convolutions, connections over two are more accurate than connections over six.",
        "d24_span2",
        "d24_span6",
        "connections over six that are at least as accurate",
    ),
    _length(
        "shallow-needs-none",
        "In 12 convolutions with batch norm, connections over two come within 2.5 points of none.",
        "d12_span2",
        "d12_plain",
        "a difference of more than 2.5 points",
        direction="equivalent",
        margin=2.5 * _POINT,
    ),
    _length(
        "shallow-one-like-two",
        "In 12 convolutions with batch norm, connections over one come within 2.5 points of connections over two.",
        "d12_span1",
        "d12_span2",
        "a difference of more than 2.5 points",
        direction="equivalent",
        margin=2.5 * _POINT,
    ),
    _length(
        "loss-two-plain",
        "In 24 convolutions with batch norm, connections over two lower the training loss, averaged over the epochs.",
        "d24_span2",
        "d24_plain",
        "an average loss that is no lower",
        measure="loss area",
        direction="less",
    ),
    _length(
        "loss-two-one",
        "In 24 convolutions, connections over two lower the average training loss against connections over one.",
        "d24_span2",
        "d24_span1",
        "an average loss that is no lower",
        measure="loss area",
        direction="less",
    ),
    _length(
        "paths-two-one",
        "At the start, the paths that carry the gradient are longer with connections over two than over one.",
        "d24_span2",
        "d24_span1",
        "paths that are no longer",
        measure="path length at start",
        margin=1.0,
    ),
    _length(
        "paths-six-two",
        "At the start, they are longer still with connections over six.",
        "d24_span6",
        "d24_span2",
        "paths that are no longer",
        measure="path length at start",
        margin=3.0,
    ),
    _length(
        "paths-trained",
        "After training, too, the paths are longer with connections over six than over two.",
        "d24_span6",
        "d24_span2",
        "paths that are no longer",
        measure="path length",
    ),
    _length(
        "norm-free",
        "Without batch norm, connections over two gain at least 2 points over none in 24 convolutions.",
        "d24_span2_no_norm",
        "d24_plain_no_norm",
        "a gain of less than 2 points",
        margin=2 * _POINT,
    ),
    _length(
        "lesion",
        "Without two of its convolutions, a network with connections keeps at least 10 points more than a plain one.",
        "d24_span2",
        "d24_plain",
        "an advantage of less than 10 points",
        measure="accuracy without 2 convolutions",
        margin=10 * _POINT,
    ),
    _length(
        "hard-scenes",
        "On hard scenes, connections over six are more accurate than over two: harder problems, longer blocks.",
        "hard_span6",
        "hard_span2",
        "connections over six that are no more accurate",
        study="length_scenes",
    ),
    _length(
        "easy-scenes",
        "On easy scenes, connections over one come within 2.5 points of connections over two.",
        "easy_span1",
        "easy_span2",
        "a difference of more than 2.5 points",
        study="length_scenes",
        direction="equivalent",
        margin=2.5 * _POINT,
    ),
    _alike(
        "ii-accuracy",
        "Transition layers that take the maximum come within 2.5 points of those that average.",
        "average",
        "max",
        study="transition",
    ),
    _claim(
        "ii-consistency",
        "With averaging transitions, predictions change less often when the photo shifts than with the maximum.",
        "average",
        "max",
        "predictions that change as often, or more often",
        study="transition",
        measure="shift consistency",
    ),
    _claim(
        "ii-strided-consistency",
        "With averaging transitions, predictions change less often when the photo shifts than with every second cell.",
        "average",
        "strided",
        "predictions that change as often, or more often",
        study="transition",
        measure="shift consistency",
    ),
    _claim(
        "ii-strided-accuracy",
        "Averaging transitions are more accurate than transitions that take every second cell.",
        "average",
        "strided",
        "an accuracy that is no higher",
        study="transition",
    ),
    _alike(
        "ii-max-order",
        "Taking the maximum before the 1x1 convolution comes within 2.5 points of taking it afterwards.",
        "max_first",
        "max",
        study="transition",
    ),
    _claim(
        "iii-widening-macs",
        "At equal multiply-adds, kernels that widen with depth (3-5-7-7), as the report advises, beat 3x3 throughout.",
        "widening_macs",
        "base",
        "an accuracy that is no higher",
        study="design",
    ),
    _claim(
        "iii-widening-narrowing",
        "At equal multiply-adds, kernels that widen with depth are more accurate than kernels that narrow (7-7-5-3).",
        "widening_macs",
        "narrowing_macs",
        "an accuracy that is no higher",
        study="design",
    ),
    _claim(
        "iii-pairs-fives",
        "At equal multiply-adds, pairs of 3x3 convolutions are more accurate than single 5x5 convolutions.",
        "pairs_macs",
        "fives_macs",
        "an accuracy that is no higher",
        study="design",
    ),
    _claim(
        "iii-widening-parameters",
        "At equal parameters, kernels that widen with depth (3-5-7-7) beat 3x3 throughout.",
        "widening_parameters",
        "base",
        "an accuracy that is no higher",
        study="design",
    ),
    _claim(
        "iii-growth",
        "At equal multiply-adds, channels that double with depth are more accurate than constant ones.",
        "base",
        "constant_macs",
        "an accuracy that is no higher",
        study="design",
    ),
    _alike(
        "iii-growth-rate",
        "At equal multiply-adds, channels that grow by 2.5 a stage come within 2.5 points of channels that double.",
        "fast_growth_macs",
        "base",
        study="design",
    ),
    _alike(
        "iii-hidden",
        "A hidden dense layer of 256 units on the averaged map comes within 2.5 points of none.",
        "average_256",
        "base",
        study="design",
    ),
    _alike(
        "iii-flatten",
        "A flattened map with 256 hidden units comes within 2.5 points of an average without any.",
        "flatten_256",
        "base",
        study="design",
    ),
    # The comparisons of the chapters on speed and on faults; their studies had been run before: all post hoc.
    _claim(
        "speed-whitening",
        "A whitened first layer raises the accuracy of the fast recipe.",
        "fast",
        "no_whitening",
        "an accuracy that is no higher",
        study="fast",
    ),
    _claim(
        "speed-muon",
        "Orthogonalised updates raise the accuracy of the fast recipe, compared with AdamW.",
        "fast",
        "adamw",
        "an accuracy that is no higher",
        study="fast",
    ),
    _alike("speed-resolutions", "Rising resolution costs less than 2.5 points.", "fast", "one_resolution", "fast"),
    _claim(
        "speed-resolutions-time",
        "Rising resolution saves training time.",
        "fast",
        "one_resolution",
        "as much time, or more",
        study="fast",
        measure="seconds",
        direction="less",
    ),
    _alike("speed-bfloat16", "Computing in bfloat16 costs less than 2.5 points.", "fast", "float32", "fast"),
    _claim(
        "speed-bfloat16-time",
        "Computing in bfloat16 saves training time.",
        "fast",
        "float32",
        "as much time, or more",
        study="fast",
        measure="seconds",
        direction="less",
    ),
    _alike("speed-cutout", "In so few epochs, cutout changes less than 2.5 points.", "cutout", "fast", "fast"),
    _fault(
        "head-only",
        "A second stage that trains all layers makes the transfer more accurate than the last layer alone.",
        "trained",
        "head_only",
    ),
    _fault("raw-q1", "Raw pixels lower the accuracy of Q1's network.", "sound", "raw"),
    _fault("raw-q2", "Raw pixels lower the accuracy of Q2's network.", "concat", "concat_raw"),
    _fault("raw-q4", "Raw pixels lower the accuracy of Q4's network.", "inception", "inception_raw"),
    _fault("averaged", "In so few epochs, an averaged map costs Q1's network accuracy.", "sound", "averaged"),
    _fault(
        "averaged-q4",
        "In so few epochs, an averaged map costs Q4's network accuracy.",
        "inception",
        "inception_averaged",
    ),
    _fault("copies", "The concatenated copies raise the accuracy of Q2's network.", "concat", "no_concat"),
    _fault("batch", "Batches of 128 lower it, at equal epochs.", "concat", "concat_128"),
    _fault("scratch", "Transfer is more accurate than training from scratch.", "trained", "scratch"),
    _fault("bgr-target", "Colours exchanged between the two tasks cost accuracy.", "trained", "bgr_target"),
    _alike("fault-bgr", "The same exchange everywhere changes less than 2.5 points.", "bgr", "sound", "faults"),
    _alike(
        "fault-last-tenth",
        "A network that is chosen on photos of one class alone comes within 2.5 points of a sound one.",
        "last_tenth",
        "sound",
        "faults",
    ),
    _alike(
        "fault-old-classifier",
        "Once all layers are trained, a classifier that is left over changes less than 2.5 points.",
        "old_classifier",
        "trained",
        "faults",
    ),
)
