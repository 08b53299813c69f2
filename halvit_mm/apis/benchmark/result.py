"""What a benchmark gave: raw samples and what follows from them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Dict, List, Optional, Tuple

import numpy as np

from .ceilings import Ceilings
from .saved import Saved

__all__ = ['BenchmarkResult', 'VariantResult']


@dataclass
class VariantResult:
    """Of one variant.

    Attributes:
        name: Its name.
        reason: Why it was not measured; empty where it was.
        samples: One a round, phase -> milliseconds a step.
        repeats: Steps that a sample is the mean of.
        first_seconds: Of the first step: compilation, tuning, recording.
        peak_bytes: GPU memory of a step, beyond what is there before it
            (weights, states of the optimiser, inputs); None on CPUs.
        saved: What autograd keeps; None in inference.
    """

    name: str
    reason: str = ''
    samples: List[Dict[str, float]] = field(default_factory=list)
    repeats: int = 0
    first_seconds: Optional[float] = None
    peak_bytes: Optional[int] = None
    saved: Optional[Saved] = None

    #: How the reason of a variant starts that ended with an error.
    FAILED: ClassVar[str] = 'failed, '

    def fail(self, error: str) -> None:
        """Args: error: That ended it. It has no results then."""
        self.reason = self.FAILED + error
        self.first_seconds = self.peak_bytes = self.saved = None

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
        """Median of one phase in milliseconds, or None without it."""
        times = [s[name] for s in self.samples if name in s]
        return float(np.median(times)) if times else None


@dataclass
class BenchmarkResult:
    """Of all variants.

    Attributes:
        case: :meth:`.cases.Case.describe`.
        unit: What throughput counts.
        units: Of a step.
        reference: Variant that the others are compared with.
        variants: Their results.
        environment: Versions, devices, threads, operators.
        command: Command line.
        settings: Rounds and the least length of a sample.
        flops: Operations of a step's products; None where not counted.
        ceilings: Of the device.
    """

    case: Dict
    unit: str
    units: int
    reference: str
    variants: List[VariantResult]
    environment: Dict
    command: List[str]
    settings: Dict
    flops: Optional[int] = None
    ceilings: Optional[Ceilings] = None

    def __getitem__(self, name: str) -> VariantResult:
        """Args: name: Of a variant. Returns: Its result."""
        return next(v for v in self.variants if v.name == name)

    def ratio(self, variant: VariantResult) -> Optional[float]:
        """Its time over that of the reference, by pairs.

        Both were timed in each round, so that what slows a round down slows
        both.

        Args:
            variant: One of :attr:`variants`.

        Returns:
            Median over the rounds; None where one of both was not measured.
        """
        pairs = list(zip(variant.times, self[self.reference].times))
        return float(np.median([a / b for a, b in pairs])) if pairs else None

    def throughput(self, variant: VariantResult) -> Optional[float]:
        """Units a second at the median, without the optimiser."""
        if not variant.quartiles:
            return None
        return self.units / variant.quartiles[1] * 1e3

    def saved_per_channel(self, variant: VariantResult) -> Optional[float]:
        """Saved bytes of activations per token, channel and layer.

        None in inference, and for a detector, which is not made of layers.
        """
        if variant.saved is None or self.case['level'] == 'detector':
            return None
        sizes = self.case['sizes']
        elements = self.case['batch'] * sizes['tokens'] * sizes['width']
        return variant.saved.activations / elements / sizes['layers']

    @property
    def ideal_ms(self) -> Optional[float]:
        """Of the products alone, at the best rate that was measured."""
        if not (self.flops and self.ceilings):
            return None
        return self.flops / self.ceilings.best_tflops / 1e9

    def to_json(self) -> str:
        """Returns: All of it, raw samples included."""
        values = asdict(self)
        values['ceilings'] = self.ceilings and self.ceilings._asdict()
        for values_of, variant in zip(values['variants'], self.variants):
            saved = variant.saved
            values_of['saved'] = saved and saved._asdict()
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> 'BenchmarkResult':
        """Args: text: From :meth:`to_json`. Returns: An equal one."""
        values = json.loads(text)
        if values['ceilings']:
            values['ceilings'] = Ceilings(**values['ceilings'])
        for variant in values['variants']:
            if variant['saved']:
                variant['saved'] = Saved(**variant['saved'])
        values['variants'] = [VariantResult(**v) for v in values['variants']]
        return cls(**values)

    def save(self, path: Path) -> None:
        """Args: path: JSON file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json() + '\n')
