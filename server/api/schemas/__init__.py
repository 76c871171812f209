"""Request bodies of the API, one file per endpoint, as OpenAI and vLLM define them."""
