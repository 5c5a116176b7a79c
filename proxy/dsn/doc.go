// Package dsn writes what smtpwall itself has to say by mail: the notice to a
// sender whose message failed, is late or was passed on without confirmation,
// and the digest to the administrator of what no notice could be sent for.
//
// It trusts its caller to have asked whether a notice may go to that sender at
// all (policy.Vouches), and that heading and host are the configuration's. It
// trusts nothing else: addresses, parameters, replies of relays and the message
// itself are strangers' words, are cleaned before they stand in a text, and can
// neither begin a field nor end a part.
//
// Notice and Message are plain values. A Digest belongs to one goroutine at a
// time.
//
// Standards: RFC 3461 sections 4 and 6 (who gets a notice, and what it holds),
// RFC 3462 and 6522 (multipart/report), RFC 3464 (message/delivery-status), RFC
// 6533 and 6532 (the same with addresses beyond ASCII), RFC 3834 (Auto-Submitted),
// RFC 5322, 2045 and 2047.
//
// Not here: sending it (package proxy, by way of the spool), when a message is
// late or too old (package proxy), reading notices of others (nobody does).
package dsn
