"""Health of a container as exit status: ``health.py https://HOST:PORT/health`` or ``HOST:PORT``.

The certificate is checked like anybody else would, by /keys/ca.crt.
"""

import socket
import ssl
import sys
import urllib.request

SECONDS = 5.0

target = sys.argv[1]
if target.startswith("https://"):
    trust = ssl.create_default_context(cafile="/keys/ca.crt")
    with urllib.request.urlopen(target, timeout=SECONDS, context=trust) as answer:
        sys.exit(answer.status != 200)
host, _, port = target.rpartition(":")
socket.create_connection((host, int(port)), SECONDS).close()
