"""The command `sparsify doctor`."""

from __future__ import annotations

from sparsify.console import out, print_json, progress
from sparsify.options import AsJson

__all__ = ["doctor"]

_SIGNS = {"works": "[green]✓[/]", "missing": "[dim]·[/]", "broken": "[red]✗[/]"}


def doctor(*, as_json: AsJson = False) -> None:
    """Show versions, devices, and which runtimes, kernels and extras can be used here; each is tried."""
    from sparsify.doctor import examine

    with progress() as show:
        show("trying what is there")
        found = examine()
    if as_json:
        print_json([finding.as_dict() for finding in found])
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for finding in found:
        style = {"works": "", "missing": "dim", "broken": "red"}[finding.state]
        table.add_row(finding.part if finding.part != before else "", _SIGNS[finding.state], finding.name,
                      escape(finding.text), style=style)  # fmt: skip
        before = finding.part
    out.print(table, highlight=False)
    out.print("✓ works, · is not here, ✗ is here and does not work", style="dim", highlight=False)
