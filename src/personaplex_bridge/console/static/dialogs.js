// Asking whether something is meant, and telling what came of it.

import { h, say } from "./dom.js";

const at = (id) => document.getElementById(id);
at("question-no").addEventListener("click", () => at("question").close("no"));

/**
 * Asks; the answer is null for no, else what was typed into `field` ({ label, type, placeholder }), or
 * "yes" without one.
 */
export async function sure({ title, text, yes, danger = false, field = null }) {
  const dialog = at("question"), input = at("question-input");
  say(at("question-title"), title);
  say(at("question-text"), text);
  say(at("question-yes"), yes);
  at("question-yes").className = `button ${danger ? "danger solid" : "primary"}`;
  at("question-field").hidden = !field;
  Object.assign(input, { value: "", required: Boolean(field), type: field?.type ?? "text", placeholder: field?.placeholder ?? "" });
  say(at("question-label"), field?.label ?? "");
  dialog.returnValue = "no";
  dialog.showModal();
  if (field) input.focus();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return null;
  return field ? input.value.trim() : "yes";
}

/** Says something in a corner for some seconds. `kind` is `bad` or `good`. */
export function toast(text, kind = "bad") {
  const note = h("div", { class: `note ${kind}` }, text);
  at("toast").append(note);
  setTimeout(() => note.remove(), 8000);
}
