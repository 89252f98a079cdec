"""A language server for specifications: ``tfcert lsp``, which editors start. It needs the extra ``tfcert[editor]``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from tfcert.driver.bind import load_text
from tfcert.editor.help import completions, hover
from tfcert.editor.symbols import Symbol, Symbols
from tfcert.language import Diagnostic, Spec, SpecError
from tfcert.language.text.diagnostics import Diagnostics, SourceText, Span
from tfcert.language.text.layout import formatted
from tfcert.language.text.names import can_be_quoted, written

_KINDS = {
    "stage (attack)": lsp.CompletionItemKind.Function,
    "stage (bound)": lsp.CompletionItemKind.Function,
    "stage (solver)": lsp.CompletionItemKind.Function,
    "source of samples": lsp.CompletionItemKind.Function,
    "format of models": lsp.CompletionItemKind.Function,
    "option": lsp.CompletionItemKind.Property,
    "choice": lsp.CompletionItemKind.EnumMember,
    "class or output": lsp.CompletionItemKind.EnumMember,
    "word": lsp.CompletionItemKind.Keyword,
}


_Placed = lsp.DefinitionParams | lsp.ReferenceParams | lsp.RenameParams | lsp.PrepareRenameParams


@dataclass
class _Known:
    """What is known of a document: what it means and the names of the last text that parsed."""

    spec: Spec | None = None
    symbols: Symbols | None = None


class PropServer(LanguageServer):
    """The server; its state is what it last knew of each document."""

    def __init__(self) -> None:
        super().__init__("tfcert", version("tfcert"), text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.known: dict[str, _Known] = {}

    def text(self, uri: str) -> str:
        """The text of a document as the editor has it."""
        return self.workspace.get_text_document(uri).source

    def check(self, uri: str) -> None:
        """Looks for mistakes in a document, and tells the editor of them."""
        text, known = self.text(uri), self.known.setdefault(uri, _Known())
        path = to_fs_path(uri) or "untitled.prop"
        known.symbols = Symbols.of(text) or known.symbols
        try:
            known.spec = load_text(text, path, None, None)
            found = known.spec.warnings
        except SpecError as error:
            known.spec, found = None, error.diagnostics
        shown = [_diagnostic(d, path, text) for d in found]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, shown))

    def symbol(self, params: _Placed) -> tuple[Symbols, Symbol, Span] | None:
        """The names of a document, and what the one at a place stands for, if there is one."""
        known = self.known.get(params.text_document.uri)
        if known is None or known.symbols is None:
            return None
        line, column = _place(params.position, self.text(params.text_document.uri))
        found = known.symbols.at(line, column)
        return None if found is None else (known.symbols, *found)


def _diagnostic(d: Diagnostic, path: str, text: str) -> lsp.Diagnostic:
    """A finding as editors show it; one in an imported text stands at the first line, with its place in words."""
    own = d.source.filename == path
    message = d.message + (f"\n{d.fix}" if d.fix else "") + (f"\n{d.note}" if d.note else "")
    return lsp.Diagnostic(
        range=_range(d.span, text) if own else _range(Span(), text),
        message=message if own else f"{d.source.filename}:{d.line}: {message}",
        severity=lsp.DiagnosticSeverity.Error if d.is_error else lsp.DiagnosticSeverity.Warning,
        code=d.code,
        source="tfcert",
    )


def _range(span: Span, text: str) -> lsp.Range:
    """A stretch of text in the units of the protocol: lines from 0, columns in UTF-16."""
    lines = text.split("\n")

    def position(line: int, column: int) -> lsp.Position:
        here = lines[line - 1] if line <= len(lines) else ""
        return lsp.Position(line - 1, len(here[: column - 1].encode("utf-16-le")) // 2)

    return lsp.Range(position(span.line, span.column), position(span.end_line, span.end_column))


def _place(position: lsp.Position, text: str) -> tuple[int, int]:
    """A place of the protocol as line and column from 1."""
    lines = text.split("\n")
    here = lines[position.line] if position.line < len(lines) else ""
    before = here.encode("utf-16-le")[: 2 * position.character].decode("utf-16-le", "ignore")
    return position.line + 1, len(before) + 1


server = PropServer()


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
def _did_open(ls: PropServer, params: lsp.DidOpenTextDocumentParams) -> None:
    ls.check(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
def _did_change(ls: PropServer, params: lsp.DidChangeTextDocumentParams) -> None:
    ls.check(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
def _did_save(ls: PropServer, params: lsp.DidSaveTextDocumentParams) -> None:
    ls.check(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
def _did_close(ls: PropServer, params: lsp.DidCloseTextDocumentParams) -> None:
    ls.known.pop(params.text_document.uri, None)
    ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(params.text_document.uri, []))


@server.feature(lsp.TEXT_DOCUMENT_HOVER)
def _hover(ls: PropServer, params: lsp.HoverParams) -> lsp.Hover | None:
    uri = params.text_document.uri
    known, text = ls.known.get(uri, _Known()), ls.text(uri)
    said = hover(text, *_place(params.position, text), known.symbols, known.spec)
    return None if said is None else lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, said))


@server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=["(", ",", "="]))
def _completion(ls: PropServer, params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
    uri = params.text_document.uri
    known, text = ls.known.get(uri, _Known()), ls.text(uri)
    return [
        lsp.CompletionItem(
            label=c.word, kind=_KINDS.get(c.kind, lsp.CompletionItemKind.Variable), detail=c.detail or c.kind
        )
        for c in completions(text, *_place(params.position, text), known.symbols)
    ]


@server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
def _definition(ls: PropServer, params: lsp.DefinitionParams) -> lsp.Location | None:
    found, uri = ls.symbol(params), params.text_document.uri
    return None if found is None else lsp.Location(uri, _range(found[1].span, ls.text(uri)))


@server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
def _references(ls: PropServer, params: lsp.ReferenceParams) -> list[lsp.Location] | None:
    found, uri = ls.symbol(params), params.text_document.uri
    return None if found is None else [lsp.Location(uri, _range(s, ls.text(uri))) for s in found[0].places(found[1])]


@server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
def _rename(ls: PropServer, params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
    found, uri = ls.symbol(params), params.text_document.uri
    if found is None:
        return None
    symbols, symbol, _ = found
    if not can_be_quoted(params.new_name):
        raise JsonRpcInvalidParams(f"{params.new_name!r} cannot be a name: letters, digits, - and _ can stand in one")
    if any(other.name == params.new_name for other in symbols.symbols):
        raise JsonRpcInvalidParams(f"{params.new_name!r} is a name of this specification already")
    new, text = written(params.new_name), ls.text(uri)
    edits = [lsp.TextEdit(_range(span, text), new) for span in symbols.places(symbol)]
    return lsp.WorkspaceEdit(changes={uri: edits})


@server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
def _prepare_rename(ls: PropServer, params: lsp.PrepareRenameParams) -> lsp.Range | None:
    found = ls.symbol(params)
    return None if found is None else _range(found[2], ls.text(params.text_document.uri))


@server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
def _formatting(ls: PropServer, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
    uri = params.text_document.uri
    text = ls.text(uri)
    new = formatted(SourceText(Path(uri).name, text), Diagnostics())
    if new is None or new == text:
        return None
    end = lsp.Position(text.count("\n") + 1, 0)
    return [lsp.TextEdit(lsp.Range(lsp.Position(0, 0), end), new)]


@server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
def _outline(ls: PropServer, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    uri = params.text_document.uri
    known, text = ls.known.get(uri, _Known()), ls.text(uri)
    return [
        lsp.DocumentSymbol(
            name=symbol.name,
            detail=symbol.kind,
            kind=lsp.SymbolKind.Variable,
            range=_range(symbol.node.span, text),
            selection_range=_range(symbol.span, text),
        )
        for symbol in (known.symbols.symbols if known.symbols is not None else [])
        if symbol.within is None
    ]
