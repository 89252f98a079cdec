// Starts `tfcert lsp` and hands the .prop files of the editor to it.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

function activate() {
  const [command, ...args] = workspace.getConfiguration("tfcert").get("command");
  client = new LanguageClient("tfcert", "tfcert", { command, args }, { documentSelector: [{ language: "prop" }] });
  return client.start();
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
