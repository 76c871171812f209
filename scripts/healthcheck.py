"""Exit 0 if the server of this container answers /health, else 1; the image has no curl."""

import os
import sys
import urllib.request


def main() -> int:
    port = os.environ.get("CORRAL_PORT", "8000")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/health")
    key = os.environ.get("CORRAL_API_KEY", "").split(",")[0].strip()
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=4) as answer:  # noqa: S310 - loopback http, built above
            return 0 if answer.status == 200 else 1
    except OSError as error:
        print(f"no answer from /health: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
