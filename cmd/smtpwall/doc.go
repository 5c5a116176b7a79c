// Command smtpwall is the outbound mail firewall for a Linux host: no process
// speaks SMTP to the outside except it, and it only sends mail that it can
// attribute, that policy allows, through relays that the administrator approved.
//
// See docs/man and the README.
package main
