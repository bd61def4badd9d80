"""The command line: parse, call one verb, print.

`remanence --help` must answer at once, so nothing is imported before it is needed: `root` holds the names of all
commands and their one-line helps, and loads a command's module when that command runs. No module here imports rich, a
database, a model or the HTTP server at its top.

    root        the table of commands, and what happens to an error
    command     what every command shares: the common options, `-o`, the settings, the open runtime
    output      tables and JSON; `shapes`: what the JSON looks like
    watching    following one session until it rests; `lines`: a journal record in one line
"""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """The entry point `remanence`. Never returns: leaves with an exit code."""
    # What is imported stays: with the interpreter's own threshold the collector looks at it hundreds of times.
    gc.set_threshold(20_000, 20, 50)
    from remanence.cli.root import remanence

    try:
        remanence.main(prog_name="remanence")
    except SystemExit as ended:
        leaving = sys.modules.get("remanence.cli.leaving")
        if leaving is not None:
            leaving.go(ended.code if isinstance(ended.code, int) else 0)
        raise
