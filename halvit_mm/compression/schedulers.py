"""Sparsity and rates over the steps of a calibration, counted from 0."""

import math


def gmp_sparsity(step: int, end: int, final: float) -> float:
    """Sparsity of gradual magnitude pruning (FiPS, App. A.2.2).

    A third of the final sparsity at the start, two thirds at a quarter of the
    schedule, all of it at its end: 25, 50 and 75 % in the paper. From the
    quarter on it is the cubic schedule of Kurtic et al. (2023),
    ``s(t) = s - s / 3 (1 - (t - t_a) / (end - t_a))^3``; before, where the
    paper gives both ends only, a straight line.
    """
    third = final / 3
    quarter = end / 4
    if step >= end:
        return final
    if step <= quarter:
        return third * (1 + step / quarter)
    left = 1 - (step - quarter) / (end - quarter)
    return final - third * left**3


def cosine(step: int, end: int, first: float) -> float:
    """Fall from the first value to 0, at ``end``, as half a cosine."""
    if step >= end:
        return 0.0
    return first / 2 * (1 + math.cos(math.pi * step / end))
