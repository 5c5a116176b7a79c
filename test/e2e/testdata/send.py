# Sends one message with smtplib, as told by a JSON object on standard input,
# and prints what came of it as another. smtplib leaves Nagle's algorithm on.
import json
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


outcome = {}
client = Client(name, order["port"], local_hostname="client.example", timeout=20)
if order["tls"] == "starttls":
    client._host = name
    client.starttls(context=context)
began = time.perf_counter()
client.ehlo()
outcome["ehlo_ms"] = (time.perf_counter() - began) * 1000
outcome["extensions"] = client.esmtp_features
outcome["certificate"] = None
if order["tls"] != "none":
    names = client.sock.getpeercert().get("subjectAltName", ())
    outcome["certificate"] = [value for _, value in names]
if order.get("user"):
    if order.get("mechanism"):
        client.esmtp_features["auth"] = order["mechanism"]
    outcome["login"] = client.login(order["user"], order["password"])[0]
if order.get("file"):
    message = open(order["file"], "rb").read()
    outcome["refused"] = {}
    try:
        refused = client.sendmail(order["from"], order["to"], message, mail_options=["BODY=8BITMIME"])
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
