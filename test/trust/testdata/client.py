# Sends a message with smtplib, verifying as Python does by default. Arguments:
# host, port, starttls or implicit.
import smtplib
import ssl
import sys

host, port, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context()
if way == "implicit":
    client = smtplib.SMTP_SSL(host, port, timeout=20, context=context)
else:
    client = smtplib.SMTP(host, port, timeout=20)
    client.starttls(context=context)
with client:
    message = "From: app@example.org\r\nTo: you@example.com\r\nSubject: python\r\n\r\nhello\r\n"
    client.sendmail("app@example.org", ["you@example.com"], message)
