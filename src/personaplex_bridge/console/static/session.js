// Pages beside the console: what their bars show that not every bridge has.

const answer = await fetch("/api/bridge").catch(() => null);
if (answer?.ok) {
  const bridge = await answer.json();
  const show = (id, is) => document.getElementById(id)?.toggleAttribute("hidden", !is);
  show("to-phone", bridge.has_phone);
  show("logout", bridge.can_log_out);
}
