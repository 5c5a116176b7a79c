# Sends one message with smtplib, as told by a JSON object on standard input,
# and prints what came of it as another. smtplib leaves Nagle's algorithm on.
import base64
import hashlib
import hmac
import json
import os
import smtplib
import socket
import ssl
import sys
import time

order = json.load(sys.stdin)
context = ssl.create_default_context(cafile=order.get("ca"))
name = order.get("name") or order["host"]


class Named:
    """Connects to an address as if its name had been resolved."""

    def _get_socket(self, host, port, timeout):
        plain = socket.create_connection((order["host"], port), timeout)
        if order["tls"] == "implicit":
            return context.wrap_socket(plain, server_hostname=name)
        return plain


class Client(Named, smtplib.SMTP):
    pass


def scram(challenges, user, password):
    """SCRAM-SHA-256 (RFC 5802, RFC 7677) as smtplib wants it: challenge in, response out."""
    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = f"n={user},r={nonce}"
    yield "n,," + bare
    first = (challenges[-1]).decode()
    fields = dict(part.split("=", 1) for part in first.split(","))
    if not fields["r"].startswith(nonce):
        raise ValueError("not our nonce")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))

    def mac(key, text):
        return hmac.new(key, text, "sha256").digest()

    client_key = mac(salted, b"Client Key")
    without_proof = "c=biws,r=" + fields["r"]
    signed = ",".join((bare, first, without_proof)).encode()
    signature = mac(hashlib.sha256(client_key).digest(), signed)
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    yield without_proof + ",p=" + base64.b64encode(proof).decode()
    expected = mac(mac(salted, b"Server Key"), signed)
    if challenges[-1] != b"v=" + base64.b64encode(expected):
        raise ValueError("the server does not know the password")
    yield ""


outcome = {}
client = Client(name, order["port"], local_hostname="client.example", timeout=20)
if order["tls"] == "starttls":
    client._host = name
    client.starttls(context=context)
began = time.perf_counter()
client.ehlo()
outcome["ehlo_ms"] = (time.perf_counter() - began) * 1000
outcome["extensions"] = dict(client.esmtp_features)
outcome["certificate"] = None
if order["tls"] != "none":
    names = client.sock.getpeercert().get("subjectAltName", ())
    outcome["certificate"] = [value for _, value in names]
if order.get("user"):
    if order.get("mechanism") == "SCRAM-SHA-256":
        challenges = []
        dialogue = scram(challenges, order["user"], order["password"])

        def respond(challenge=None):
            challenges.append(challenge)
            return next(dialogue)

        outcome["login"] = client.auth("SCRAM-SHA-256", respond)[0]
    else:
        if order.get("mechanism"):
            client.esmtp_features["auth"] = order["mechanism"]
        outcome["login"] = client.login(order["user"], order["password"])[0]
if order.get("file"):
    message = open(order["file"], "rb").read()
    outcome["refused"] = {}
    try:
        options = ["BODY=8BITMIME"] if client.has_extn("8bitmime") else []
        options += ["SMTPUTF8"] if order.get("utf8") else []
        refused = client.sendmail(order["from"], order["to"], message, mail_options=options)
        outcome["refused"] = {rcpt: [code, text.decode()] for rcpt, (code, text) in refused.items()}
    except smtplib.SMTPResponseException as e:
        outcome["error"] = [e.smtp_code, e.smtp_error.decode()]
    except smtplib.SMTPRecipientsRefused as e:
        outcome["refused"] = {rcpt: [code, text.decode()] for rcpt, (code, text) in e.recipients.items()}
try:
    client.quit()
except smtplib.SMTPServerDisconnected:
    pass
json.dump(outcome, sys.stdout)
