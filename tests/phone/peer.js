// The other side of a softphone's call, in a page of its own: Twilio's media server. It sends a tone
// and listens to what comes. Evaluated once; everything else calls `window.peer`.
() => {
  let connection;
  let context;
  let analyser;

  function open({ takesKeys }) {
    connection?.close();
    connection = new RTCPeerConnection();
    context ??= new AudioContext();
    const tone = new OscillatorNode(context, { frequency: 440 });
    const out = context.createMediaStreamDestination();
    tone.connect(new GainNode(context, { gain: 0.3 })).connect(out);
    tone.start();
    // Not addTransceiver: an offer's line is never matched to one of those.
    connection.addTrack(out.stream.getAudioTracks()[0], out.stream);
    const [line] = connection.getTransceivers();
    const { codecs } = RTCRtpReceiver.getCapabilities("audio");
    const isKeys = ({ mimeType }) => mimeType === "audio/telephone-event";
    line.setCodecPreferences(codecs.filter((codec) => takesKeys || !isKeys(codec)));
    connection.ontrack = ({ streams: [stream] }) => {
      Object.assign(new Audio(), { srcObject: stream, muted: true }).play(); // or Chromium plays nothing
      analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 });
      context.createMediaStreamSource(stream).connect(analyser);
    };
  }

  // All candidates are in the description: the softphone sends and takes no more of them.
  async function described() {
    await connection.setLocalDescription();
    while (connection.iceGatheringState !== "complete") {
      await new Promise((go) => connection.addEventListener("icegatheringstatechange", go, { once: true }));
    }
    return connection.localDescription.sdp;
  }

  window.peer = {
    async answer(sdp, options) {
      open(options);
      await connection.setRemoteDescription({ type: "offer", sdp });
      return described();
    },

    offer(options) {
      open(options);
      return described();
    },

    accept: (sdp) => connection.setRemoteDescription({ type: "answer", sdp }),

    hangUp: () => connection.close(),

    // Wait until these tones, and no louder ones, are heard.
    async hears(tones) {
      const spectrum = new Float32Array(2048);
      const binHz = context.sampleRate / 4096;
      for (;;) {
        await new Promise((go) => setTimeout(go, 20));
        if (!analyser) continue;
        analyser.getFloatFrequencyData(spectrum);
        const bins = [...spectrum.keys()].filter((bin) => bin * binHz > 300 && bin * binHz < 3000);
        const isTone = (bin) => tones.some((hz) => Math.abs(bin * binHz - hz) < 60);
        const loudest = (list) => Math.max(...list.map((bin) => spectrum[bin]));
        const others = loudest(bins.filter((bin) => !isTone(bin)));
        const weakest = Math.min(
          ...tones.map((hz) => loudest(bins.filter((bin) => Math.abs(bin * binHz - hz) < 30))),
        );
        if (weakest > -60 && weakest > others + 10) return true;
      }
    },

    // Wait until something is heard at all.
    async hearsSound() {
      const samples = new Float32Array(2048);
      for (;;) {
        await new Promise((go) => setTimeout(go, 20));
        analyser?.getFloatTimeDomainData(samples);
        if (samples.some((sample) => Math.abs(sample) > 0.02)) return true;
      }
    },
  };
}
