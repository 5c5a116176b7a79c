package e2e_test

import (
	"strings"
	"testing"
)

// TestRelayLeaves: the connection to the relay breaks off at any point between the
// client's commands. The client hears 250 for all that it does, and each of its
// recipients gets the letter, once.
func TestRelayLeaves(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	recipients := []string{"first@example.net", "second@example.net", "third@example.net"}
	points := []string{"after MAIL", "after the first RCPT", "after the last RCPT", "after DATA", "within the data", "before the end of data"}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			l := bigLetter(200 << 10)
			k := b.talk(t)
			at := func(now string) {
				if now == point {
					b.relay.DropConnections()
				}
			}
			k.must(250, "MAIL FROM:<%s>", sender)
			at("after MAIL")
			for i, address := range recipients {
				k.must(250, "RCPT TO:<%s>", address)
				at([]string{"after the first RCPT", "", "after the last RCPT"}[i])
			}
			k.must(354, "DATA")
			at("after DATA")
			half := len(l.text) / 2
			k.write(l.text[:half])
			at("within the data")
			k.write(l.text[half:])
			at("before the end of data")
			k.write([]byte(".\r\n"))
			got := k.must(250, "")
			b.checkAllReached(t, l, got, recipients)
		})
	}
}

// write sends octets as they are.
func (k *talk) write(octets []byte) {
	k.t.Helper()
	if _, err := k.text.W.Write(octets); err != nil {
		k.t.Fatal(err)
	}
	if err := k.text.W.Flush(); err != nil {
		k.t.Fatal(err)
	}
}

// checkAllReached: each recipient has a letter, once, at once or from the queue.
func (b *bed) checkAllReached(t *testing.T, l letter, got reply, recipients []string) {
	t.Helper()
	txn := got.txn(t)
	if strings.Contains(got.text, "queued, the relay does not take it now") {
		b.retry(t, txn)
		b.awaitDelivery(t, txn)
	}
	checkReached(t, findOne(t, b.relay, l), recipients)
	l.compare(t, findOne(t, b.relay, l).Bytes)
	b.checkStored(t)
}

// TestChunksForSpool: a client that sends by BDAT while the relay is away, in
// chunks that split the letter anywhere.
func TestChunksForSpool(t *testing.T) {
	t.Parallel()
	for _, delivery := range []string{`mode = "proxy"`, `mode = "queue"`} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{delivery: delivery})
			b.run.said.await(t, "relay is ready", 1) // so that it is known what it offers
			b.down(t, b.relay)
			small, big := newLetter(), bigLetter(100<<10)
			k := b.talk(t)
			var txns []string
			for _, l := range []letter{small, big} {
				k.must(250, "MAIL FROM:<%s> BODY=8BITMIME", sender)
				k.must(250, "RCPT TO:<%s>", recipient)
				third := len(l.text) / 3
				k.chunk(l.text[:third], "")
				k.chunk(l.text[third:2*third], "")
				txns = append(txns, k.chunk(l.text[2*third:], " LAST").txn(t))
			}
			b.checkStored(t, txns[0]+".deferred", txns[1]+".deferred")
			b.up(t, b.relay)
			b.retry(t, txns...)
			b.arrivedLater(t, small, txns[0], trace{"local process", "ESMTP"})
			b.arrivedLater(t, big, txns[1], trace{"local process", "ESMTP"})
		})
	}
}

// chunk sends one BDAT, which must have the reply 250.
func (k *talk) chunk(octets []byte, last string) reply {
	k.t.Helper()
	if err := k.text.PrintfLine("BDAT %d%s", len(octets), last); err != nil {
		k.t.Fatal(err)
	}
	k.write(octets)
	return k.must(250, "")
}

// TestPolicyAnew: what policy forbids by now is not delivered from the queue, and
// is when policy allows it again.
func TestPolicyAnew(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.down(t, b.relay)
	l := newLetter()
	txn := b.queue(t, siteUID, l)
	b.reload(setup{config: "[[policy.rule]]\nname = \"nobody\"\nmatch = { user = [\"*\"] }\ndecision = \"deny\"\n"})
	b.up(t, b.relay)
	b.output("queue", "retry", "--all") // if it has not been tried since
	if held := b.awaitHeld(t, "policy", 1); held[0] != txn {
		t.Errorf("hold has %v, want %s", held, txn)
	}
	if n := len(b.relay.Messages()); n > 0 {
		t.Errorf("the relay has %d messages that policy forbids", n)
	}
	b.reload(setup{})
	b.arrivedLater(t, l, txn, trace{"local process", "ESMTP"})
}

// TestModeChanges: a reload changes who has custody first, for new messages, and
// strands none; not even where for a while no relay is configured.
func TestModeChanges(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.down(t, b.relay)
	letters := map[string]letter{}
	for _, s := range []setup{{}, {delivery: `mode = "queue"`}, {noRelay: true}, {}} {
		b.reload(s)
		l := newLetter()
		k := b.talk(t)
		got := k.send(l, sender, recipient)
		k.close()
		if got.code != 250 {
			t.Fatalf("with %+v the client hears %+v", s, got)
		}
		letters[got.txn(t)] = l
	}
	b.up(t, b.relay)
	for txn, l := range letters {
		b.retry(t, txn)
		b.arrivedLater(t, l, txn, trace{"local process", "ESMTP"})
	}
	b.checkStored(t)
}
