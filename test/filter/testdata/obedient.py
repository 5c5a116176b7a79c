"""A filter on the real libmilter that does what the fields X-Do of a message say,
each at its place: "add NAME VALUE" and so on once it has the whole message."""

import hashlib
import sys

import Milter


class Obedient(Milter.Base):
    def connect(self, hostname, family, hostaddr):
        self.client = "%s %s %s" % (hostname, hostaddr[0], self.getsymval("j"))
        return Milter.CONTINUE

    def hello(self, hostname):
        self.client += " " + hostname
        return Milter.CONTINUE

    def envfrom(self, sender, *params):
        self.orders = []
        self.digest = hashlib.sha256()
        self.sender = " ".join((sender,) + params + (self.getsymval("i"), self.getsymval("{auth_authen}") or "-"))
        self.recipients = []
        return Milter.CONTINUE

    @Milter.noreply
    def envrcpt(self, recipient, *params):
        self.recipients.append(" ".join((recipient,) + params))
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):
        if name == "X-Do":
            self.orders.append(value)
        return Milter.CONTINUE

    def eoh(self):
        return self.final("early")

    def body(self, chunk):
        self.digest.update(chunk)
        return Milter.CONTINUE

    def eom(self):
        for order in self.orders:
            verb, _, rest = order.partition(" ")
            method = getattr(self, "do_" + verb, None)
            if method:
                method(rest)
        return self.final("end")

    def final(self, when):
        result = Milter.CONTINUE
        for order in self.orders:
            word, _, rest = order.partition(" ")
            if word == when:
                verb, _, rest = rest.partition(" ")
                if verb == "reply":
                    code, enhanced, text = rest.split(" ", 2)
                    self.setreply(code, enhanced, *text.split("|"))
                    verb = "TEMPFAIL" if code[0] == "4" else "REJECT"
                result = getattr(Milter, verb)
        return result

    def do_tell(self, _):
        self.addheader("X-Client", self.client)
        self.addheader("X-Sender", self.sender)
        self.addheader("X-Recipients", ",\n\t".join(self.recipients))
        self.addheader("X-Body", self.digest.hexdigest())

    def do_add(self, rest):
        self.addheader(*rest.split(" ", 1))

    def do_insert(self, rest):
        index, name, value = rest.split(" ", 2)
        self.addheader(name, value, int(index))

    def do_change(self, rest):
        index, name, value = rest.split(" ", 2)
        self.chgheader(name, int(index), value)

    def do_body(self, rest):
        self.replacebody(rest.replace("|", "\r\n"))

    def do_fill(self, rest):
        for _ in range(int(rest)):
            self.replacebody(b"0123456789abcd\r\n" * 4096)

    def do_quarantine(self, rest):
        self.quarantine(rest)

    def do_envelope(self, rest):
        self.addrcpt(rest)
        self.delrcpt(rest)
        self.chgfrom(rest)

    def do_progress(self, rest):
        for _ in range(int(rest)):
            self.progress()


Milter.factory = Obedient
Milter.set_flags(Milter.CHGBODY + Milter.CHGHDRS + Milter.ADDHDRS + Milter.ADDRCPT + Milter.DELRCPT + Milter.CHGFROM + Milter.QUARANTINE)
Milter.runmilter("obedient", sys.argv[1], 60)
