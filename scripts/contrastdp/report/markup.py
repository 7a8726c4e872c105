"""Cells of tables as Markdown and LaTeX."""

import re
from collections.abc import Iterable, Sequence


def signed(value: float, pattern: str = "{:+.2f}") -> str:
    """A number with its sign, a true minus, and no sign on zero."""
    text = pattern.format(value)
    if "+" in pattern and float(text) == 0:
        text = text[1:]
    return text.replace("-", "−")


def markdown_cells(
    header: Sequence[str], cells: Iterable[Sequence[str]], right: Sequence[bool]
) -> str:
    """Cells of text as a GitHub Markdown table; right: the columns set to the right."""

    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"

    rule = ["--:" if aside else ":--" for aside in right]
    return "\n".join([line(header), line(rule), *map(line, cells)]) + "\n"


def latex_cells(
    header: Sequence[str],
    cells: Iterable[Sequence[str]],
    right: Sequence[bool],
    text: str,
    label: str,
    *,
    fit: bool = False,
) -> str:
    """Cells of text as a LaTeX table (packages: booktabs); text: caption, label: after 'tab:'.

    fit: shrink a table that is wider than the text to its width (package: graphicx).
    """
    shrink = [r"  \resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"]
    align = "".join("r" if aside else "l" for aside in right)

    def line(values: Iterable[str]) -> str:
        return "    " + " & ".join(escape_latex(value) for value in values) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_latex(text)}}}",
            rf"  \label{{tab:{label}}}",
            *(shrink if fit else ()),
            rf"  \begin{{tabular}}{{{align}}}",
            r"    \toprule",
            line(header),
            r"    \midrule",
            *map(line, cells),
            r"    \bottomrule",
            r"  \end{tabular}" + ("}" if fit else ""),
            r"\end{table}",
            "",
        ]
    )


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
        "[": "{[}",  # a row may begin with one, which \\ would take for its argument
        **{character: "\\" + character for character in "&%$#_{}"},
    }
    return re.sub("|".join(map(re.escape, special)), lambda match: special[match[0]], text)
