"""How a table of the paper is laid out beside ours: CSV, Markdown and LaTeX of the same cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.evidence import comparisons as tests
from contrastdp.evidence import memorisation
from contrastdp.evidence.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from contrastdp.report import markup, tables
from contrastdp.report.paper_tables import (
    COMPARED,
    MEASURES,
    NOT_GIVEN,
    NOT_RECORDED,
    NOT_RUN,
    OURS_ONLY,
)

LAST = "ours, last checkpoint"
NONE = "–"  # a cell that neither the paper nor we have
Row = Mapping[str, Any]
Cells = tuple[list[str], list[list[str]], list[bool]]  # header, lines, columns set to the right


# ---------------------------------------------------------------- the paper's layout
def lay_out(cells: Sequence[Row]) -> Cells:
    """The paper's table: rows are methods, columns the synthetic sizes with clean and robust.

    cells: of paper_tables.cell_rows. Each method has a line 'paper', a line 'ours', one of the last
    checkpoint where that was attacked, and one of verdicts where any of its cells was run. Arms
    that the paper has no cell for follow, their accuracies in two columns of their own. The last
    column is how near our generators come to their training images, where that was measured.
    Returns header, lines, and which columns are set right.
    """
    printed = [cell for cell in cells if cell["id"] is not None]
    own = [cell for cell in cells if cell["id"] is None]
    sizes = sorted({cell["synthetic"] for cell in printed}, key=_images)
    header = ["Method", "Run"]
    for size in sizes:
        header += [f"{kind}, {'none' if size == '0' else size}" for kind in ("Clean", "Robust")]
    header += ["Clean, ours only", "Robust, ours only"] if own else []
    beside = [NONE, NONE] if own else []
    near = any(cell[memorisation.COLUMNS[0]] is not None for cell in cells)
    header += [memorisation.HEADER] if near else []

    lines = []
    versions = {cell["text_version"] for cell in printed}
    methods = dict.fromkeys((cell["method"], cell["text_version"]) for cell in printed)
    for method, version in methods:
        of_size = {
            cell["synthetic"]: cell
            for cell in printed
            if (cell["method"], cell["text_version"]) == (method, version)
        }
        name = f"{method} ({version})" if len(versions) > 1 else method
        run = [cell for cell in of_size.values() if cell["arm"] is not None]
        parts = {"paper": _paper_value, _ours_label(run): _our_value}
        parts |= {LAST: _last_value} if any(_attacked_last(cell) for cell in run) else {}
        parts |= {"verdict": _short_verdict} if run else {}
        for label, show in parts.items():
            line = [name, label]
            for size in sizes:
                cell = of_size.get(size)
                line += [NONE if cell is None else show(cell, kind) for kind in MEASURES]
            ours = run if show is _our_value else []
            lines.append(line + beside + ([_distances(ours)] if near else []))
    for cell in own:
        counts = f"{_real(cell)} real + {cell['synthetic_used']:,} synthetic"
        line = [cell["title"], f"{OURS_ONLY}{_mark([cell])}, {counts}"]
        line += [NONE] * (2 * len(sizes)) + [_our_value(cell, kind) for kind in MEASURES]
        lines.append(line + ([_distances([cell])] if near else []))
        if _attacked_last(cell):
            line = [cell["title"], LAST] + [NONE] * (2 * len(sizes))
            line += [_last_value(cell, kind) for kind in MEASURES]
            lines.append(line + ([NONE] if near else []))
    return header, lines, [i > 1 for i in range(len(header))]


def _images(size: str) -> int:
    return int(size.rstrip("KM")) * {"K": 1000, "M": 1000000}.get(size[-1], 1)


def _mark(cells: Sequence[Row]) -> str:
    return " (subset)" if any(cell["subset"] == "yes" for cell in cells) else ""


def _ours_label(run: Sequence[Row]) -> str:
    return f"ours{_mark(run)}"


def _paper_value(cell: Row, kind: str) -> str:
    value, std = cell[f"paper_{kind}"], cell[f"paper_{kind}_std"]
    if value is None:
        return NOT_GIVEN
    return f"{value:.2f}" + ("" if std is None else f" ± {std:.2f}")


def _our_value(cell: Row, kind: str) -> str:
    if cell["arm"] is None:
        return NOT_RUN
    mean, std, low, high = (cell[f"{kind}_{part}"] for part in ("mean", "std", "low", "high"))
    spread = "" if std is None else f" ± {std:.2f}"
    count = str(cell["seeds"])
    if cell["id"] is not None and cell["synthetic_used"] != _images(cell["synthetic"]):
        count += f"; {cell['synthetic_used']:,} images"
    return f"{mean:.2f}{spread} [{low:.1f}, {high:.1f}] ({count})"


def _attacked_last(cell: Row) -> bool:
    return cell["last_robust_mean"] is not None


def _last_value(cell: Row, kind: str) -> str:
    value = cell[f"last_{kind}_mean"]
    return NONE if value is None else f"{value:.2f}"


def _distances(cells: Sequence[Row]) -> str:
    """Distances to the nearest training image, each once: a method's sizes share a generator."""
    said = dict.fromkeys(memorisation.text(cell) for cell in cells)
    return "; ".join(text for text in said if text != NONE) or NONE


def _short_verdict(cell: Row, kind: str) -> str:
    return NONE if cell["arm"] is None else cell[f"{kind}_verdict"].split(" (")[0]


def _real(cell: Row) -> str:
    return "0" if cell["train_on"] == "synthetic" else f"{cell['real']:,}"


# ---------------------------------------------------------------- comparisons and runs
def comparison_cells(comparisons: Sequence[Row]) -> Cells:
    """Each arm against its baseline: header, lines of text, columns set right."""
    header = ["Arm", "Against", "Accuracy", "Paper", "Ours", "Pairs", tests.HEADER]
    header += ["Run", "Verdict"]
    lines = []
    for row in comparisons:
        paper, std = row["paper_difference"], row["paper_std"]
        said = NOT_GIVEN if paper is None else markup.signed(paper)
        said += "" if paper is None or std is None else f" ± {std:.2f}"
        ours = NOT_RUN if row["difference"] is None else markup.signed(row["difference"])
        if row["low"] is not None:
            ours += f" [{markup.signed(row['low'])}, {markup.signed(row['high'])}]"
        how = "as printed" if row["settings"] != "reduced" else "reduced"
        how += ", subset" if row["subset"] == "yes" else ""
        lines.append(
            [
                *(row["title"], row["baseline_title"], row["measure"], said, ours),
                *(str(row["pairs"]), tests.p_text(row["holm_p"]), how, row["verdict"]),
            ]
        )
    return header, lines, [name in ("Paper", "Ours", "Pairs", tests.HEADER) for name in header]


def run_cells(cells: Sequence[Row]) -> Cells:
    """Data and network behind each arm, once an arm: header, lines of text, columns set right."""
    header = ["Arm", "In the paper", "Data", "Real", "Synthetic", "Trainer", "eps"]
    header += ["Test images", "Seeds", "Network", "Parameters"]
    lines = {}
    for cell in cells:
        if cell["arm"] is None:
            continue
        ids = [c["id"] for c in cells if c["arm"] == cell["arm"] and c["id"] is not None]
        real = _real(cell)
        if cell["train_on"] == "synthetic":
            real += f" ({cell['real']:,} for the generator)"
        parameters = cell["parameters"]
        lines[cell["arm"]] = [
            *(cell["title"], ", ".join(ids) or OURS_ONLY, cell["data"] + _mark([cell]), real),
            *(f"{cell['synthetic_used']:,}", cell["trainer"], str(cell["eps"])),
            *(_tested(cell), str(cell["seeds"]), cell["network"]),
            NOT_RECORDED if parameters is None else f"{parameters:,}",
        ]
    right = ("Real", "Synthetic", "Test images", "Seeds", "Parameters")
    return header, list(lines.values()), [name in right for name in header]


def _tested(cell: Row) -> str:
    if cell["test"] != cell["n_test"]:
        return f"{cell['n_test']:,} of {cell['test']:,}"
    return f"{cell['n_test']:,}"


# ---------------------------------------------------------------- captions and files
def caption(
    evaluations: tables.Evaluations,
    cells: Sequence[Row],
    *,
    comparable: bool,
    notes: Sequence[str] = (),
) -> str:
    """The caption: what the numbers are, what was not run, data, networks, the attack, notes."""
    printed = [cell for cell in cells if cell["id"] is not None]
    run = [cell for cell in cells if cell["arm"] is not None]
    sentences = ["Accuracy in percent."]
    if printed:
        sentences.append("Paper: as printed (± standard deviation where given).")
    else:
        sentences.append("The paper prints no numbers of this experiment.")
    counts = "seeds; synthetic images where their number is not the paper's" if printed else "seeds"
    sentences.append(
        "Ours: mean ± standard deviation over seeds [95% interval of seeds (t) and test images "
        f"(Wilson) together] ({counts})."
    )
    if any(_attacked_last(cell) for cell in run):
        sentences.append(
            f"{LAST.capitalize()}: mean of the last training step's, attacked likewise; all else "
            "is of the one that validation chose."
        )
    sentences.append(memorisation.sentence(run))
    missing = sum(cell["arm"] is None for cell in printed)
    if missing:
        sentences.append(f"{missing} of the paper's {len(printed)} cells were not run.")
    for data, train, test, subset in dict.fromkeys(
        (cell["data"], cell["train"], cell["test"], cell["subset"]) for cell in run
    ):
        counts = ("" if train is None else f"{train:,} training and ") + f"{test:,} test images"
        if subset == "yes":
            sentences.append(f"Subset: a part of {data} stood for the whole, {counts}.")
        else:
            sentences.append(f"Data: {data}, {counts}.")
    networks = dict.fromkeys(
        (cell["network"], cell["parameters"]) for cell in run if cell["network"] != NOT_RECORDED
    )
    if networks:
        words = (name + (f" ({n:,} parameters)" if n else "") for name, n in networks)
        sentences.append(f"Network: {' or '.join(words)}.")
    sentences += tables.describe_attacks(evaluations.values())
    sentences += tables.attack_warnings(evaluations, {cell["arm"]: cell["title"] for cell in run})
    sentences += notes
    reduced = any("reduced" in cell[f"{kind}_verdict"] for cell in printed for kind in MEASURES)
    if reduced:
        sentences.append(
            "Reduced settings or data: our values are not comparable with the paper's; only the "
            "signs of the differences below are held against its own."
        )
    elif run and not comparable:
        sentences.append("Settings are reduced ones, not the paper's.")
    return " ".join(filter(None, sentences))


def comparison_caption(comparisons: Sequence[Row]) -> str:
    """The caption of the comparisons, with a count of the verdicts."""
    counts = (
        f"{sum(row['verdict'] == verdict for row in comparisons)} {verdict}"
        for verdict in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)
    )
    alone = sum(row["verdict"].startswith(OURS_ONLY) for row in comparisons)
    return (
        "Differences from the baseline in percentage points. Paper: difference of printed values "
        "(± standard deviation of independent rows). Ours: mean over paired seeds [95% t "
        "interval]. The verdict is about the sign; one pair, or pairs that are all alike, tell "
        "nothing: "
        + ", ".join(counts)
        + (f", and {alone} of which the paper gives no difference. " if alone else ". ")
        + tests.sentence(comparisons, COMPARED)
    ).strip()


RUN_CAPTION = "What was run: the data and the network behind each of our values."


def _parts(
    evaluations: tables.Evaluations,
    cells: Sequence[Row],
    comparisons: Sequence[Row],
    comparable: bool,
    notes: Sequence[str],
) -> list[tuple[str, str, Cells]]:
    """Tables in their order: end of the label, caption, and cells; those without lines left out."""
    found = [
        ("", caption(evaluations, cells, comparable=comparable, notes=notes), lay_out(cells)),
        ("_comparisons", comparison_caption(comparisons), comparison_cells(comparisons)),
        ("_runs", RUN_CAPTION, run_cells(cells)),
    ]
    return [part for part in found if part[2][1]]


def markdown(
    evaluations: tables.Evaluations,
    cells: Sequence[Row],
    comparisons: Sequence[Row],
    *,
    comparable: bool,
    notes: Sequence[str] = (),
) -> str:
    """The paper's layout, the comparisons and what was run, each under its caption."""
    parts = _parts(evaluations, cells, comparisons, comparable, notes)
    return "\n".join(f"{text}\n\n{markup.markdown_cells(*laid)}" for _, text, laid in parts)


def latex(
    evaluations: tables.Evaluations,
    cells: Sequence[Row],
    comparisons: Sequence[Row],
    *,
    comparable: bool,
    label: str,
    notes: Sequence[str] = (),
) -> str:
    """The same three tables as LaTeX (booktabs, graphicx); label: of the first, after 'tab:'."""
    parts = _parts(evaluations, cells, comparisons, comparable, notes)
    return "\n".join(
        markup.latex_cells(*laid, text, label + end, fit=True) for end, text, laid in parts
    )
