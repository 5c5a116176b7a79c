package config

// later binds a key that our documents name and this version does not have.
type later struct{ remedy string }

func (b later) decode(d *decoder, at place, v *value) {
	d.problem(at.line, at.key, unavailable(lastPart(at.key), b.remedy))
}

func (later) describe() string { return "" }

func (later) show() string { return "" }

// nothing binds a list that must stay empty in this version.
type nothing struct{ remedy string }

func (b nothing) decode(d *decoder, at place, v *value) {
	if v.kind != kindArray || len(v.items) > 0 {
		d.problem(v.line, at.key, unavailable("anything but []", b.remedy))
	}
}

func (b nothing) describe() string {
	return "an empty list; other values are not available in this version"
}

func (b nothing) show() string { return "[]" }

// unavailable is the flaw of what our documents name and this version does not
// have.
func unavailable(what, remedy string) flaw {
	return flaw{what + " is not available in this version", remedy}
}
