#!/usr/bin/python3
"""The lab's OCSP responders for what issuing-ca issued, in front of `openssl ocsp`, which answers each request anew from the CA's
database; its own server would not survive a client that hangs up.

    ocsp.py LAB PORT

    /                  a responder certificate of the CA's
    /ca                signed by the CA itself
    /device            signed by a device's certificate of the same CA
    /badsig            a broken signature
    /no-next-update    newer information is always available
    /try-later         the status tryLater (RFC 6960 section 4.2.1)
    /huge              more than anybody should read
    /silent            never answers
"""

import base64
import os
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HUGE = 8 * 1024 * 1024
TRY_LATER = bytes.fromhex("30030a0103")
# path: signer, further options
KINDS = {
    "": ("ocsp", ["-nmin", "5"]),
    "ca": ("issuing-ca", ["-nmin", "5"]),
    "device": ("alice-issued", ["-nmin", "5"]),
    "badsig": ("ocsp", ["-nmin", "5", "-badsig"]),
    "no-next-update": ("ocsp", []),
}


class Responder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lab = None
    timeout = 30

    def do_POST(self):
        length = int(self.headers.get("content-length", "0"))
        self.answer(self.path.strip("/"), self.rfile.read(min(length, 65536)))

    def do_GET(self):
        kind, _, encoded = self.path.lstrip("/").partition("/")
        if kind not in KINDS and kind not in ("try-later", "huge", "silent"):
            kind, encoded = "", self.path.lstrip("/")
        self.answer(kind, base64.b64decode(urllib.parse.unquote(encoded)))

    def answer(self, kind, request):
        if kind == "silent":
            time.sleep(600)
        elif kind == "huge":
            self.send(bytes(HUGE))
        elif kind == "try-later":
            self.send(TRY_LATER)
        elif kind in KINDS:
            self.send(respond(self.lab, kind, request))
        else:
            self.send_error(404)

    def send(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def respond(lab, kind, request):
    signer, options = KINDS[kind]
    pki = os.path.join(lab, "pki")
    path = lambda name: os.path.join(pki, name)  # noqa: E731
    reading, writing = os.pipe()
    threading.Thread(target=feed, args=(writing, request), daemon=True).start()
    command = ["openssl", "ocsp", "-index", path("ca/issuing-ca/index.txt"), "-CA", path("issuing-ca.pem")]
    command += ["-rsigner", path(f"{signer}.pem"), "-rkey", path(f"{signer}.key"), *options]
    command += ["-reqin", f"/dev/fd/{reading}", "-respout", "/dev/stdout"]
    done = subprocess.run(command, pass_fds=[reading], capture_output=True, check=False)
    os.close(reading)
    start = done.stdout.find(b"\x30")
    return done.stdout[start:] if start >= 0 else TRY_LATER


def feed(handle, data):
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def main():
    Responder.lab = sys.argv[1]
    ThreadingHTTPServer(("127.0.0.14", int(sys.argv[2])), Responder).serve_forever()


main()
