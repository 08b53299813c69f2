"""Colours to draw classes with, for any number of classes."""

from colorsys import hsv_to_rgb
from typing import List, Tuple

#: Steps of hue and brightness: 1 / p and 1 / p^2 with p^3 = p + 1. Their
#: multiples modulo 1 fill the square evenly, however many there are.
_STEPS = (0.7548776662466927, 0.5698402909980532)


def palette_for(num_classes: int) -> List[Tuple[int, int, int]]:
    """Give every class a colour of its own.

    A class keeps its colour when others are added. mmdet's visualiser takes
    the list as ``metainfo['palette']``; a shorter one is an error to it.

    Args:
        num_classes: Number of classes, at least 0.

    Returns:
        Colours in RGB, 0 to 255, all different.
    """
    colours, index = {}, 0
    while len(colours) < num_classes:
        hue, light = (index * step % 1 for step in _STEPS)
        red, green, blue = hsv_to_rgb(hue, 0.85, 1 - 0.6 * light)
        colour = round(255 * red), round(255 * green), round(255 * blue)
        colours[colour] = index = index + 1
    return list(colours)
