// The page: what people choose and press, and what they are shown of a call.

import { Call } from "./call.js";

const KEYS = "123456789*0#";
const PAUSE_S = 1.2; // so long between words begins a new paragraph
const QUIETEST_DB = -60;
const METER_EVERY_FRAMES = 5;

const at = (id) => document.getElementById(id);

let call = null;
let frames = 0;
let lastWordS = -Infinity;
let personas = [];

// ------------------------------------------------------------------ choosing

async function loadOptions() {
  const answer = await fetch("/phone/options");
  if (!answer.ok) throw new Error(`the bridge answers ${answer.status}`);
  const options = await answer.json();
  personas = options.personas;
  for (const { name, experimental } of personas) {
    at("persona").add(new Option(experimental ? `${name} (experimental)` : name, name));
  }
  at("voice").add(new Option("The persona's own", ""));
  for (const voice of options.voices) at("voice").add(new Option(voiceName(voice), voice));
  at("text_prompt").maxLength = options.max_prompt_chars;
  at("persona").value = options.default;
  at("notice").textContent = options.notice ?? "";
  at("notice").hidden = options.notice === null;
  fillInFromAddress();
  showChoice();
}

// #persona=…&voice=…&text_prompt=…: what is behind the # never leaves the browser.
function fillInFromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of asked) {
    const field = at("choices").elements.namedItem(name);
    if (!field) continue;
    if (field.type === "checkbox") {
      field.checked = field.value === value;
      continue;
    }
    const before = field.value;
    field.value = value;
    if (field.value === "" && value !== "") field.value = before; // no such option
    if (name === "text_prompt" && value !== "") field.closest("details").open = true;
  }
}

function voiceName(voice) {
  const kind = voice.startsWith("NAT") ? "natural" : "varied";
  return `${voice} (${voice[3] === "F" ? "female" : "male"}, ${kind})`;
}

function showChoice() {
  const persona = personas.find(({ name }) => name === at("persona").value);
  if (!persona) return;
  at("about").textContent = `${persona.description || persona.name}. Voice ${persona.voice}.`;
  at("text_prompt").placeholder = persona.text_prompt;
  const { value, maxLength } = at("text_prompt");
  at("left").textContent = `Empty: the persona's own. ${maxLength - value.length} characters left.`;
}

function chosen() {
  const own = at("text_prompt").value === "" ? "" : ", with a prompt of my own";
  const voice = at("voice").value === "" ? "" : `, voice ${at("voice").value}`;
  const hd = at("sound").checked ? ", in HD" : "";
  return at("persona").value + voice + own + hd;
}

// ------------------------------------------------------------------- calling

function begin() {
  call = new Call();
  frames = 0;
  lastWordS = -Infinity;
  at("words").replaceChildren();
  at("empty").hidden = false;
  for (const figure of document.querySelectorAll("dd")) figure.textContent = "–";
  at("timer").textContent = "0:00";
  tellProblem("");
  call.addEventListener("state", ({ detail }) => showState(detail));
  call.addEventListener("frame", ({ detail }) => showFrame(detail));
  call.addEventListener("mark", ({ detail }) => (at("mark").textContent = ms(detail.playedAfterMs)));
  call.addEventListener("bridge", ({ detail }) => showNews(detail.name, detail.data));
  call.addEventListener("notice", ({ detail }) => tellProblem(detail));
  call.addEventListener("over", ({ detail }) => showEnd(detail));
  showState("asking");
  const wanted = Object.fromEntries(new FormData(at("choices")));
  allow(false);
  call.mute(false);
  call.begin(wanted);
}

const STATES = {
  asking: "Asking for the microphone and a model…",
  connecting: "Connecting…",
  talking: "The model is getting ready…",
};

function showState(state) {
  at("state").textContent = STATES[state];
  const isCalling = state === "talking";
  for (const key of at("keys").children) key.disabled = !isCalling;
  at("mute").disabled = !isCalling;
}

function showEnd({ text, isError }) {
  const failed = call.seconds === 0 ? "No call" : "The call has ended";
  at("state").textContent = isError ? failed : text;
  tellProblem(isError ? text : "");
  allow(true);
  showLevel(at("spoken"), -Infinity);
  showLevel(at("heard"), -Infinity);
  at("save").disabled = call.recording.samples === 0;
}

// Between calls people may choose, in a call they may press keys.
function allow(isIdle) {
  at("choices").hidden = !isIdle;
  at("with").hidden = isIdle;
  at("with").textContent = `With ${chosen()}.`;
  for (const key of at("keys").children) key.disabled = true;
  at("mute").disabled = true;
  showMuted(false);
  at("save").disabled = true;
  at("call").textContent = isIdle ? "Call" : "Hang up";
  at("call").className = isIdle ? "button primary" : "button danger solid";
}

function press(digit) {
  if (!call?.isTalking) return;
  call.press(digit);
  const key = [...at("keys").children].find((button) => button.value === digit);
  key.classList.add("pressed");
  setTimeout(() => key.classList.remove("pressed"), 150);
}

function showMuted(isMuted) {
  at("mute").setAttribute("aria-pressed", String(isMuted));
  at("mute").textContent = isMuted ? "Muted" : "Mute";
}

function save() {
  const { recording } = call;
  const url = URL.createObjectURL(new Blob([recording.toWav()], { type: "audio/wav" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `call-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// ------------------------------------------------------------------- showing

function showFrame({ spokenDb, heardDb, waitingMs, underruns }) {
  if (frames++ % METER_EVERY_FRAMES) return;
  showLevel(at("spoken"), spokenDb);
  showLevel(at("heard"), heardDb);
  at("waiting").textContent = ms(waitingMs);
  at("gaps").textContent = String(underruns);
  at("timer").textContent = clock(call.seconds);
  if (call.recording.isFull) {
    const minutes = call.recording.maxSeconds / 60;
    tellProblem(`Only the first ${minutes} minutes are in the recording.`);
  }
}

function showLevel(meter, db) {
  const shown = Math.max(QUIETEST_DB, Math.min(0, db));
  meter.setAttribute("aria-valuenow", String(Math.round(shown)));
  meter.setAttribute("aria-valuetext", shown > QUIETEST_DB ? `${Math.round(shown)} dB` : "silent");
  meter.style.setProperty("--share", String(1 - shown / QUIETEST_DB));
}

function showNews(name, data) {
  if (name === "ready") {
    if (call.isTalking) at("state").textContent = "Talking";
    at("ready-after").textContent = `${data.after_s.toFixed(1)} s`;
  } else if (name === "words") {
    for (const word of data) showWord(word);
  } else if (name === "figures") {
    at("reply").textContent = data.reply_ms === null ? "–" : ms(data.reply_ms);
    at("interruptions").textContent = String(data.interruptions);
  }
}

function showWord({ at_s: atS, text }) {
  const words = at("words");
  const isAtEnd = words.scrollHeight - words.scrollTop - words.clientHeight < 40;
  at("empty").hidden = true;
  if (atS - lastWordS >= PAUSE_S) {
    const phrase = document.createElement("p");
    const time = document.createElement("time");
    time.textContent = clock(atS);
    phrase.append(time, text);
    words.append(phrase);
  } else {
    words.lastElementChild.append(` ${text}`);
  }
  lastWordS = atS;
  if (isAtEnd) words.scrollTop = words.scrollHeight;
}

function tellProblem(text) {
  at("problem").textContent = text;
  at("problem").hidden = text === "";
}

function ms(time) {
  return `${Math.round(time)} ms`;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// -------------------------------------------------------------------- wiring

for (const digit of KEYS) {
  const key = document.createElement("button");
  Object.assign(key, { type: "button", className: "button", value: digit, textContent: digit, disabled: true });
  key.addEventListener("click", () => press(digit));
  at("keys").append(key);
}

at("choices").addEventListener("submit", (event) => {
  event.preventDefault();
  if (call === null || call.isOver) begin();
  else call.hangUp();
});
at("choices").addEventListener("input", showChoice);
at("mute").addEventListener("click", () => {
  call.mute(!call.isMuted);
  showMuted(call.isMuted);
});
at("save").addEventListener("click", save);

document.addEventListener("keydown", ({ key, target, ctrlKey, altKey, metaKey }) => {
  const isTyping = target instanceof Element && target.closest("input, select, textarea");
  if (key.length === 1 && KEYS.includes(key) && !isTyping && !ctrlKey && !altKey && !metaKey) press(key);
});

// A page that goes away hangs up, so that the model's place is free for the next.
addEventListener("pagehide", () => call?.hangUp());

loadOptions().catch((error) => tellProblem(`The choices can't be loaded: ${error.message}.`));
