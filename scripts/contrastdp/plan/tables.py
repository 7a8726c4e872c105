"""Tables of results as rows of tables.tsv: what each compares, shows and is attacked by."""

from collections.abc import Mapping, Sequence

from contrastdp.errors import InputError
from contrastdp.plan.captions import FIGURES, SOLE, THEORY
from contrastdp.plan.settings import Row, check_name, choose, parse_rows

# kind: ours, or beside one of the paper's; dataset, printed: the printed table that lays it out;
# attack: the setting that names its version; chosen_by: settings may be chosen by it, so it is of
# held-out training images; figures: of captions.FIGURES, and 'theory' for section 3; those in SOLE
# stand in one table, of whose arms they are.
COLUMNS = {
    "table": str,
    "title": str,
    "kind": str,
    "dataset": str,
    "printed": str,
    "attack": str,
    "chosen_by": bool,
    "figures": str,
    "audited": bool,
}
WORDS = {"kind": ("ours", "paper"), "attack": ("version", "ablations")}


def read_tables(rows: Sequence[Mapping[str, str]], where: str) -> dict[str, Row]:
    """Rows of tables.tsv by name, checked; InputError names `where`, the line and the column."""
    parsed = parse_rows(rows, COLUMNS, ["table"], where)
    shown: dict[str, str] = {}
    for line, row in enumerate(parsed, 2):
        place = f"{where}, line {line} ({row['table']})"
        check_name(row["table"], f"{where}, line {line}, table")
        for column in ("title", *WORDS, "chosen_by", "audited"):
            if row[column] is None:
                raise InputError(f"{place}: {column} is empty; fill it in")
        for column, words in WORDS.items():
            choose(row[column], words, column, place)
        for figure in (row["figures"] or "").split():
            choose(figure, (*FIGURES, THEORY), "figure", place)
            if figure in SOLE and shown.setdefault(figure, row["table"]) != row["table"]:
                raise InputError(
                    f"{place}: the figure '{figure}' is that of table '{shown[figure]}' alone; "
                    "name it once"
                )
        if (row["dataset"] is None) != (row["printed"] is None):
            raise InputError(f"{place}: give both dataset and printed, or neither")
    if not parsed:
        raise InputError(f"{where}: has no table; restore the file")
    return {row["table"]: row for row in parsed}
