// G.711 mu-law: one byte a sample, the sound of the telephone network.

const BIAS = 132;
const MOST = 32767;

// One sample as a byte. Negative ones are complemented, not negated: so does the ITU's own coder.
function encodeSample(sample) {
  const sign = sample < 0 ? 0x80 : 0;
  const magnitude = Math.min((sample < 0 ? ~sample : sample) + BIAS, MOST);
  const exponent = 31 - Math.clz32(magnitude) - 7;
  const mantissa = (magnitude >> (exponent + 3)) & 0x0f;
  return ~(sign | (exponent << 4) | mantissa) & 0xff;
}

function decodeSample(byte) {
  const code = ~byte & 0xff;
  const magnitude = ((((code & 0x0f) << 3) + BIAS) << ((code >> 4) & 7)) - BIAS;
  return code & 0x80 ? -magnitude : magnitude;
}

const DECODED = Int16Array.from({ length: 256 }, (_, byte) => decodeSample(byte));

// Samples from -1 to 1 as mu-law; louder ones are clipped.
export function encode(samples) {
  return Uint8Array.from(samples, (sample) => encodeSample(Math.round(sample * 32768)));
}

// Mu-law as samples of 16 bits.
export function decode(bytes) {
  return Int16Array.from(bytes, (byte) => DECODED[byte]);
}
