package config

import (
	"math"
	"slices"
	"strings"
)

// Salvage makes the best of a file that Load refuses, for the guard: at boot it
// must put rules up whatever somebody did to the file. Keys without errors
// count, the others have their defaults, and relays without a usable address
// are left out, as is what [[firewall.allow]] lets through with anything wrong
// about it: a slip in its end must not let it through for good. A file that has errors and no mode that can be read is taken for
// one of Enforce, because a slip of the pen must not open a host that was closed.
//
// The Config is never nil and has no secrets; it is not for the proxy, which
// does not start with a file that is wrong. The problems are those of Load.
func Salvage(path string) (*Config, []Problem) {
	text, err := readConfig(path)
	if err != nil {
		config := Default()
		config.Mode = Enforce
		return config, []Problem{{path, 0, "", err.Error(), loadHint(err), Error}}
	}
	d, complete := decode(path, text, Options{SkipSecrets: true})
	d.config.ModeStated = d.saysMode() // by all the problems, not those of its value alone
	if HasErrors(d.problems) && !d.saysMode() {
		d.config.Mode = Enforce
	}
	d.config.Firewall.Allow = d.soundAllows(complete)
	d.config.Relays = slices.DeleteFunc(d.config.Relays, func(r Relay) bool { return r.Host == "" })
	return d.config, d.problems
}

// saysMode reports whether the file has a mode and nothing is wrong with that.
func (d *decoder) saysMode() bool {
	return d.tables[""].has("mode") && !slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == "mode" })
}

// soundAllows returns the entries about which nothing is wrong. After a syntax
// error nobody knows what an entry lacks.
func (d *decoder) soundAllows(complete bool) []AllowEntry {
	var sound []AllowEntry
	for i, entry := range d.config.Firewall.Allow {
		first, next := d.allows[i].table.line, math.MaxInt
		if i+1 < len(d.allows) {
			next = max(d.allows[i+1].table.line, first+1)
		}
		wrong := slices.ContainsFunc(d.problems, func(p Problem) bool {
			return p.Severity == Error && strings.HasPrefix(p.Key, "firewall.allow") && first <= p.Line && p.Line < next
		})
		if complete && !wrong {
			sound = append(sound, entry)
		}
	}
	return sound
}
