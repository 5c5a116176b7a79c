# Reads a mail as the mail programs of people do, with Python's email package,
# and prints what it understands of it as a JSON object.
import email
import email.policy
import json
import sys

with open(sys.argv[1], "rb") as file:
    mail = email.message_from_binary_file(file, policy=email.policy.default)


def defects(part):
    found = [repr(defect) for defect in part.defects]
    for name, value in part.items():
        found += [name + ": " + repr(defect) for defect in getattr(value, "defects", ())]
    if part.is_multipart():
        for inner in part.get_payload():
            found += defects(inner)
    return found


def fields(part):
    return {name.lower(): str(value) for name, value in part.items()}


outcome = {
    "header": fields(mail),
    "type": mail.get_content_type(),
    "report_type": mail.get_param("report-type"),
    "defects": defects(mail),
    "parts": [],
    "text": "",
    "status": [],
    "returned": {},
}
if not mail.is_multipart():
    outcome["text"] = mail.get_content()
for part in mail.iter_parts():
    kind = part.get_content_type()
    outcome["parts"].append(kind)
    if kind == "text/plain":
        outcome["text"] = part.get_content()
    elif kind == "message/delivery-status":
        outcome["status"] = [fields(block) for block in part.get_payload()]
    elif kind == "text/rfc822-headers":
        returned = email.message_from_bytes(part.get_payload(decode=True), policy=email.policy.default)
        outcome["returned"] = fields(returned)
    elif kind == "message/rfc822":
        returned = part.get_payload(0)
        outcome["returned"] = fields(returned)
        outcome["body"] = len(returned.get_payload(decode=True))
json.dump(outcome, sys.stdout)
