// Command bench measures smtpwall against other proxies: the same load, the same
// relay, in turn in one run, as shares of the direct rate.
//
// It trusts no peer to have delivered anything: every message that was answered
// with 250 is looked for, by digest, among those that the relay recorded.
//
// The load generator runs in this process; the relay is a process of its own,
// and so is each peer. Peers run one at a time.
//
// What is measured follows the benchmark's description in docs/performance.md.
//
// Not here: clients (load), the relay process (farend), peers' configurations
// (peer).
package main
