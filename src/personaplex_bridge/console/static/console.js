// The console: pages by the address's fragment, and the bridge's events to the one that shows them.

import { CallsPage } from "./calls.js";
import { sure, toast } from "./dialogs.js";
import { say } from "./dom.js";
import { PastPage } from "./past.js";
import { PersonasPage } from "./personas.js";
import { ask, Watch } from "./talk.js";

const at = (id) => document.getElementById(id);
const calls = new CallsPage(at("page-calls"), end);
const past = new PastPage(at("page-history"));
const personas = new PersonasPage(at("page-personas"));
const PAGES = ["calls", "history", "personas"];
let bridge = null;
let shown = "";

function showPage() {
  const [asked, id = ""] = location.hash.slice(1).split("/");
  const page = PAGES.includes(asked) ? asked : "calls";
  for (const name of PAGES) at(`page-${name}`).hidden = name !== page;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.getAttribute("href") === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (page === "history") past.show(bridge, id, shown !== page);
  if (page === "personas") personas.show(bridge);
  shown = page;
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
  if (!(await sure(action))) return;
  try {
    await ask(`/api/calls/${encodeURIComponent(sid)}/${name}`, {});
  } catch (error) {
    toast(error.message);
  }
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
