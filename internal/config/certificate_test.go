package config

import "testing"

func TestSignsRedirected(t *testing.T) {
	for _, c := range []struct {
		names, exclude []string
		name           string
		want           bool
	}{
		{[]string{"*"}, nil, "smtp.example.com", true},
		{[]string{"*"}, nil, "", false},
		{nil, nil, "smtp.example.com", false},
		{[]string{"smtp.example.com"}, nil, "smtp.example.com", true},
		{[]string{"smtp.example.com"}, nil, "a.smtp.example.com", false},
		{[]string{"smtp.example.com"}, nil, "xsmtp.example.com", false},
		{[]string{"*.example.com"}, nil, "smtp.example.com", true},
		{[]string{"*.example.com"}, nil, "a.b.example.com", true},
		{[]string{"*.example.com"}, nil, "example.com", false},
		{[]string{"*.example.com"}, nil, ".example.com", false},
		{[]string{"*.example.com"}, nil, "badexample.com", false},
		{[]string{"*.example.com"}, nil, "smtp.example.com.evil.net", false},
		{[]string{"*"}, []string{"*.bank.example"}, "mail.bank.example", false},
		{[]string{"*"}, []string{"*.bank.example"}, "bank.example", true},
		{[]string{"*"}, []string{"*.bank.example", "bank.example"}, "bank.example", false},
		{[]string{"mail.bank.example"}, []string{"*.bank.example"}, "mail.bank.example", false},
		{[]string{"*"}, []string{"*"}, "smtp.example.com", false},
	} {
		settings := Certificates{RedirectedNames: c.names, RedirectedExclude: c.exclude}
		if got := settings.SignsRedirected(c.name); got != c.want {
			t.Errorf("names %q, exclude %q: %q is signed: %t, want %t", c.names, c.exclude, c.name, got, c.want)
		}
	}
}

func TestParseFingerprint(t *testing.T) {
	want, err := parseFingerprint("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if err != nil {
		t.Fatal(err)
	}
	for text, valid := range map[string]bool{
		"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=":                                                    true,
		"sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU":                                                     true,
		"sha256:E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55": true,
		"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855":                                true,
		"sha256:E3:B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855":                               false,
		"sha256:": false, "": false, "sha512:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=": false,
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85":    false,
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85500": false,
	} {
		if got, err := parseFingerprint(text); (err == nil) != valid || valid && got != want {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
}

// TestSecretsOfCertificates reads both, and leaves them unread for the guard.
func TestSecretsOfCertificates(t *testing.T) {
	t.Setenv("SMTPWALL_TEST_KEY", "c2VjcmV0")
	t.Setenv("SMTPWALL_TEST_BAD", "not base64!")
	text := func(variable string) []byte {
		return []byte("[certificates]\nsource = \"acme\"\nchallenge = \"dns-01\"\neab_key_id = \"k\"\neab_key = { env = \"" + variable + "\" }\n" +
			"[certificates.dns]\nserver = \"192.0.2.53\"\nkey_name = \"k\"\nkey = { env = \"" + variable + "\" }\n")
	}
	config, problems := Parse("smtpwall.toml", text("SMTPWALL_TEST_KEY"), Options{})
	if len(problems) > 0 {
		t.Fatal(show(problems))
	}
	if c := config.Certificates; c.DNS.Key.Reveal() != "c2VjcmV0" || c.Issuers[0].EABKey.Reveal() != "c2VjcmV0" || !c.DNS.IsSet() {
		t.Errorf("the keys are %q and %q", c.DNS.Key.Reveal(), c.Issuers[0].EABKey.Reveal())
	}
	if _, problems = Parse("smtpwall.toml", text("SMTPWALL_TEST_BAD"), Options{}); len(problems) != 2 {
		t.Errorf("keys that are not base64:\n%s", show(problems))
	}
	config, problems = Parse("smtpwall.toml", text("SMTPWALL_TEST_NONE"), Options{SkipSecrets: true})
	if len(problems) > 0 || config.Certificates.DNS.Key.IsSet() || config.Certificates.Issuers[0].EABKey.IsSet() {
		t.Errorf("unread keys:\n%s", show(problems))
	}
}
