// What a call's media are: the telephone's mu-law, or linear samples at the model's own rate.

import * as l16 from "./l16.js";
import * as mulaw from "./mulaw.js";

export const FRAME_MS = 20;

export const TELEPHONE = format("audio/x-mulaw", 8000, 1, 0xff, mulaw);
export const HD = format("audio/L16", 24000, 2, 0, l16);

// The one with this encoding; null if there is none.
export function formatOf(encoding) {
  return [TELEPHONE, HD].find((known) => known.encoding === encoding) ?? null;
}

// `silence` is the byte that silence consists of.
function format(encoding, rateHz, sampleBytes, silence, { encode, decode }) {
  const bytesPerSecond = rateHz * sampleBytes;
  const frameBytes = (bytesPerSecond * FRAME_MS) / 1000;
  return { encoding, rateHz, sampleBytes, silence, encode, decode, bytesPerSecond, frameBytes };
}
