// Linear samples of 16 bits as they travel: audio/L16, in network byte order (RFC 2586).

// Samples from -1 to 1, two bytes each; louder ones are clipped.
export function encode(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  for (let at = 0; at < samples.length; at++) {
    const sample = Math.round(samples[at] * 32768);
    bytes.setInt16(2 * at, Math.max(-32768, Math.min(32767, sample)));
  }
  return new Uint8Array(bytes.buffer);
}

// The samples of whole pairs of bytes.
export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Int16Array.from({ length: bytes.length >> 1 }, (_, at) => view.getInt16(2 * at));
}
