"""Can Snakemake read the settings that its command line brings? One line where it cannot.

Snakemake reads --config and --configfile before the Snakefile, so `make` calls this first.
"""

import argparse
import sys

from contrastdp.errors import InputError
from contrastdp.plan.yaml_files import command_line, read_configfile


def main():
    several = {"action": "extend", "default": []}
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-C", "--config", nargs="*", **several)
    parser.add_argument("--configfile", "--configfiles", nargs="+", **several)
    given, _ = parser.parse_known_args()
    command_line(given.config)
    for path in given.configfile:
        read_configfile(path)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error in settings: {error}")
