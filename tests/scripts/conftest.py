"""What the tests of the plotting scripts share."""

import pytest

from contrastdp.report import figures


@pytest.fixture
def drawn(monkeypatch):
    """Figures in the order in which they were saved."""
    kept, save = [], figures.save

    def keep(figure, **paths):
        kept.append(figure)
        save(figure, **paths)

    monkeypatch.setattr(figures, "save", keep)
    return kept
