"""One table for the screen and for Markdown."""

from typing import Dict, List, Optional, Sequence


class Table:
    """Rows of text under the names of their columns.

    ``print`` shows it on the screen, ``str`` gives Markdown.

    Args:
        rows: Column -> text for each row. A missing cell is shown as ``-``.
        title: What stands above the table on the screen.
        columns: The columns in order; by default all that the rows have.
    """

    def __init__(
        self,
        rows: Sequence[Dict[str, str]],
        title: str = '',
        columns: Optional[Sequence[str]] = None,
    ) -> None:
        self.title = title
        names = (name for row in rows for name in row)
        self.columns = list(columns or dict.fromkeys(names))
        self.cells: List[List[str]] = [
            [row.get(name, '-') for name in self.columns] for row in rows
        ]

    def print(self) -> None:
        """Print to standard output, as wide as the table is."""
        # Markdown is also written where only PyTorch is installed.
        from rich import table as rich_table
        from rich.console import Console
        from rich.text import Text

        table = rich_table.Table(title=self.title or None)
        for i, name in enumerate(self.columns):
            justify = 'right' if i else 'left'
            table.add_column(Text(name), justify=justify, no_wrap=True)
        for row in self.cells:
            table.add_row(*map(Text, row))
        width = Console(width=10_000).measure(table).maximum
        Console(width=max(80, width)).print(table)

    def __str__(self) -> str:
        """Write the table in Markdown, without its title."""
        lines = [self.columns, ['---'] * len(self.columns), *self.cells]
        escaped = ([cell.replace('|', r'\|') for cell in x] for x in lines)
        return '\n'.join(f'| {" | ".join(cells)} |' for cells in escaped)
