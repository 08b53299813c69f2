"""What the checks of annotations have found."""

from typing import Any, List, Sequence


class DataError(ValueError):
    """A data set that cannot be used, with all that is wrong and the cures.

    Args:
        path: The annotation file.
        errors: Sentences, each with its cure.
    """

    def __init__(self, path: str, errors: Sequence[str]) -> None:
        super().__init__('\n  '.join([f'{path} cannot be used:', *errors]))


def some_of(items: Sequence[Any], count: int = 5) -> str:
    """Write the first items of a list, and whether there are more."""
    text = ', '.join(map(str, items[:count]))
    return text + ', ...' * (len(items) > count)


class Findings:
    """Mends, warnings and errors of one annotation file, as sentences.

    Args:
        path: The annotation file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.mended: List[str] = []
        self.warnings: List[str] = []
        self.errors: List[str] = []

    def mend(self, what: str, ids: Sequence[Any]) -> None:
        """Note what was changed in memory, and the ids of the changed."""
        self.mended.append(f'{what} ({len(ids)}; ids {some_of(ids)})')

    def warn(self, what: str) -> None:
        """Note what may be meant and is left as it is."""
        self.warnings.append(what)

    def error(self, what: str) -> None:
        """Note what cannot be mended, with its cure."""
        self.errors.append(what)

    def raise_errors(self) -> None:
        """Raise a :class:`DataError` of the errors, if there are any."""
        if self.errors:
            raise DataError(self.path, self.errors)

    def lines(self) -> List[str]:
        """List the mends and warnings, a line each, with the path."""
        mended = [f'{self.path}: mended: {what}' for what in self.mended]
        return mended + [f'{self.path}: {what}' for what in self.warnings]
