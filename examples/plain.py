"""Ask with Python's own library alone: python examples/plain.py [ADDRESS]"""

import json
import sys
import urllib.request

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8410"


def call(path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    """GET a path, or POST a JSON body to it; the answer is JSON."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


model = call("/v1/models")["data"][0]["id"]
answer = call(
    "/v1/completions",
    {"model": model, "prompt": "The three primary colours are", "max_tokens": 24, "temperature": 0},
)
print(answer["choices"][0]["text"])
print("tokens:", answer["usage"]["total_tokens"])
