// The console: pages by the address's fragment, and the bridge's events to the one that shows them.

import { CallsPage } from "./calls.js";
import { h, say } from "./dom.js";
import { PastPage } from "./past.js";
import { PersonasPage } from "./personas.js";
import { ask, Watch } from "./talk.js";

const at = (id) => document.getElementById(id);
const calls = new CallsPage(at("page-calls"), end);
const past = new PastPage(at("page-history"));
const personas = new PersonasPage(at("page-personas"));
const PAGES = ["calls", "history", "personas"];
let bridge = null;

function showPage() {
  const page = PAGES.includes(location.hash.slice(1)) ? location.hash.slice(1) : "calls";
  for (const name of PAGES) at(`page-${name}`).hidden = name !== page;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.getAttribute("href") === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (page === "history") past.show(bridge);
  if (page === "personas") personas.show(bridge);
}

function meet(seen) {
  bridge = seen;
  at("to-phone").hidden = !bridge.has_phone;
  at("logout").hidden = !bridge.can_log_out;
  showPage();
}

const CONNECTION = { live: ["good", "Live"], lost: ["warn", "Reconnecting…"] };

function tellConnection(word) {
  const [kind, text] = CONNECTION[word];
  at("connection").className = `pill ${kind}`;
  say(at("connection"), text);
  calls.stale(word !== "live");
}

/** Asks whether that is meant, then ends the call. */
async function end(sid, name, action) {
  const dialog = at("question");
  say(at("question-title"), action.title);
  say(at("question-text"), action.text);
  say(at("question-yes"), action.yes);
  at("question-yes").className = `button ${action.danger ? "danger solid" : "primary"}`;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  try {
    await ask(`/api/calls/${encodeURIComponent(sid)}/${name}`, {});
  } catch (error) {
    toast(error.message);
  }
}

function toast(text) {
  const note = h("div", { class: "note bad" }, text);
  at("toast").append(note);
  setTimeout(() => note.remove(), 8000);
}

addEventListener("hashchange", showPage);
showPage();
new Watch({
  state(content) {
    calls.state(content);
    meet(content.bridge);
  },
  change(content) {
    calls.change(content);
    if (content.bridge) meet(content.bridge);
  },
  connection: tellConnection,
});
