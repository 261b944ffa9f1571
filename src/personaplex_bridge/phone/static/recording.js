// Both sides of a call as a WAV: the caller left, the model right, as in the phone they were heard.

import { RATE_HZ, decode } from "./mulaw.js";

export const MAX_SECONDS = 3600;
const HEADER_BYTES = 44;

export class Recording {
  constructor() {
    this.frames = []; // pairs of mu-law: spoken, heard
    this.bytes = 0; // of one side
  }

  get seconds() {
    return this.bytes / RATE_HZ;
  }

  get isFull() {
    return this.seconds >= MAX_SECONDS;
  }

  // Keep a frame of each side; beyond an hour no more is kept.
  add(spoken, heard) {
    if (this.isFull) return;
    this.frames.push([spoken, heard]);
    this.bytes += spoken.length;
  }

  // RIFF WAVE, two channels of 16 bits.
  toWav() {
    const wav = new DataView(new ArrayBuffer(HEADER_BYTES + this.bytes * 4));
    writeHeader(wav, this.bytes * 4);
    let at = HEADER_BYTES;
    for (const [spoken, heard] of this.frames) {
      const [left, right] = [decode(spoken), decode(heard)];
      for (let sample = 0; sample < left.length; sample++, at += 4) {
        wav.setInt16(at, left[sample], true);
        wav.setInt16(at + 2, right[sample], true);
      }
    }
    return wav.buffer;
  }
}

function writeHeader(wav, size) {
  const text = (at, letters) => [...letters].forEach((c, i) => wav.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  wav.setUint32(4, HEADER_BYTES - 8 + size, true);
  text(8, "WAVEfmt ");
  wav.setUint32(16, 16, true);
  wav.setUint16(20, 1, true); // PCM
  wav.setUint16(22, 2, true); // channels
  wav.setUint32(24, RATE_HZ, true);
  wav.setUint32(28, RATE_HZ * 4, true);
  wav.setUint16(32, 4, true);
  wav.setUint16(34, 16, true);
  text(36, "data");
  wav.setUint32(40, size, true);
}
