"""docs/settings.md: every setting and every column of the sheets, as the schema describes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from contrastdp.plan.settings import described

Entry = Mapping[str, Any]

HEAD = """\
# Every setting

Made from `config/schema.yaml` by `make settings`; a test holds it against the schema. Settings come
in layers, later over earlier: `config/config.yaml`, `config/datasets/<name>.yaml`,
`config/scales/<scale>.yaml`, `--configfile` and `--config`. A cell of `config/generators.tsv` or
`config/arms.tsv` stands over its setting. `make show ARM=<name> SCALE=<scale>` prints what an
arm's settings come to, and where each comes from.
"""
PARTS = {
    "sections": ("Settings of every data set", "Of any layer. `<name>` is a name of your choice."),
    "run": ("Settings of a run", "Of `config.yaml`, a scale's file or the command line."),
    "dataset": ("Data sets", "Of `config/datasets/<name>.yaml`, and of a scale's `datasets`."),
    "scale_file": ("Scales", "Of `config/scales/<scale>.yaml` alone."),
    "trace": ("The command line alone", ""),
    "theory": ("Section 3", "Of `config/theory.yaml`, under `theory`."),
}
SIZES = {
    "networks": ("Classifiers", "Sizes of each `architecture`; those in bold must be given."),
    "noise_predictors": ("Denoisers", "Likewise."),
}
SHEETS = {
    "generator": ("Columns of generators.tsv", "An empty cell takes the default."),
    "arm": ("Columns of arms.tsv", "Likewise."),
    "measured": ("Columns of measured.tsv", "Generators that are measured and not trained on."),
}

WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "settings",
    "null": "null",
}


def page(definitions: Entry) -> str:
    """The page's Markdown; definitions: the schema's $defs."""
    parts = [HEAD]
    for name, (title, text) in (PARTS | SHEETS).items():
        rows = [(setting, entry, False) for setting, entry in listed(definitions, name)]
        parts.append(_section(definitions, title, text, rows))
    for name, (title, text) in SIZES.items():
        rows = [
            (
                f"{architecture}.{size}",
                described(definitions, entry),
                size in own.get("required", ()),
            )
            for architecture, own in definitions[name].items()
            for size, entry in own["properties"].items()
        ]
        parts.append(_section(definitions, title, text, rows))
    return "\n".join(parts)


def listed(definitions: Entry, part: str) -> list[tuple[str, dict[str, Any]]]:
    """(dotted name, entry) of each setting of a part of the schema, depth first."""
    return list(_listed(definitions, definitions[part]))


def _listed(
    definitions: Entry, entries: Entry, place: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, raw in entries.items():
        entry, name = described(definitions, raw), f"{place}{key}"
        inner = entry.get("properties", {})
        if isinstance(entry.get("additionalProperties"), Mapping):
            inner = {"<name>": entry["additionalProperties"]}
        if not inner or "description" in entry:
            yield name, entry
        if entry.get("additionalProperties") is not True:
            yield from _listed(definitions, inner, f"{name}.")


def _section(
    definitions: Entry, title: str, text: str, rows: list[tuple[str, dict[str, Any], bool]]
) -> str:
    lines = [f"## {title}", "", *([text, ""] if text else [])]
    lines += ["| setting | type | meaning |", "| --- | --- | --- |"]
    for name, entry, required in rows:
        shown = f"**`{name}`**" if required else f"`{name}`"
        meaning = entry.get("description", "").replace("|", "\\|")
        lines.append(f"| {shown} | {_kind(definitions, entry)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _kind(definitions: Entry, raw: Entry) -> str:
    """Type and range of an entry, in words."""
    entry = described(definitions, raw)
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if "oneOf" in entry:
        return " or ".join(_kind(definitions, option) for option in entry["oneOf"])
    if entry["type"] == "array":
        return f"list of {_kind(definitions, entry['items'])}" if "items" in entry else "list"
    kinds = [entry["type"]] if isinstance(entry["type"], str) else entry["type"]
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    told = [f"{sign} {entry[key]}" for key, sign in limits.items() if key in entry]
    told += [f"a multiple of {entry['multipleOf']}"] if "multipleOf" in entry else []
    return f"{' or '.join(WORDS[kind] for kind in kinds)} {', '.join(told)}".strip()
