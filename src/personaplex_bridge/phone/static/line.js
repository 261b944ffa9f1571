// The telephone inside the page, in the audio thread: what the microphone hears becomes frames of
// media, what the bridge sends is played. Both directions have the audio device's clock.
//
// It is made with {encoding}: the format of the media.
// To it:   {play: media}, {mark: name}, {clear: true}, {muted: bool}, {hangUp: true}
// From it: {spoken: media, heard: media}, 20 ms of each; {marks: [name]}; {waitingMs, underruns};
//          {overflow: true}

import { formatOf } from "./format.js";
import { Playout, PlayoutOverflow } from "./playout.js";
import { Resampler } from "./resample.js";

class Line extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.format = formatOf(processorOptions.encoding);
    this.toPhone = new Resampler(sampleRate, this.format.rateHz);
    this.toSpeaker = new Resampler(this.format.rateHz, sampleRate);
    this.playout = new Playout(this.format);
    this.spoken = new Bytes();
    this.heard = new Bytes();
    this.speaker = new Float32Array(0);
    this.muted = false;
    this.isOver = false;
    this.port.onmessage = ({ data }) => this.obey(data);
  }

  obey({ play, mark, clear, muted, hangUp }) {
    if (play !== undefined) this.play(play);
    if (mark !== undefined) this.tell(this.playout.mark(mark));
    if (clear) this.tell(this.playout.clear());
    if (muted !== undefined) this.muted = muted;
    if (hangUp) this.isOver = true;
  }

  play(media) {
    try {
      this.playout.add(media);
    } catch (error) {
      if (!(error instanceof PlayoutOverflow)) throw error;
      this.port.postMessage({ overflow: true });
    }
  }

  tell(marks) {
    if (marks.length > 0) this.port.postMessage({ marks });
  }

  process([input], [output]) {
    if (this.isOver) return false;
    // What the phone hears comes first: how much of it there is is the phone's clock.
    const { encode, silence, frameBytes } = this.format;
    const media = encode(this.toPhone.process(mixed(input, output[0].length)));
    this.spoken.add(this.muted ? media.fill(silence) : media);
    const { heard, marks } = this.playout.take(media.length);
    this.heard.add(heard);
    this.tell(marks);
    this.sound(heard, output);
    while (this.spoken.length >= frameBytes) this.tellFrame();
    return true;
  }

  sound(heard, output) {
    const samples = Float32Array.from(this.format.decode(heard), (sample) => sample / 32768);
    this.speaker = joined(Float32Array, this.speaker, this.toSpeaker.process(samples));
    // The two rates need not divide: a sample may be missing at the very beginning.
    const count = Math.min(output[0].length, this.speaker.length);
    for (const channel of output) channel.set(this.speaker.subarray(0, count));
    this.speaker = this.speaker.slice(count);
  }

  tellFrame() {
    const { waitingMs, underruns } = this.playout;
    const spoken = this.spoken.take(this.format.frameBytes);
    const heard = this.heard.take(this.format.frameBytes);
    this.port.postMessage({ spoken, heard, waitingMs, underruns });
  }
}

class Bytes {
  constructor() {
    this.held = new Uint8Array(0);
  }

  get length() {
    return this.held.length;
  }

  add(bytes) {
    this.held = joined(Uint8Array, this.held, bytes);
  }

  take(count) {
    const taken = this.held.slice(0, count);
    this.held = this.held.slice(count);
    return taken;
  }
}

// One channel of however many there are; silence of a microphone that has gone.
function mixed(channels, length) {
  if (channels.length === 0) return new Float32Array(length);
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, at) => {
    const sum = channels.reduce((total, channel) => total + channel[at], 0);
    return sum / channels.length;
  });
}

function joined(Samples, first, second) {
  const whole = new Samples(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

registerProcessor("line", Line);
