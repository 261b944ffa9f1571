"""An account's phone numbers at Twilio: where they point, and pointing them here and back."""
