package limit

import (
	"fmt"
	"strconv"
	"time"
)

// Counted is what a limit counts.
type Counted uint8

const (
	Messages      Counted = iota // transactions accepted
	Recipients                   // recipients accepted, whatever the number of transactions
	NewRecipients                // recipients to whom the identity has not sent in 30 days
	Bytes                        // octets of messages, once for each message
	kinds         = 4
)

func (c Counted) String() string {
	if int(c) < kinds {
		return [kinds]string{"messages", "recipients", "new-recipients", "bytes"}[c]
	}
	return "counted " + strconv.Itoa(int(c))
}

// Limit is at most Max of something in any Window.
type Limit struct {
	Counted Counted
	Max     int64         // below 1 there is never room
	Window  time.Duration // 1 second to 30 days
}

// Budget is what counts together under one key.
type Budget struct {
	Key    string // proven attribute or verified account, as "uid:33", "unit:cron.service" or "host"
	Limits []Limit
	// Shared says that other identities count under the key, too: what they use
	// and ask for must not be held against this one.
	Shared bool
}

// Amount is what is claimed at once. Negative numbers are none.
type Amount struct {
	Messages, Recipients, Bytes int64
	Recipient                   string // address of the one recipient claimed, to know whether it is new; "" is none
}

// Answer is what became of a claim.
type Answer struct {
	Room  bool // all of it was taken; else nothing was
	Key   string
	Limit Limit // without room the limit that opens last, else the one that is fullest; the zero Limit where there is none
	Used  int64 // of that limit before this claim, others' claims included

	// Opens is the earliest time with room for this amount, as far as is known
	// now. Zero: with room, and for an amount beyond the maximum, which never has.
	Opens time.Time

	// Percent is the demand on the fullest limit that is the identity's own: used,
	// refused for this limit in the window, and this claim. Use is the same without
	// what was refused, and Others is that of the fullest shared limit.
	Percent, Use, Others float64
}

// State is how a limit stands.
type State struct {
	Key           string
	Limit         Limit
	Used, Refused int64     // in the window that ends now; Used includes what is claimed
	Opens         time.Time // when one more has room; zero: now
}

// String is the limit as the configuration spells it: "100 messages/hour",
// "500MiB/day".
func (l Limit) String() string {
	if l.Counted == Bytes {
		return bytesText(l.Max) + "/" + windowText(l.Window)
	}
	return fmt.Sprintf("%d %s/%s", l.Max, l.Counted, windowText(l.Window))
}

func bytesText(n int64) string {
	for _, unit := range []struct {
		name   string
		octets int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n > 0 && n%unit.octets == 0 {
			return strconv.FormatInt(n/unit.octets, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

const day = 24 * time.Hour

func windowText(window time.Duration) string {
	units := []struct {
		name, sign string
		length     time.Duration
	}{{"month", "", 30 * day}, {"week", "", 7 * day}, {"day", "d", day}, {"hour", "h", time.Hour}, {"minute", "m", time.Minute}, {"second", "s", time.Second}}
	for _, unit := range units {
		if window == unit.length {
			return unit.name
		}
	}
	for _, unit := range units {
		if unit.sign != "" && window >= unit.length && window%unit.length == 0 {
			return strconv.FormatInt(int64(window/unit.length), 10) + unit.sign
		}
	}
	return window.String()
}
