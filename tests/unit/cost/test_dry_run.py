"""Jobs of a dry run, whatever Snakemake prints of them."""

import pytest

from contrastdp.cost.dry_run import planned
from contrastdp.errors import InputError

SNAKEFILE = """
rule all:
    input: "gtsrb/gtsrb_ddpm/a=1, b=2.npz", "toy.png"
rule attack_shard:
    input: "toy.png"
    output: "{dataset}/{arm}/{shard}.npz"
    message: "Attacks {wildcards.shard}"
    shell: "touch {output}"
rule plot_toy:
    output: "toy.png"
    shell: "touch {output}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    return tmp_path


def test_jobs_have_their_rules_and_wildcards_and_targets_have_none(folder):
    wildcards = {"dataset": "gtsrb", "arm": "gtsrb_ddpm", "shard": "a=1, b=2"}
    expected = [("all", None), ("attack_shard", wildcards), ("plot_toy", {})]
    assert sorted(planned([], folder=folder), key=str) == sorted(expected, key=str)
    assert planned(["toy.png", "--quiet", "all"], folder=folder) == [("plot_toy", {})]


def test_what_is_done_is_not_counted(folder):
    (folder / "toy.png").touch()
    assert planned(["toy.png"], folder=folder) == []


def test_a_dry_run_that_fails_is_told_with_snakemakes_words(folder, capsys):
    with pytest.raises(InputError, match=r"^the dry run failed; the lines above say why$"):
        planned(["nowhere"], folder=folder)
    assert "nowhere" in capsys.readouterr().err
