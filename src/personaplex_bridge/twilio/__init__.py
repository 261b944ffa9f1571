"""Twilio's side of the bridge: Media Streams messages, TwiML, request signatures."""
