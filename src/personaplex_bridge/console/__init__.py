"""The console: what whoever runs the bridge sees and does in a browser, and its API."""
