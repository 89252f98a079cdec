"""The language server, as editors speak to it: one process, a client of the protocol, all that it offers."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

lsp = pytest.importorskip("lsprotocol.types", reason="pygls is not installed")
JsonRpcException = pytest.importorskip("pygls.exceptions", reason="pygls is not installed").JsonRpcException
client_module = pytest.importorskip("pygls.lsp.client", reason="pygls is not installed")

TEXT = """prop 1
param many: int in [1, 9] = 3
param eps: real in [0, 1] = 8/255
model clf = keras("clf.keras") { outputs: [cat, dog] }
dataset test = npz("test.npz", x="\U0001d538", y="y") take many
strategy quick = pgd(steps=40) -> crown
property robust(x, y in test) using quick { forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }
property near(x, y in test) using quick { forall z in ball(x, linf, eps/2) in net: argmax(clf(z)) == y }
"""


class Editor:
    """A client with one document; places are told as the text that stands there, of which the last one counts."""

    def __init__(self, client: Any, path: Path):
        self.client, self.uri, self.path, self.text = client, path.as_uri(), path, ""
        self.version = 0
        self.published: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def write(self, text: str) -> list[Any]:
        """Opens the document or changes it, and waits for what is wrong with it."""
        self.version += 1
        self.text = text
        if self.version == 1:
            item = lsp.TextDocumentItem(self.uri, "prop", self.version, text)
            self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        else:
            changed = lsp.VersionedTextDocumentIdentifier(self.version, self.uri)
            whole = lsp.TextDocumentContentChangeWholeDocument(text)
            self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(changed, [whole]))
        return await asyncio.wait_for(self.published.get(), 60)

    def place(self, before: str) -> dict[str, Any]:
        """The place behind a piece of the text."""
        head = self.text[: self.text.rindex(before) + len(before)]
        column = len(head.rpartition("\n")[2].encode("utf-16-le")) // 2
        position = lsp.Position(head.count("\n"), column)
        return {"text_document": lsp.TextDocumentIdentifier(self.uri), "position": position}

    def at(self, found: Any) -> str:
        """The text of a stretch."""
        line = self.text.split("\n")[found.start.line].encode("utf-16-le")
        return line[2 * found.start.character : 2 * found.end.character].decode("utf-16-le")

    def applied(self, edits: Any) -> str:
        """The text after some edits of single lines."""
        lines = self.text.split("\n")
        for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
            start, end = edit.range.start, edit.range.end
            line = lines[start.line]
            lines[start.line] = line[: start.character] + edit.new_text + line[end.character :]
        return "\n".join(lines)


def driven(folder: Path, what: Callable[[Editor], Awaitable[None]]) -> None:
    """Starts the server, opens a document, does something with it, and ends the server."""

    async def run() -> None:
        client = client_module.LanguageClient("test", "1")
        editor = Editor(client, folder / "a.prop")

        @client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def _(params: Any) -> None:
            editor.published.put_nowait(params.diagnostics)

        await client.start_io(sys.executable, "-m", "tfcert", "lsp", "--stdio")
        options = lsp.InitializeParams(capabilities=lsp.ClientCapabilities(), root_uri=folder.as_uri())
        await asyncio.wait_for(client.initialize_async(options), 60)
        client.initialized(lsp.InitializedParams())
        await what(editor)
        await asyncio.wait_for(client.shutdown_async(None), 60)
        client.exit(None)
        await client.stop()

    asyncio.run(run())


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "clf.keras").write_bytes(b"PK")
    (tmp_path / "test.npz").write_bytes(b"PK")
    return tmp_path


def test_an_editor_gets_all_that_it_asks_for(folder):
    async def what(editor: Editor) -> None:
        client = editor.client
        assert not await editor.write(TEXT)

        # Mistakes come and go with the text; what is known of the names stays.
        broken = TEXT.replace("ball(x, linf, eps)", "bal(x, linf, eps)")
        (wrong,) = await editor.write(broken)
        assert (wrong.code, editor.at(wrong.range), wrong.severity) == ("E201", "bal", lsp.DiagnosticSeverity.Error)
        (unparsed, *_) = await editor.write(TEXT + "property {")
        assert unparsed.code == "E101"
        assert await client.text_document_definition_async(lsp.DefinitionParams(**editor.place("linf, eps")))
        await editor.write(TEXT)

        # What stands somewhere.
        async def hovered(before: str) -> str:
            found = await client.text_document_hover_async(lsp.HoverParams(**editor.place(before)))
            return "" if found is None else found.contents.value

        assert "8/255" in await hovered("linf, ep") and "**parameter** `eps`" in await hovered("linf, eps")
        assert "**stage (attack)** `pgd`" in await hovered("= pgd") and "`restarts`" in await hovered("= pgd")
        assert "as the network receives them" in await hovered("in net") and await hovered("prop") == ""

        # Definitions, uses and new names: of the whole text, and of one statement alone.
        place = editor.place("linf, eps")
        defined = await client.text_document_definition_async(lsp.DefinitionParams(**place))
        assert (editor.at(defined.range), defined.range.start.line) == ("eps", 2)
        used = await client.text_document_references_async(
            lsp.ReferenceParams(context=lsp.ReferenceContext(True), **place)
        )
        assert [use.range.start.line for use in used] == [2, 6, 7]
        renamed = await client.text_document_rename_async(lsp.RenameParams(new_name="radius", **place))
        text = editor.applied(renamed.changes[editor.uri])
        assert text.count("radius") == 3 and not re.search(r"\beps\b", text)
        local = await client.text_document_rename_async(
            lsp.RenameParams(new_name="point", **editor.place("argmax(clf(z"))
        )
        assert editor.applied(local.changes[editor.uri]).count("point") == 2  # of the last property alone
        for name in ("clf", "no name"):
            with pytest.raises(JsonRpcException, match="name"):
                await client.text_document_rename_async(lsp.RenameParams(new_name=name, **place))

        # What may stand somewhere.
        async def offered(before: str) -> list[str]:
            found = await client.text_document_completion_async(lsp.CompletionParams(**editor.place(before)))
            return [item.label for item in found]

        assert {"eps", "clf", "cat", "crown", "forall"} <= set(await offered("in net: "))
        assert "restarts=" in await offered("pgd(") and "cat" not in await offered("pgd(")
        await editor.write(TEXT.replace("crown\n", "crown(relaxation=)\n"))
        assert "adaptive" in await offered("relaxation=")

        # The layout, and the outline.
        await editor.write(TEXT.replace("param eps: real", "param   eps:real"))
        options = lsp.FormattingOptions(2, True)
        (edit,) = await client.text_document_formatting_async(
            lsp.DocumentFormattingParams(lsp.TextDocumentIdentifier(editor.uri), options)
        )
        assert edit.new_text == TEXT
        outline = await client.text_document_document_symbol_async(
            lsp.DocumentSymbolParams(lsp.TextDocumentIdentifier(editor.uri))
        )
        assert [symbol.name for symbol in outline] == ["many", "eps", "clf", "test", "quick", "robust", "near"]

    driven(folder, what)
