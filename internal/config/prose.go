package config

var manualStart = []manualPart{
	{"NAME", `smtpwall.toml - configuration of the outbound mail firewall smtpwall`},
	{"SYNOPSIS", `/etc/smtpwall/smtpwall.toml`},
	{"DESCRIPTION", "The file is TOML. Every key has a safe default, and an empty file, or none, is a valid configuration: observe mode, loopback listeners, and mail held in the spool until a relay is configured. " +
		"Unknown keys are errors. `smtpwall check` reports everything that is wrong with the file in one run, and `systemctl reload smtpwall` refuses a file with errors and goes on with the one before.\n\n" +
		`Sizes and durations are strings with a unit: B, KiB, MiB, GiB, kB, MB, GB; ms, s, m, h, d. "1h30m" is a duration, and a day has 24 hours.` + "\n\n" +
		`In patterns * stands for any number of characters and ? for one. In a pattern for mail addresses neither reaches across the @, and case does not count.`},
	{"SECRETS", `A secret never stands in the file itself. Its place does, in one of three forms:

  { credential = "name" }    a credential that systemd passes
  { file = "/path" }         a regular file
  { env = "NAME" }           an environment variable

The packaged service passes each file of /etc/smtpwall/credentials as the credential of that name, and others by LoadCredentialEncrypted= in a drop-in; systemd reads them when the service starts.

A { file } must belong to root or to the user that reads it; others may neither read it nor write to it, its group may not write to it, and it must not be a symbolic link. One newline at its end is cut off. A secret is one line of at most 4096 bytes of UTF-8. The same holds for a file with the hash of an account's password.`},
}

var manualEnd = []manualPart{
	{"IDENTITIES", `Limits, breakers and suspensions are of an identity, which is the first of these that is known: the container, the user that the kernel vouches for, the account that the client logged in as. Its key in commands and events is container:ID, uid:33 or account:webshop; units have unit:NAME. Nothing that a client merely says makes one.

A service's processes share its unit. A login session is no unit of its own, so nobody gets room anew by logging in again.`},
	{"LIMITS", `A limit holds in any window of its length, however that lies: nothing starts anew at the hour. What was sent leaves the window when it is as old as the window, or up to a 64th of the window later, and never earlier. Counted is what was accepted, for each recipient and not for each connection; a transaction that is refused or broken off gives everything back, and delivery from the spool counts nothing again. A recipient is new to an identity that has not sent to it for 30 days.

Counts survive a restart, and a crash but for the last second. Where their store is damaged it is set aside, which smtpwall status shows, and every identity begins as if it had sent evenly up to its limits.

Beyond a limit a message is deferred with 450 and the time at which there is room, unless the ladder has another rung for that:

  ladder = ["slow at 80%", "defer at 100%", "suspend at 400%"]

Rungs come with rising percentages, and each action once. A percentage up to 100 is of what has been sent; beyond it counts what was tried, too, so that "suspend at 400%" stops an identity that goes on trying. "slow" delays replies for one to ten seconds. With "slow" as its last rung, at 100% or more, a ladder refuses nothing. A breaker that trips with "raise" makes the first rung apply whatever has been sent, and the next one each further time, up to the top.

The default fits a small server: 200 messages an hour and 2000 recipients a day for each identity. Who sends newsletters needs more:

  [[policy.rule]]
  name     = "newsletter"
  match    = { user = ["news"] }
  senders  = ["news@example.com"]
  decision = "allow"
  limits   = ["5000 messages/hour"]`},
	{"EXAMPLE", `Everything from this host leaves through one relay; the sites may send for their domain, and the rest of the host for its own.

  mode = "enforce"

  [host]
  name = "vps1.example.net"

  [relay.main]
  address  = "smtp.example.com:587"
  username = "relay-user"
  password = { credential = "relay-main" }

  [[policy.rule]]
  name     = "sites"
  match    = { user = ["www-data", "site-*"] }
  senders  = ["*@example.com"]
  decision = "allow"
  limits   = ["100 messages/hour", "500 recipients/day", "50 new-recipients/day"]
  ladder   = ["slow at 80%", "defer at 100%", "suspend at 400%"]

  [[policy.rule]]
  name     = "system"
  match    = { user = ["*"] }
  senders  = ["*@vps1.example.net"]
  decision = "allow"

  [[expect]]
  as       = "www-data"
  from     = "shop@example.com"
  to       = ["customer@example.net"]
  decision = "allow"
  rule     = "sites"

  [[alert]]
  exec   = ["/usr/local/bin/page-me"]
  events = ["breaker", "suspension", "relay"]`},
	{"FILES", `/etc/smtpwall/smtpwall.toml

/etc/smtpwall/credentials

/var/lib/smtpwall/spool

/var/lib/smtpwall/certs: the local CA in local-ca, and in acme the accounts, keys and certificates that CAs gave

/var/lib/smtpwall/limits/limits.db; one that is damaged is set aside beside it, as limits.db.damaged-TIME

/run/smtpwall/submit.sock, /run/smtpwall/admin.sock

/var/log/smtpwall/transactions.jsonl, /var/log/smtpwall/attempts.jsonl`},
	{"SEE ALSO", "systemd.exec(5) on credentials, nft(8), https://toml.io"},
}
