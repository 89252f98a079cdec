"""``tfcert lsp``, which editors start and speak to, and ``tfcert completion``, which a shell reads."""

from __future__ import annotations

import argparse

from tfcert.errors import ExitCode, UsageError


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes nothing: editors add ``--stdio``, which is how it speaks anyway."""
    parser.add_argument("--stdio", action="store_true", help=argparse.SUPPRESS)


def run_lsp(options: argparse.Namespace) -> int:
    """Serves until the editor ends it, over standard input and output."""
    try:
        from tfcert.editor.server import server
    except ModuleNotFoundError as error:
        if error.name not in ("pygls", "lsprotocol"):
            raise
        raise UsageError("the language server needs pygls: pip install 'tfcert[editor]'") from None
    server.start_io()
    return ExitCode.PASS


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell completes commands")


def run_completion(options: argparse.Namespace) -> int:
    """Prints a script that the shell reads."""
    try:
        import shtab
    except ModuleNotFoundError:
        raise UsageError("completion in a shell needs shtab: pip install 'tfcert[editor]'") from None
    print(shtab.complete(options.parser, options.shell))
    return ExitCode.PASS
