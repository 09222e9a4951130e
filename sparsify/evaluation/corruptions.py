"""Corruptions: images as weather, lenses, sensors and compression leave them, at five severities.

The families are those of Hendrycks and Dietterich, computed anew on tensors of any size, grey or in colour: results
are like those on CIFAR-10-C and ImageNet-C and not comparable with them digit by digit. Severities have two tables,
for images of 32 pixels and of 224, near those of the two data sets where the formula is the same; in between they are
interpolated in the logarithm of the size, above 224 lengths grow with the image, and below 32 they stay (but that of
a motion), for a pixel is the least there is.

Reference: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sparsify.errors import UsageError
from sparsify.evaluation import blurs, digital, noises, weather
from sparsify.evaluation.draws import Draws
from sparsify.spec import nearest

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupt", "named"]

SEVERITIES = (1, 2, 3, 4, 5)
_SMALL, _LARGE = 32, 224

Level = tuple[float, ...]
Levels = tuple[Level, Level, Level, Level, Level]


@dataclass(frozen=True)
class Corruption:
    """A way in which images get worse.

    Attributes:
        family: noise, blur, weather or digital.
        change: from images `[N, C, H, W]` of [0, 1], a level and random numbers to images, which may leave [0, 1].
        small: what it gets at each severity, for images of 32 pixels.
        large: for those of 224.
        lengths: which of these numbers are lengths in pixels.
        colour: it needs three channels.
        shrinks: its lengths get shorter below 32 pixels, too.
    """

    family: str
    change: Callable[[Tensor, Level, Draws], Tensor]
    small: Levels
    large: Levels
    lengths: tuple[int, ...] = ()
    colour: bool = False
    shrinks: bool = False

    def level(self, size: int, severity: int) -> Level:
        """Return what it gets for images whose shorter side has so many pixels."""
        share = min(1.0, max(0.0, math.log(size / _SMALL) / math.log(_LARGE / _SMALL)))
        larger = size / _SMALL if self.shrinks and size < _SMALL else max(1.0, size / _LARGE)
        pairs = zip(self.small[severity - 1], self.large[severity - 1], strict=True)
        return tuple(
            (one + share * (other - one)) * (larger if place in self.lengths else 1.0)
            for place, (one, other) in enumerate(pairs)
        )


def _of(*numbers: float) -> Levels:
    one, two, three, four, five = ((number,) for number in numbers)
    return one, two, three, four, five


_ELASTIC = ((0.008, 0.06), (0.014, 0.06), (0.020, 0.06), (0.028, 0.06), (0.038, 0.06))

CORRUPTIONS: dict[str, Corruption] = {
    "gaussian-noise": Corruption(
        "noise", noises.gaussian_noise, _of(0.04, 0.06, 0.08, 0.09, 0.10), _of(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    "shot-noise": Corruption("noise", noises.shot_noise, _of(500, 250, 100, 75, 50), _of(60, 25, 12, 5, 3)),
    "impulse-noise": Corruption(
        "noise", noises.impulse_noise, _of(0.01, 0.02, 0.03, 0.05, 0.07), _of(0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    "speckle-noise": Corruption(
        "noise", noises.speckle_noise, _of(0.06, 0.10, 0.12, 0.16, 0.20), _of(0.15, 0.20, 0.35, 0.45, 0.60)
    ),
    "gaussian-blur": Corruption("blur", blurs.gaussian_blur, _of(0.4, 0.6, 0.7, 0.8, 1.0), _of(1, 2, 3, 4, 6), (0,)),
    "defocus-blur": Corruption("blur", blurs.defocus_blur, _of(0.7, 0.9, 1.1, 1.4, 1.8), _of(3, 4, 6, 8, 10), (0,)),
    "motion-blur": Corruption(
        "blur", blurs.motion_blur,
        ((2, 1.0), (3, 1.5), (4, 2.0), (5, 2.5), (6, 3.5)), ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), (0, 1),
        shrinks=True,
    ),
    "zoom-blur": Corruption(
        "blur", blurs.zoom_blur, _of(1.06, 1.11, 1.15, 1.21, 1.26), _of(1.11, 1.16, 1.21, 1.26, 1.33)
    ),
    "glass-blur": Corruption(
        "blur", blurs.glass_blur,
        ((0.25, 0.55), (0.28, 0.65), (0.32, 0.8), (0.36, 1.0), (0.4, 1.3)),
        ((0.7, 1.5), (0.9, 2.0), (1.0, 3.0), (1.1, 4.0), (1.5, 5.0)), (0, 1),
    ),
    "fog": Corruption(
        "weather", weather.fog,
        ((0.2, 2.2), (0.5, 2.2), (0.75, 2.2), (1.0, 2.2), (1.5, 2.2)),
        ((1.0, 1.7), (1.5, 1.7), (2.0, 1.7), (2.5, 1.7), (3.2, 1.7)),
    ),
    "frost": Corruption("weather", weather.frost, _of(0.3, 0.45, 0.6, 0.7, 0.8), _of(0.5, 0.65, 0.75, 0.85, 0.95)),
    "snow": Corruption(
        "weather", weather.snow,
        ((0.02, 1, 2, 0.1), (0.04, 1, 2, 0.2), (0.06, 1, 3, 0.25), (0.09, 1, 3, 0.3), (0.12, 1, 3, 0.4)),
        ((0.03, 3, 8, 0.2), (0.06, 3, 10, 0.3), (0.09, 3.5, 12, 0.4), (0.12, 3.5, 12, 0.5), (0.16, 4, 14, 0.6)),
        (1, 2),
    ),
    "brightness": Corruption(
        "weather", weather.brightness, _of(0.05, 0.1, 0.15, 0.2, 0.3), _of(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    "contrast": Corruption("digital", digital.contrast, _of(0.75, 0.5, 0.4, 0.3, 0.15), _of(0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic": Corruption("digital", digital.elastic, _ELASTIC, _ELASTIC),
    "pixelate": Corruption(
        "digital", digital.pixelate, _of(1.15, 1.33, 1.6, 1.8, 2.25), _of(1.67, 2.0, 2.5, 3.33, 4.0), (0,)
    ),
    "jpeg": Corruption("digital", digital.jpeg, _of(80, 65, 58, 50, 40), _of(25, 18, 15, 10, 7)),
    "saturate": Corruption(
        "digital", digital.saturate, _of(1.3, 1.5, 1.8, 2.2, 3.0), _of(1.5, 2.0, 3.0, 5.0, 10.0), colour=True
    ),
}  # fmt: skip


def named(text: str) -> list[str]:
    """Return the corruptions that a text means: `all`, `none`, or names with commas.

    Raises:
        UsageError: there is none of that name.
    """
    if text in ("all", "none"):
        return list(CORRUPTIONS) if text == "all" else []
    names = [word.strip().replace("_", "-") for word in text.split(",") if word.strip()]
    for name in names:
        if name not in CORRUPTIONS:
            raise UsageError(
                f"There is no corruption {name!r}{nearest(name, CORRUPTIONS)}. There are: all, none, "
                f"{', '.join(CORRUPTIONS)}."
            )
    return list(dict.fromkeys(names))


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0, first: int = 0) -> Tensor:
    """Return images with a corruption.

    Args:
        images: `[N, C, H, W]`, floats of [0, 1], with one channel or three.
        name: of the corruption.
        severity: from 1 to 5; 0 leaves images as they are.
        seed: of everything random.
        first: the number of the first image in its data set; the same image gets the same corruption in every batch.

    Returns:
        Images of the same shape and device, in [0, 1].

    Raises:
        UsageError: there is no such corruption or severity, it does not fit, or Pillow is missing.
    """
    (name,) = named(name)
    chosen = CORRUPTIONS[name]
    if severity not in (0, *SEVERITIES):
        raise UsageError(f"A severity is a whole number from 0 to 5, not {severity}.")
    if images.ndim != 4 or not images.is_floating_point() or images.shape[1] not in (1, 3):
        raise UsageError(f"Images are floats [N, 1 or 3, H, W], not {images.dtype} {list(images.shape)}.")
    if chosen.colour and images.shape[1] != 3:
        raise UsageError(f"The corruption {name} needs colours, and these images are grey.")
    if severity == 0 or not len(images):
        return images.clone()
    draws = Draws(name, seed, first, len(images), images.device)
    level = chosen.level(min(images.shape[-2:]), severity)
    return chosen.change(images.float(), level, draws).clamp(0, 1).to(images.dtype)
