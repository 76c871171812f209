"""What models are worth: ``corral eval``, over any OpenAI endpoint.

It asks, scores and reports. It knows endpoints by their URL alone, and nothing of the server beside
which it is installed, so that every other server is measured in the same way.
"""
