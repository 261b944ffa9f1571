// The telephone's end of a media stream, as Twilio speaks it:
// https://www.twilio.com/docs/voice/media-streams/websocket-messages
//
// Text in, events out, and the other way round; no socket, no page. Numbers travel as strings,
// except in mediaFormat.

import { FRAME_MS } from "./format.js";

const KEYS = "0123456789*#ABCD";

export class StreamError extends Error {}

export class MediaStream {
  constructor({ accountSid, callSid, streamSid, parameters, format }) {
    this.format = format;
    this.accountSid = accountSid;
    this.callSid = callSid;
    this.streamSid = streamSid;
    this.parameters = parameters;
    this.sequence = 0;
    this.chunks = 0;
  }

  // The two messages that a stream begins with.
  open() {
    const connected = { event: "connected", protocol: "Call", version: "1.0.0" };
    const start = {
      accountSid: this.accountSid,
      streamSid: this.streamSid,
      callSid: this.callSid,
      tracks: ["inbound"],
      mediaFormat: { encoding: this.format.encoding, sampleRate: this.format.rateHz, channels: 1 },
      customParameters: this.parameters,
    };
    return [JSON.stringify(connected), this.#message("start", start)];
  }

  // The next 20 ms of the caller's.
  media(frame) {
    const chunk = String(this.chunks + 1);
    const timestamp = String(this.chunks++ * FRAME_MS);
    return this.#message("media", { track: "inbound", chunk, timestamp, payload: base64(frame) });
  }

  dtmf(digit) {
    if (!KEYS.includes(digit) || digit.length !== 1) throw new StreamError(`no such key: ${digit}`);
    return this.#message("dtmf", { track: "inbound_track", digit });
  }

  // The echo of a mark.
  mark(name) {
    return this.#message("mark", { name });
  }

  stop() {
    return this.#message("stop", { accountSid: this.accountSid, callSid: this.callSid });
  }

  // What the bridge says: {event: "media", media}, {event: "mark", name} or {event: "clear"}.
  receive(text) {
    const message = parse(text);
    if (message.streamSid !== this.streamSid) throw new StreamError("another stream's streamSid");
    switch (message.event) {
      case "media":
        return { event: "media", media: this.#samples(message.media?.payload) };
      case "mark":
        if (typeof message.mark?.name !== "string") throw new StreamError("a mark without a name");
        return { event: "mark", name: message.mark.name };
      case "clear":
        return { event: "clear" };
      default:
        throw new StreamError(`no such event: ${String(message.event).slice(0, 40)}`);
    }
  }

  #samples(payload) {
    const media = bytes(payload);
    if (media.length % this.format.sampleBytes) throw new StreamError("a part of a sample");
    return media;
  }

  #message(event, body) {
    const sequenceNumber = String(++this.sequence);
    return JSON.stringify({ event, sequenceNumber, streamSid: this.streamSid, [event]: body });
  }
}

function parse(text) {
  if (typeof text !== "string") throw new StreamError("a binary message");
  try {
    const message = JSON.parse(text);
    if (message !== null && typeof message === "object") return message;
  } catch {
    // said below
  }
  throw new StreamError("no JSON object");
}

function base64(media) {
  return btoa(String.fromCharCode(...media));
}

function bytes(payload) {
  if (typeof payload !== "string" || payload === "") throw new StreamError("media without payload");
  try {
    return Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
  } catch {
    throw new StreamError("a payload that is no base64");
  }
}
