"""Axis inference: types for dimensions. Every dimension of every value of a program gets an axis."""

from __future__ import annotations

from sparsify.axes.axis import Axis
from sparsify.axes.inference import Axes, axes
from sparsify.axes.op import Op, axis_rule

__all__ = ["Axes", "Axis", "Op", "axes", "axis_rule"]
