package config

import "fmt"

// hashBinding binds a hash that stands in the configuration, or in a file of its
// own where nobody else can read it and try passwords.
type hashBinding struct {
	into   *string
	noun   string // "a hash"
	sample string
	check  func(string) error // never quotes what it refuses
}

func (b hashBinding) decode(d *decoder, at place, v *value) {
	switch {
	case v.kind == kindString:
		b.store(d, place{at.key, v.line}, v.text)
	case v.kind != kindTable || len(v.members) != 1:
		d.problem(v.line, at.key, flaw{fmt.Sprintf("must be %s, or name the file that holds it", b.noun), b.forms(at)})
	case v.members[0].name != "file":
		form := v.members[0]
		d.problem(form.line, joinKey(at.key, form.name), flaw{"unknown source of " + b.noun, b.forms(at)})
	default:
		form := v.members[0]
		b.read(d, place{joinKey(at.key, form.name), form.line}, form.value)
	}
}

func (b hashBinding) forms(at place) string {
	return fmt.Sprintf("write %s = %s or { file = \"/path\" }", lastPart(at.key), quote(b.sample))
}

// read stores what the file holds.
func (b hashBinding) read(d *decoder, at place, path *value) {
	if path.kind != kindString {
		d.problem(path.line, at.key, flaw{"must be a path between quotes", `write { file = "/path" }`})
		return
	}
	if d.options.SkipSecrets {
		return
	}
	hash, err := readSecretFile(path.text)
	if err != nil {
		d.wrong(at, asFlaw(err))
		return
	}
	b.store(d, at, hash)
}

func (b hashBinding) store(d *decoder, at place, hash string) {
	if err := b.check(hash); err != nil {
		d.wrong(at, asFlaw(err))
		return
	}
	*b.into = hash
}

func (b hashBinding) describe() string {
	return b.noun + " such as " + quote(b.sample) + `, or { file = "/path" }`
}

func (b hashBinding) show() string { return "" }
