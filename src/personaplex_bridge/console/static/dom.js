// Making elements, and saying things in the same words everywhere.

/** An element. Properties are set as they are; `class`, `for`, aria-… and data-… as attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** 4:07, 1:02:30. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = parts;
  const tail = `${String(rest).padStart(2, "0")}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

/** A moment, short: the time today, the day before that. */
export function moment(date) {
  const today = new Date().toDateString() === date.toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: today ? "2-digit" : undefined });
  return today ? time : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** Who calls, as the bridge masks them. */
export const who = (caller) => ({ "": "unknown", "***": "withheld" })[caller ?? ""] ?? caller;

export const seconds = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(2)} s`);

/** Changes the text only if it is another: screen readers and selections stay calm. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What the model said: phrases, as [at, text] or {at_s, text}. */
export function transcript(phrases) {
  const lines = phrases.map((phrase) => {
    const [at, text] = Array.isArray(phrase) ? phrase : [phrase.at_s, phrase.text];
    return h("li", {}, h("time", {}, clock(at)), h("span", {}, text));
  });
  return h("div", { class: "transcript", tabIndex: 0, role: "region", "aria-label": "Transcript" },
    lines.length ? h("ol", {}, lines) : h("p", { class: "muted" }, "The model said nothing."));
}

/** Names and values in a row. */
export function chips(pairs) {
  return h("dl", { class: "chips" },
    pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}
