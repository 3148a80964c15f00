"""Tables in Markdown, and their place in a page."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table without a line break at its end."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def pasted(page: str, begin: str, end: str, text: str) -> str:
    """Return the page with this text between its markers.

    Raises:
        ValueError: if the page lacks a marker.
    """
    before, is_begun, rest = page.partition(begin)
    _, is_ended, after = rest.partition(end)
    if not is_begun or not is_ended:
        raise ValueError(f"expected the lines {begin} and {end}, in this order")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
