"""Times logins with smtplib: login.py HOST:PORT NAME CA SECURITY USER TIMES."""

import json
import os
import smtplib
import ssl
import statistics
import sys
import time

address, name, authority, security, user, times = sys.argv[1:]
host, port = address.rsplit(":", 1)
context = ssl.create_default_context(cafile=authority)


class Named(smtplib.SMTP):
    """Connects to an address and expects a certificate for a name."""

    def starttls_as(self, expected):
        self._host = expected
        self.starttls(context=context)


class NamedSSL(smtplib.SMTP_SSL):
    def __init__(self, address, port, expected):
        self.expected = expected
        super().__init__(address, port, context=context)

    def _get_socket(self, address, port, timeout):
        import socket

        plain = socket.create_connection((address, port))
        return self.context.wrap_socket(plain, server_hostname=self.expected)


def session():
    begin = time.perf_counter()
    if security == "STARTTLS":
        client = Named(host, int(port))
        client.starttls_as(name)
    else:
        client = NamedSSL(host, int(port), name)
    secured = time.perf_counter()
    client.login(user, os.environ["BENCH_PASSWORD"])
    end = time.perf_counter()
    client.quit()
    return (end - secured) * 1e3, (end - begin) * 1e3


session()  # the first password check is not what a login costs
samples = [session() for _ in range(int(times))]
print(json.dumps({
    "Login": statistics.median(s[0] for s in samples),
    "Whole": statistics.median(s[1] for s in samples),
}))
