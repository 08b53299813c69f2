"""The result of a benchmark: raw samples and what follows from them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Dict, List, Optional, Tuple

import numpy as np

from .roofline import Roofline
from .saved import Saved


@dataclass
class VariantResult:
    """What was measured of one variant.

    Attributes:
        name: Its name.
        reason: Why it was not measured; empty if it was.
        samples: For each round: phase -> milliseconds of a step.
        repeats: A sample is the mean of so many steps.
        first_seconds: Time of the first step, with compilation.
        peak_bytes: GPU memory that a step needs beyond what is there before
            it (weights, states of the optimiser, inputs); None on CPUs.
        saved: What autograd keeps; None in inference.
    """

    name: str
    reason: str = ''
    samples: List[Dict[str, float]] = field(default_factory=list)
    repeats: int = 0
    first_seconds: Optional[float] = None
    peak_bytes: Optional[int] = None
    saved: Optional[Saved] = None

    #: How the reason of a variant begins that ended with an error.
    FAILED: ClassVar[str] = 'failed, '

    @property
    def failed(self) -> bool:
        """Whether it should have run but did not."""
        return self.reason.startswith(self.FAILED)

    @property
    def times(self) -> List[float]:
        """Milliseconds of each round, without the optimiser."""
        return [
            sum(ms for phase, ms in sample.items() if phase != 'optimiser')
            for sample in self.samples
        ]

    @property
    def quartiles(self) -> Optional[Tuple[float, float, float]]:
        """Lower quartile, median and upper quartile of :attr:`times`."""
        if not self.samples:
            return None
        return tuple(float(q) for q in np.percentile(self.times, (25, 50, 75)))

    def phase(self, name: str) -> Optional[float]:
        """Median milliseconds of one phase, None if it has no such phase."""
        times = [s[name] for s in self.samples if name in s]
        return float(np.median(times)) if times else None


@dataclass
class BenchmarkResult:
    """What was measured of all variants of a case.

    Attributes:
        case: From :meth:`.cases.Case.describe`.
        reference: The variant that the others are compared with.
        variants: Their results.
        environment: Versions, device, threads, operators.
        command: The command line.
        settings: Number of rounds and least length of a sample.
        flops: Operations of a step's matrix products; None if not counted.
        roofline: Rates of the device; None if not measured.
    """

    case: Dict
    reference: str
    variants: List[VariantResult]
    environment: Dict
    command: List[str]
    settings: Dict
    flops: Optional[int] = None
    roofline: Optional[Roofline] = None

    def __getitem__(self, name: str) -> VariantResult:
        """Get the result of a variant by its name."""
        return next(v for v in self.variants if v.name == name)

    def ratio(self, variant: VariantResult) -> Optional[float]:
        """Compare a variant with the reference, round by round.

        What slows a round down slows both.

        Args:
            variant: One of :attr:`variants`.

        Returns:
            The median ratio of their times; None if one has none.
        """
        pairs = list(zip(variant.times, self[self.reference].times))
        return float(np.median([a / b for a, b in pairs])) if pairs else None

    def saved_per_channel(self, variant: VariantResult) -> Optional[float]:
        """Saved bytes of activations per token, channel and layer, or None.

        A detector has other parts than layers.
        """
        if variant.saved is None or self.case['level'] == 'detector':
            return None
        sizes = self.case['sizes']
        elements = self.case['batch'] * sizes['tokens'] * sizes['width']
        return variant.saved.activations / elements / sizes['layers']

    @property
    def ideal_ms(self) -> Optional[float]:
        """Time of the matrix products alone, at the best measured rate."""
        if not (self.flops and self.roofline):
            return None
        return self.flops / self.roofline.best_tflops / 1e9

    def save(self, path: Path) -> None:
        """Write everything to a JSON file, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + '\n')

    @classmethod
    def load(cls, path: Path) -> 'BenchmarkResult':
        """Read a file that :meth:`save` wrote."""
        values = json.loads(path.read_text())
        if values['roofline']:
            values['roofline'] = Roofline(**values['roofline'])
        for variant in values['variants']:
            if variant['saved']:
                variant['saved'] = Saved(**variant['saved'])
        values['variants'] = [VariantResult(**v) for v in values['variants']]
        return cls(**values)
