"""Frames as Markdown and LaTeX, and the text of their cells."""

import re
from collections.abc import Collection, Iterable
from functools import partial

import pandas as pd

NONE = "–"  # a cell that has nothing to show


# ---------------------------------------------------------------- text of cells
def signed(value: float, pattern: str = "{:+.2f}") -> str:
    """A number with its sign, a true minus, and no sign on zero."""
    text = pattern.format(value)
    if "+" in pattern and float(text) == 0:
        text = text[1:]
    return text.replace("-", "−")


def shown(column: pd.Series, pattern: str) -> pd.Series:
    """The numbers of a column as signed text; an empty cell stays empty."""
    return column.map(partial(signed, pattern=pattern), na_action="ignore").astype("str")


def interval(low: pd.Series, high: pd.Series, pattern: str) -> pd.Series:
    """' [low, high]' of each row; no text where there is no interval."""
    return (" [" + shown(low, pattern) + ", " + shown(high, pattern) + "]").fillna("")


def spread(mean: pd.Series, std: pd.Series, pattern: str) -> pd.Series:
    """'mean ± std' of each row, the mean alone where there is no spread, empty without a mean."""
    return shown(mean, pattern) + (" ± " + shown(std, pattern.replace("+", ""))).fillna("")


# ---------------------------------------------------------------- tables
def markdown(cells: pd.DataFrame, right: Collection[str] = ()) -> str:
    """Cells as a GitHub Markdown table; right: the columns set to the right. Empty cells are –."""

    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    rule = ["--:" if name in right else ":--" for name in cells]
    return "\n".join([line(cells), line(rule), *map(line, _text(cells))]) + "\n"


def latex(
    cells: pd.DataFrame,
    right: Collection[str],
    caption: str,
    label: str,
    *,
    fit: bool = False,
    wide: bool = False,
) -> str:
    """Cells as a LaTeX table (packages: booktabs); label: after 'tab:'. Empty cells are –.

    fit: shrink a table that is wider than the text to its width (package: graphicx); wide: over
    both columns of a page.
    """
    shrink = [r"  \resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"]
    align = "".join("r" if name in right else "l" for name in cells)
    kind = "table*" if wide else "table"

    def line(values: Iterable[str]) -> str:
        return "    " + " & ".join(escape_latex(value) for value in values) + r" \\"

    return "\n".join(
        [
            rf"\begin{{{kind}}}",
            r"  \centering",
            rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{tab:{label}}}",
            *(shrink if fit else ()),
            rf"  \begin{{tabular}}{{{align}}}",
            r"    \toprule",
            line(cells),
            r"    \midrule",
            *map(line, _text(cells)),
            r"    \bottomrule",
            r"  \end{tabular}" + ("}" if fit else ""),
            rf"\end{{{kind}}}",
            "",
        ]
    )


def _text(cells: pd.DataFrame) -> Iterable[Iterable[str]]:
    return cells.astype("str").fillna(NONE).itertuples(index=False, name=None)


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it: special characters escaped, ± and − as mathematics."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "–": "--",
        "λ": r"$\lambda$",
        "ε": r"$\varepsilon$",
        "°": r"$^\circ$",
        "†": r"$^\dagger$",
        "[": "{[}",  # a row may begin with one, which \\ would take for its argument
        **{character: "\\" + character for character in "&%$#_{}"},
    }
    return re.sub("|".join(map(re.escape, special)), lambda match: special[match[0]], text)
