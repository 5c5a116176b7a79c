package config

import (
	"slices"
	"strings"
)

// covers reports whether r matches everything that other matches. It may miss a
// case, but never claims a wrong one.
func (r *Rule) covers(other *Rule) bool {
	switch {
	case !other.Match.identifies() && len(other.Match.Listener) > 0 && (r.Match.identifies() || len(r.Match.Listener) == 0):
		return false // other is for unknown identities too
	case r.Decision == Allow && r.Match.owner() && !r.Match.place() && !other.Match.onHost() && (other.Decision != Allow || other.Match.place()):
		return false // other is for users in containers too
	case r.Decision == Allow && r.Match.place() && other.Decision != Allow:
		return false // other is also for those whose unit is hidden
	}
	return r.Match.covers(other.Match)
}

// covers reports whether m asks nothing that other does not ask, or asks more
// narrowly.
func (m Match) covers(other Match) bool {
	return coversAll(m.User, other.User, wider) &&
		coversAll(m.UID, other.UID, wider) &&
		coversAll(m.Group, other.Group, wider) &&
		coversAll(m.Unit, other.Unit, wider) &&
		coversAll(m.Container, other.Container, wider) &&
		coversAll(m.Account, other.Account, wider) &&
		coversAll(m.Listener, other.Listener, func(a, b ListenerRole) bool { return a == b })
}

// coversAll reports whether each element of narrow lies within one of wide; an
// empty list asks nothing.
func coversAll[T any](wide, narrow []T, contains func(a, b T) bool) bool {
	if len(wide) == 0 {
		return true
	}
	if len(narrow) == 0 {
		return false
	}
	for _, b := range narrow {
		if !slices.ContainsFunc(wide, func(a T) bool { return contains(a, b) }) {
			return false
		}
	}
	return true
}

// wider reports whether pattern a matches whatever pattern b matches. It does
// if it matches b's own text, wildcards and all, where only a star takes a
// star: what a star of b takes, that star of a can take as well.
func wider(a, b string) bool {
	wide, narrow := []rune(a), []rune(b)
	star, mark := -1, 0 // the last star of wide, and the first of narrow that it does not take
	i, j := 0, 0
	for j < len(narrow) {
		switch {
		case i < len(wide) && wide[i] == '*':
			star, mark = i, j
			i++
		case i < len(wide) && narrow[j] != '*' && (wide[i] == narrow[j] || wide[i] == '?'):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(string(wide[i:]), "*") == ""
}
