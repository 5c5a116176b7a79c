package config

import "fmt"

func (d *decoder) checkAccounts() {
	seen := make(map[string]int, len(d.accounts))
	for i, account := range d.config.Accounts {
		at := d.accounts[i]
		if !at.has("name") {
			d.wrong(at.at("name"), flaw{"is missing", `write name = "webshop"`})
		}
		if !at.has("password") && !at.has("scram") && !at.has("certificate") {
			d.wrong(at.at("password"), flaw{"is missing", "`smtpwall account hash` makes one"})
		}
		if at.has("certificate") && len(account.Certificates) == 0 && !d.blames(at.at("certificate")) {
			d.wrong(at.at("certificate"), flaw{"is an empty list", "name a certificate, or remove it"})
		}
		if first, twice := seen[account.Name]; twice && account.Name != "" {
			d.wrong(at.at("name"), flaw{fmt.Sprintf("account %q was already given in line %d", account.Name, first),
				"keep one of the two"})
			continue
		}
		seen[account.Name] = at.at("name").line
	}
	d.checkFingerprints()
}

// checkFingerprints refuses a certificate that says two names.
func (d *decoder) checkFingerprints() {
	owner := make(map[[32]byte]int)
	for i, account := range d.config.Accounts {
		at := d.accounts[i]
		for _, fingerprint := range account.Certificates {
			if first, twice := owner[fingerprint]; twice {
				d.wrong(at.at("certificate"), flaw{
					fmt.Sprintf("account %q has the same certificate, in line %d", d.config.Accounts[first].Name, d.accounts[first].at("certificate").line),
					"give each account a certificate of its own, so that it is known who logs in"})
				continue
			}
			owner[fingerprint] = i
		}
	}
}
