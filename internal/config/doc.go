// Package config turns smtpwall.toml into one validated, immutable [Config].
// Every key is described once, in a table beside the value it fills; the
// decoder, the manual page smtpwall.toml(5) and the installed example come from
// that table.
//
// The file is trusted to say what its administrator wants, not to be right:
// every value is checked and all problems are reported in one run, each with
// file, line, key, what is wrong and a hint. A configuration without errors is
// never an open relay. Secrets live outside the file, are read while it is
// loaded, and no problem or printed value shows one. What the host has, users and
// units, is looked at for warnings alone.
//
// A Config is made once and not changed afterwards, so any number of goroutines
// may read it. Nothing here starts one.
//
// The syntax is TOML 1.1. Addresses follow RFC 4291 section 2.2, host names RFC
// 1123 section 2.1, mail addresses in patterns RFC 5321 section 4.1.2.
//
// Not here: finding the machine's own name, resolving relays, opening
// certificates and listeners, hashing passwords. Those who do it take their own
// small options; only cmd and internal/app import this package.
package config

//go:generate go run ./generate
