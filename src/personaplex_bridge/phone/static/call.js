// A call: microphone, line, media socket and what the bridge tells of it, from lifting the receiver
// to hanging up. It knows nothing of the page.

import { FRAME_MS, TELEPHONE, formatOf } from "./format.js";
import { Recording } from "./recording.js";
import { MediaStream, StreamError } from "./stream.js";

const CALLS_PATH = "/phone/calls";
const LINE_URL = new URL("./line.js", import.meta.url);

const ENDINGS = {
  1000: "The call is over.",
  1001: "The bridge shuts down and has ended the call.",
  1002: "The bridge did not understand this page: reload it.",
  1006: "The connection to the bridge is lost.",
  1008: "The bridge has refused the call.",
  1009: "The bridge has refused a message as too long.",
  1011: "The model server has failed, and no other could go on.",
  1013: "All model servers are busy: try again in a moment.",
};

// Something that keeps a call from being; `message` is for people.
export class CallError extends Error {}

export class Call extends EventTarget {
  // Events, each a CustomEvent with `detail`: `state` ("connecting", "talking"), `frame`
  // {spokenDb, heardDb, waitingMs, underruns}, `mark` {playedAfterMs}, `bridge` {name, data},
  // `notice` (text), `over` {text, isError}.
  constructor() {
    super();
    this.format = TELEPHONE;
    this.recording = new Recording(TELEPHONE);
    this.isOver = false;
    this.isMuted = false;
    this.marks = new Map(); // name: when it came
    this.seconds = 0;
  }

  // Call. `wanted` may hold persona, voice, text_prompt and sound ("telephone" or "hd"). Errors end
  // in an `over` event.
  async begin(wanted) {
    try {
      // First what people may refuse: no model server waits for them.
      await this.#openMicrophone();
      await this.#openLine();
      const granted = await reserve(wanted);
      if (this.isOver) return giveUp(granted.call_sid);
      this.callSid = granted.call_sid;
      this.#agreeOn(granted.format);
      this.#tell("state", "connecting");
      this.#openSocket(granted);
      this.#listenToBridge();
    } catch (error) {
      if (!this.isOver) this.#end({ text: inWords(error), isError: true });
    }
  }

  press(digit) {
    if (this.isTalking) this.socket.send(this.stream.dtmf(digit));
  }

  mute(isMuted) {
    this.isMuted = isMuted;
    this.line?.port.postMessage({ muted: isMuted });
  }

  hangUp() {
    if (this.isOver) return;
    if (this.isTalking) this.socket.send(this.stream.stop());
    this.#end({ text: "You have hung up.", isError: false });
  }

  get isTalking() {
    return !this.isOver && this.socket?.readyState === WebSocket.OPEN;
  }

  async #openMicrophone() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new CallError(
        "The browser gives no microphone to this address: open it as https, or at http://127.0.0.1.",
      );
    }
    const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    this.microphone = await navigator.mediaDevices.getUserMedia({ audio });
    this.#stopIfOver();
    this.microphone.getAudioTracks()[0].addEventListener("ended", () => {
      this.#tell("notice", "The microphone is gone: the model hears silence.");
    });
  }

  async #openLine() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    await this.context.audioWorklet.addModule(LINE_URL);
    await this.context.resume();
    this.#stopIfOver();
  }

  // Somebody may hang up while the browser still asks for the microphone.
  #stopIfOver() {
    if (!this.isOver) return;
    this.#closeDevices();
    throw new CallError("hung up");
  }

  // The bridge says what the media are to be.
  #agreeOn({ encoding }) {
    this.format = formatOf(encoding);
    if (!this.format) throw new CallError(`This page knows no ${encoding}: reload it.`);
    this.recording = new Recording(this.format);
  }

  #openSocket(granted) {
    this.stream = new MediaStream({
      accountSid: granted.account_sid,
      callSid: granted.call_sid,
      streamSid: granted.stream_sid,
      parameters: granted.parameters,
      format: this.format,
    });
    this.socket = new WebSocket(granted.stream_url, granted.protocols);
    let isOpen = false;
    this.socket.onopen = () => {
      isOpen = true;
      for (const message of this.stream.open()) this.socket.send(message);
      this.#connectLine();
      this.#tell("state", "talking");
    };
    this.socket.onmessage = ({ data }) => this.#hear(data);
    this.socket.onclose = ({ code }) => {
      const text = isOpen ? ENDINGS[code] : "The bridge does not open the media socket.";
      this.#end({ text: text ?? `The bridge has ended the call (${code}).`, isError: code !== 1000 });
    };
  }

  #connectLine() {
    const { context } = this;
    const processorOptions = { encoding: this.format.encoding };
    const options = { outputChannelCount: [1], processorOptions };
    this.line = new AudioWorkletNode(context, "line", options);
    this.line.port.postMessage({ muted: this.isMuted });
    this.line.port.onmessage = ({ data }) => this.#say(data);
    context.createMediaStreamSource(this.microphone).connect(this.line).connect(context.destination);
  }

  // From the bridge.
  #hear(text) {
    try {
      const said = this.stream.receive(text);
      if (said.event === "media") this.line.port.postMessage({ play: said.media });
      if (said.event === "clear") this.line.port.postMessage({ clear: true });
      if (said.event === "mark") {
        this.marks.set(said.name, performance.now());
        this.line.port.postMessage({ mark: said.name });
      }
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#tell("notice", `The bridge has sent what is no media stream: ${error.message}.`);
    }
  }

  // From the line.
  #say({ spoken, heard, waitingMs, underruns, marks = [], overflow }) {
    if (this.isOver) return;
    if (overflow) this.#end({ text: "Ten minutes of sound wait to be played.", isError: true });
    for (const name of marks) this.#echo(name);
    if (spoken === undefined || !this.isTalking) return;
    this.socket.send(this.stream.media(spoken));
    this.recording.add(spoken, heard);
    this.seconds += FRAME_MS / 1000;
    const { decode } = this.format;
    const [spokenDb, heardDb] = [level(decode(spoken)), level(decode(heard))];
    this.#tell("frame", { spokenDb, heardDb, waitingMs, underruns });
  }

  #echo(name) {
    if (this.isTalking) this.socket.send(this.stream.mark(name));
    const playedAfterMs = performance.now() - (this.marks.get(name) ?? performance.now());
    this.marks.delete(name);
    this.#tell("mark", { playedAfterMs });
  }

  #listenToBridge() {
    this.events = new EventSource(`${CALLS_PATH}/${this.callSid}/events`);
    for (const name of ["ready", "words", "figures", "over"]) {
      this.events.addEventListener(name, ({ data }) => {
        this.#tell("bridge", { name, data: JSON.parse(data) });
        if (name === "over") this.events.close();
      });
    }
    // The browser would ask for the whole transcript again.
    this.events.onerror = () => this.events.close();
  }

  #end(ending) {
    if (this.isOver) return;
    this.isOver = true;
    this.socket?.close(1000);
    this.#closeDevices();
    this.#tell("over", ending);
    // The last words may still be on their way.
    setTimeout(() => this.events?.close(), 2000);
  }

  #closeDevices() {
    this.line?.port.postMessage({ hangUp: true });
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

// A place at a model server, and what shows the media socket that it is ours.
async function reserve(wanted) {
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(wanted) };
  const answer = await fetch(CALLS_PATH, request).catch(() => {
    throw new CallError("The bridge does not answer: is it running?");
  });
  if (answer.status === 401) throw new CallError("You are logged out: reload this page.");
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new CallError(sentence(body.detail ?? `The bridge answers ${answer.status}`));
  return body;
}

// The place is free again at once, not only when no media socket has come in time.
function giveUp(callSid) {
  return fetch(`${CALLS_PATH}/${callSid}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

function inWords(error) {
  if (error instanceof CallError) return error.message;
  switch (error.name) {
    case "NotAllowedError":
      return "The browser may not use the microphone: allow it for this page, and call again.";
    case "NotFoundError":
      return "There is no microphone.";
    case "NotReadableError":
      return "The microphone can't be used: another program may have it.";
    default:
      return `The call can't be made: ${error.message}`;
  }
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

// Of a frame, in decibels below the loudest there is.
function level(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return power === 0 ? -Infinity : 10 * Math.log10(power / 32768 ** 2);
}
