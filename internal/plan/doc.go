// Package plan turns what was observed into what enforcing would do: audit
// events go in, and out comes who would be refused, redirected and left alone,
// how long it was watched, and a proposal for the configuration.
//
// It trusts that the events are the guard's and the proxy's, which whoever reads
// the logs sees to. Names in them may come from strangers all the same: in the
// proposal they are quoted, and what could steer a terminal or end a comment is
// escaped. It proposes rules for identities that the kernel proved alone.
//
// A Gatherer is for one goroutine, and reads no clock. What it keeps is bounded,
// however many identities and destinations there are; what is beyond is still
// counted.
//
// The proposal is TOML 1.0, with the keys of smtpwall.toml(5).
//
// Not here: reading logs and the configuration, looking up names, the words
// around the plan (cmd).
package plan
