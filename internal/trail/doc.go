// Package trail goes along a path as the kernel does, link by link, so that a
// caller can look at each directory on the way: who may replace what lies at its
// end.
//
// It trusts nothing: what it has looked at may be another thing a moment later.
// The caller decides what of that matters.
//
// It keeps no state; any goroutine may call it.
//
// Standards: path_resolution(7).
//
// Not here: whose directories and files are good enough for what (internal/alert,
// internal/config).
package trail
