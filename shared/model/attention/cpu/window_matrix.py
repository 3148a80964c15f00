"""Products of queries and memory inside windows: sparse matrices that share a pattern, on a CPU.

A row is a query, its entries are the tokens in its windows; no other product is computed.
Q queries, N memory tokens, W tokens of the windows, D width, S entries of all rows together.
"""

import warnings
from functools import cached_property

import torch
from torch import Tensor

from shared.model.attention.windows.local_windows import LocalWindows


class WindowMatrix:
    """The pattern of one sample.

    Args:
        windows: of the batch.
        sample: number in the batch.
    """

    def __init__(self, windows: LocalWindows, sample: int) -> None:
        self.inside = windows.inside[sample]  # (Q, W)
        self.places = self.inside.flatten().nonzero().squeeze(1)  # (S,), in (Q, W)
        self.columns = windows.tokens[sample].flatten()[self.places]  # (S,), rising inside a row
        self.tokens = windows.cells.layout.tokens
        self.starts = _starts(self.inside.sum(dim=1))

    def products(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return (Q, W): each row's vector (Q, D) times those of its tokens (N, D), else 0."""
        pattern = self._matrix(rows.new_zeros(len(self.columns)))
        products = torch.sparse.sampled_addmm(pattern, rows.contiguous(), tokens.T, beta=0.0)
        spread = rows.new_zeros(self.inside.numel()).index_copy_(0, self.places, products.values())
        return spread.view_as(self.inside)

    def gather(self, entries: Tensor, tokens: Tensor) -> Tensor:
        """Return (Q, D): the sum of each row's tokens (N, D), times its entries (Q, W)."""
        summed: Tensor = self._matrix(entries.flatten()[self.places]) @ tokens
        return summed

    def scatter(self, entries: Tensor, rows: Tensor, *, onto: Tensor) -> None:
        """Add to (N, D), for each token, the sum of the rows (Q, D) with it, times the entries."""
        starts, places, row = self._by_token
        turned = _csr(starts, row, entries.flatten()[places], (self.tokens, len(self.inside)))
        onto.addmm_(turned, rows)

    @cached_property
    def _by_token(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return where each token's entries begin, their places in (Q, W) and their rows."""
        places = self.places[self.columns.argsort()]
        starts = _starts(torch.bincount(self.columns, minlength=self.tokens))
        return starts, places, places // self.inside.shape[1]

    def _matrix(self, entries: Tensor) -> Tensor:
        return _csr(self.starts, self.columns, entries, (len(self.inside), self.tokens))


def _starts(counts: Tensor) -> Tensor:
    """Return where each row's entries begin, and the end of the last."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _csr(starts: Tensor, columns: Tensor, entries: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, entries, size, check_invariants=False)
