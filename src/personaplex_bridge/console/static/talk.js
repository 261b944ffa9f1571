// Talking to the bridge: requests, and the stream of events that comes back by itself.

const BACK_OFF_MS = [500, 1000, 2000, 4000, 8000];
/** The bridge sends something every 15 s at least. */
const SILENCE_MS = 40_000;

/** What the bridge, or the way to it, has refused; its message is a sentence, its status HTTP's. */
export class Refused extends Error {
  constructor(text, status) {
    super(`${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`);
    this.status = status;
  }
}

/** Asks for JSON; throws Refused with the bridge's own words. Who isn't logged in goes to do so. */
export async function ask(path, body, method) {
  return (await answerTo(path, body, method)).json();
}

/** Asks for a file and has the browser save it; throws as `ask` does. */
export async function save(path, body, name) {
  const answer = await answerTo(path, body);
  let content;
  try {
    content = await answer.blob();
  } catch {
    throw new Refused("The file has broken off half-way: ask for it again.");
  }
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function answerTo(path, body, method = body === undefined ? "GET" : "POST") {
  const options = body === undefined ? { method } : {
    method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("The bridge can’t be reached.");
  }
  if (answer.status === 401) logIn();
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(problem.detail ?? `The bridge answers ${answer.status}.`, answer.status);
}

function logIn() {
  const next = encodeURIComponent(location.pathname + location.search);
  location.assign(`/console/login?next=${next}${location.hash}`);
}

/** Watches the bridge. `on` has state(content), change(content) and connection(word). */
export class Watch {
  #source = null;
  #tries = 0;
  #timer = 0;

  constructor(on) {
    this.on = on;
    addEventListener("online", () => this.#open());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#source?.readyState !== EventSource.OPEN) this.#open();
    });
    this.#open();
  }

  #open() {
    clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource("/api/events");
    this.#source = source;
    source.addEventListener("state", (event) => this.#heard(() => this.on.state(JSON.parse(event.data))));
    source.addEventListener("change", (event) => this.#heard(() => this.on.change(JSON.parse(event.data))));
    source.addEventListener("beat", () => this.#heard(() => {}));
    source.onerror = () => this.#lost(source);
  }

  #heard(tell) {
    this.#tries = 0;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost(this.#source), SILENCE_MS);
    this.on.connection("live");
    tell();
  }

  async #lost(source) {
    if (source !== this.#source) return;
    this.on.connection("lost");
    clearTimeout(this.#timer);
    // A stream that has broken off goes on by itself, with the id of what was seen last.
    if (source.readyState === EventSource.CONNECTING && this.#tries < 1) {
      this.#tries += 1;
      this.#timer = setTimeout(() => this.#lost(source), 5000);
      return;
    }
    source.close();
    const wait = BACK_OFF_MS[Math.min(this.#tries, BACK_OFF_MS.length - 1)];
    this.#tries += 1;
    this.#timer = setTimeout(() => this.#open(), wait);
    const answer = await fetch("/api/bridge").catch(() => null); // only this tells why
    if (answer?.status === 401) logIn();
  }
}
