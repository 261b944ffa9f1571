// Twilio's errors, as people can use them: what it is, and what to do about it.
// https://www.twilio.com/docs/api/errors

const TOKEN =
  "TWILIO_API_KEY and TWILIO_API_SECRET must be one key of the account TWILIO_ACCOUNT_SID, in Twilio's " +
  "region us1.";
const EXPIRED = "Go online again. If that doesn't help, the clock of the bridge's machine is wrong.";
const NETWORK =
  "Is this machine online? Twilio's signalling is at voice-js.roaming.twilio.com, port 443; a firewall " +
  "or a browser extension may be in the way.";
const MEDIA = "Sound travels by UDP, ports 10000 to 60000: a firewall may be in the way.";
const APP =
  "Look at the TwiML App TWILIO_APP_SID in Twilio's console: its voice request URL must lead to this " +
  "bridge's /voice/inbound. Twilio's debugger tells what it got from there.";

const HELP = {
  20101: TOKEN,
  20103: TOKEN,
  20104: EXPIRED,
  20151: TOKEN,
  31000: APP,
  31001: APP,
  31002: APP,
  31003: MEDIA,
  31005: NETWORK,
  31009: NETWORK,
  31103: "Shorten the text prompt.",
  31105: "Choose another name: letters, digits and underscores.",
  31201: TOKEN,
  31202: TOKEN,
  31203: "Is the account TWILIO_ACCOUNT_SID closed or suspended? Twilio's console tells.",
  31204: TOKEN,
  31205: EXPIRED,
  31206: "Wait a moment, then try again.",
  31401: "Allow the microphone for this page, and call again.",
  31402: "Is there a microphone, and does no other program have it?",
  31404: APP,
  31480: "Nobody answers there now: try again later.",
  31486: "The other side is busy: try again later.",
  31603: "The other side has refused the call.",
  53000: NETWORK,
  53001: NETWORK,
  53405: MEDIA,
};

// Those after which this token is of no use.
const OF_TOKENS = new Set([20101, 20103, 20104, 20151, 31201, 31202, 31203, 31204, 31205]);

export function isOfToken(error) {
  return OF_TOKENS.has(error?.code);
}

// One of the SDK's errors, or any other.
export function inWords(error) {
  if (typeof error?.code !== "number") return error?.message ?? "Twilio gives no reason.";
  const what = error.description ?? error.name ?? "Error";
  const help = HELP[error.code] ?? error.solutions?.[0] ?? error.explanation ?? "";
  return `${what.replace(/\.$/, "")} (Twilio's error ${error.code}). ${help}`.trim();
}

// What the SDK warns of in a call.
const WARNINGS = {
  "high-rtt": "The way to Twilio is long: more than 400 ms there and back.",
  "high-jitter": "Sound arrives unevenly.",
  "high-packet-loss": "Much sound is lost on the way.",
  "high-packets-lost-fraction": "Much sound is lost on the way.",
  "low-mos": "The other side is hard to understand.",
  "low-bytes-sent": "Nothing is sent to Twilio.",
  "low-bytes-received": "Nothing comes from Twilio.",
  "ice-connectivity-lost": "The connection for sound is lost; trying again.",
  "constant-audio-input-level": "The microphone gives no sound: is it the right one?",
};

export function warningInWords(name) {
  return WARNINGS[name] ?? name;
}
