"""How a table of the paper is laid out beside ours: CSV, Markdown and LaTeX of the same cells."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from contrastdp.evidence import comparisons as tests
from contrastdp.evidence import memorisation
from contrastdp.evidence.claims import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from contrastdp.frames import as_rows
from contrastdp.report import markup, tables
from contrastdp.report.markup import NONE, interval, shown, spread
from contrastdp.report.paper_tables import (
    COMPARED,
    NOT_GIVEN,
    NOT_RECORDED,
    NOT_RUN,
    OURS_ONLY,
    images_of,
)
from contrastdp.report.tables import MEASURES

LAST = "ours, last checkpoint"
Row = Mapping[str, Any]
Cells = tuple[pd.DataFrame, list[str]]  # text, and the columns that are set to the right


# ---------------------------------------------------------------- the paper's layout
def lay_out(table: pd.DataFrame) -> Cells:
    """The paper's table: rows are methods, columns the synthetic sizes with clean and robust.

    table: of paper_tables.cell_table. Each method has a line 'paper', a line 'ours', one of the
    last checkpoint where that was attacked, and one of verdicts where any of its cells was run.
    Arms that the paper has no cell for follow, their accuracies in two columns of their own. The
    last column is how near our generators come to their training images, where that was measured.
    """
    cells = as_rows(table)
    printed = [cell for cell in cells if cell["id"] is not None]
    own = [cell for cell in cells if cell["id"] is None]
    sizes = sorted({cell["synthetic"] for cell in printed}, key=lambda size: images_of(size) or 0)
    header = ["Method", "Run"]
    for size in sizes:
        header += [f"{kind}, {'none' if size == '0' else size}" for kind in ("Clean", "Robust")]
    header += ["Clean, ours only", "Robust, ours only"] if own else []
    beside = [NONE, NONE] if own else []
    near = table["nearest_mean"].notna().any()
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
    return pd.DataFrame(lines, columns=header), header[2:]


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
    if cell["id"] is not None and cell["synthetic_used"] != images_of(cell["synthetic"]):
        count += f"; {cell['synthetic_used']:,} images"
    return f"{mean:.2f}{spread} [{low:.1f}, {high:.1f}] ({count})"


def _attacked_last(cell: Row) -> bool:
    return cell["last_robust_mean"] is not None


def _last_value(cell: Row, kind: str) -> str:
    value = cell[f"last_{kind}_mean"]
    return NONE if value is None else f"{value:.2f}"


def _distances(cells: Sequence[Row]) -> str:
    """Distances to the nearest training image, each once: a method's sizes share a generator."""
    values = (cell["nearest_mean"] for cell in cells)
    return "; ".join(dict.fromkeys(f"{v:.2f}" for v in values if v is not None)) or NONE


def _short_verdict(cell: Row, kind: str) -> str:
    return NONE if cell["arm"] is None else cell[f"{kind}_verdict"].split(" (")[0]


def _real(cell: Row) -> str:
    return "0" if cell["train_on"] == "synthetic" else f"{cell['real']:,}"


# ---------------------------------------------------------------- comparisons and runs
def comparison_cells(comparisons: pd.DataFrame) -> Cells:
    """Each arm against its baseline."""
    paper = spread(comparisons["paper_difference"], comparisons["paper_std"], "{:+.2f}")
    ours = shown(comparisons["difference"], "{:+.2f}")
    run = pd.Series("as printed", comparisons.index)
    subset = pd.Series("", comparisons.index).mask(comparisons["subset"] == "yes", ", subset")
    cells = {
        "Arm": comparisons["title"],
        "Against": comparisons["baseline_title"],
        "Accuracy": comparisons["measure"],
        "Paper": paper.fillna(NOT_GIVEN),
        "Ours": (ours + interval(comparisons["low"], comparisons["high"], "{:+.2f}")).fillna(
            NOT_RUN
        ),
        "Pairs": comparisons["pairs"],
        tests.HEADER: comparisons["holm_p"].map(tests.p_text, na_action="ignore"),
        "Run": run.mask(comparisons["settings"] == "reduced", "reduced") + subset,
        "Verdict": comparisons["verdict"],
    }
    return pd.DataFrame(cells), ["Paper", "Ours", "Pairs", tests.HEADER]


def run_cells(table: pd.DataFrame) -> Cells:
    """Data and network behind each arm, once an arm."""
    cells = table.dropna(subset="arm").drop_duplicates("arm")
    ids = table.dropna(subset=["arm", "id"]).groupby("arm")["id"].agg(", ".join)
    lines = as_rows(cells)
    columns = {
        "Arm": cells["title"],
        "In the paper": cells["arm"].map(ids).astype("str").fillna(OURS_ONLY),
        "Data": [cell["data"] + _mark([cell]) for cell in lines],
        "Real": [
            _real(cell)
            + (f" ({cell['real']:,} for the generator)" if cell["train_on"] == "synthetic" else "")
            for cell in lines
        ],
        "Synthetic": shown(cells["synthetic_used"], "{:,}"),
        "Trainer": cells["trainer"],
        "eps": cells["eps"].astype("str"),
        "Test images": [
            f"{cell['n_test']:,}"
            + ("" if cell["test"] == cell["n_test"] else f" of {cell['test']:,}")
            for cell in lines
        ],
        "Seeds": cells["seeds"],
        "Network": cells["network"],
        "Parameters": shown(cells["parameters"], "{:,}").fillna(NOT_RECORDED),
    }
    return pd.DataFrame(columns), ["Real", "Synthetic", "Test images", "Seeds", "Parameters"]


# ---------------------------------------------------------------- captions and files
def caption(
    evaluations: tables.Evaluations,
    cells: pd.DataFrame,
    *,
    comparable: bool,
    notes: Sequence[str] = (),
) -> str:
    """The caption: what the numbers are, what was not run, data, networks, the attack, notes."""
    printed, run = cells.dropna(subset="id"), cells.dropna(subset="arm")
    sentences = ["Accuracy in percent."]
    if len(printed):
        sentences.append("Paper: as printed (± standard deviation where given).")
    else:
        sentences.append("The paper prints no numbers of this experiment.")
    counts = "seeds; synthetic images where their number is not the paper's"
    counts = counts if len(printed) else "seeds"
    sentences.append(
        "Ours: mean ± standard deviation over seeds [95% interval of seeds (t) and test images "
        f"(Wilson) together] ({counts})."
    )
    if run["last_robust_mean"].notna().any():
        sentences.append(
            f"{LAST.capitalize()}: mean of the last training step's, attacked likewise; all else "
            "is of the one that validation chose."
        )
    sentences.append(memorisation.sentence(run))
    if missing := printed["arm"].isna().sum():
        sentences.append(f"{missing} of the paper's {len(printed)} cells were not run.")
    for part in as_rows(run[["data", "train", "test", "subset"]].drop_duplicates()):
        counts = "" if part["train"] is None else f"{part['train']:,} training and "
        counts += f"{part['test']:,} test images"
        if part["subset"] == "yes":
            sentences.append(f"Subset: a part of {part['data']} stood for the whole, {counts}.")
        else:
            sentences.append(f"Data: {part['data']}, {counts}.")
    networks = run.loc[run["network"] != NOT_RECORDED, ["network", "parameters"]]
    networks = networks.drop_duplicates()
    if len(networks):
        sizes = " (" + shown(networks["parameters"], "{:,}") + " parameters)"
        words = networks["network"] + sizes.fillna("")
        sentences.append(f"Network: {' or '.join(words)}.")
    sentences += tables.describe_attacks(evaluations.values())
    titles = dict(zip(run["arm"], run["title"], strict=True))
    sentences += tables.attack_warnings(evaluations, titles)
    sentences += notes
    if any(printed[f"{kind}_verdict"].str.contains("reduced").any() for kind in MEASURES):
        sentences.append(
            "Reduced settings or data: our values are not comparable with the paper's; only the "
            "signs of the differences below are held against its own."
        )
    elif len(run) and not comparable:
        sentences.append("Settings are reduced ones, not the paper's.")
    return " ".join(filter(None, sentences))


def comparison_caption(comparisons: pd.DataFrame) -> str:
    """The caption of the comparisons, with a count of the verdicts."""
    counts = (
        f"{(comparisons['verdict'] == verdict).sum()} {verdict}"
        for verdict in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)
    )
    alone = comparisons["verdict"].str.startswith(OURS_ONLY).sum()
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
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
    comparable: bool,
    notes: Sequence[str],
) -> list[tuple[str, str, Cells]]:
    """Tables in their order: end of the label, caption, and cells; those without lines left out."""
    found = [
        ("", caption(evaluations, cells, comparable=comparable, notes=notes), lay_out(cells)),
        ("_comparisons", comparison_caption(comparisons), comparison_cells(comparisons)),
        ("_runs", RUN_CAPTION, run_cells(cells)),
    ]
    return [part for part in found if len(part[2][0])]


def markdown(
    evaluations: tables.Evaluations,
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
    *,
    comparable: bool,
    notes: Sequence[str] = (),
) -> str:
    """The paper's layout, the comparisons and what was run, each under its caption."""
    parts = _parts(evaluations, cells, comparisons, comparable, notes)
    return "\n".join(f"{text}\n\n{markup.markdown(*laid)}" for _, text, laid in parts)


def latex(
    evaluations: tables.Evaluations,
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
    *,
    comparable: bool,
    label: str,
    notes: Sequence[str] = (),
) -> str:
    """The same three tables as LaTeX (booktabs, graphicx); label: of the first, after 'tab:'."""
    parts = _parts(evaluations, cells, comparisons, comparable, notes)
    return "\n".join(markup.latex(*laid, text, label + end, fit=True) for end, text, laid in parts)
