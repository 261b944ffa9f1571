// Twilio's Voice SDK, as a classic script.
async () => {
  const script = document.createElement("script");
  script.src = "/vendor/twilio-voice-sdk/twilio.min.js";
  const loaded = new Promise((resolve, reject) => Object.assign(script, { onload: resolve, onerror: reject }));
  document.head.append(script);
  await loaded;
  return { isSupported: Twilio.Device.isSupported };
}
