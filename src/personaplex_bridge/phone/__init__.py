"""A telephone in the browser: the page, and the calls it makes, at the same media socket as
Twilio's and in the same words.
"""
