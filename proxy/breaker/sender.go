package breaker

import (
	"fmt"
	"hash/maphash"
)

// maxSenders is how many different reverse-paths a rule can ask for.
const maxSenders = 4096

// sender is one reverse-path, as a hash: with 20 of them, two are taken for one
// once in 20 million windows.
type sender struct {
	hash uint32
	seen uint32 // tick
}

// senders are the reverse-paths seen last, one more than the rule wants: enough
// to know whether so many were seen within the window.
type senders []sender

// trip counts, and returns how many there are, with the reason, if the breaker
// trips.
func (s *senders) trip(now round, hash uint32) (int64, string) {
	live := s.see(hash, now.moment.tick(), ticks(now.Window), int(now.Least)+1)
	if now.quiet || live <= now.Least {
		return 0, ""
	}
	*s = (*s)[:0]
	return live, fmt.Sprintf("%d different senders within %s, more than %d", live, span(now.Window), now.Least)
}

// see notes that one was seen at a tick and returns how many were seen within
// the window. Beyond room the one that was not seen for longest makes place.
func (s *senders) see(hash, now, window uint32, room int) int64 {
	list := *s
	at, oldest, live := -1, -1, int64(0)
	for i := range list {
		if list[i].hash == hash {
			at = i
			continue
		}
		if age(now, list[i].seen) < window {
			live++
		}
		if oldest < 0 || list[i].seen < list[oldest].seen {
			oldest = i
		}
	}
	if at < 0 {
		at = s.place(oldest, now, window, room)
		if at == oldest && age(now, list[at].seen) < window {
			live--
		}
	}
	(*s)[at] = sender{hash: hash, seen: max((*s)[at].seen, now)}
	return live + 1
}

// place finds where a new one goes: over one that is too old, into new room,
// else over the oldest.
func (s *senders) place(oldest int, now, window uint32, room int) int {
	list := *s
	full := len(list) >= room
	if oldest >= 0 && (full || age(now, list[oldest].seen) >= window) {
		return oldest
	}
	if len(list) == cap(list) {
		list = append(make(senders, 0, min(max(2*len(list), 1), room)), list...)
	}
	*s = append(list, sender{})
	return len(list)
}

// age is how long ago a tick was; one of the future is now.
func age(now, then uint32) uint32 {
	if then > now {
		return 0
	}
	return now - then
}

// senderHash hashes what remains of a reverse-path once all that mailing lists,
// forwarders and sub-addresses write into it is left out: a newsletter with a
// return path for each reader has one sender.
//
// Of the local part: what follows "+" does not count, nor what follows the
// first of ".-_+=" if there is a "=" (VERP, SRS, BATV); a run of digits counts
// as one; so does a word of eight or more hexadecimal digits. Case does not
// count.
func senderHash(seed maphash.Seed, path string) uint32 {
	var buffer [320]byte
	return uint32(maphash.Bytes(seed, plainSender(buffer[:0], path)))
}

// plainSender appends what of a reverse-path counts.
func plainSender(to []byte, path string) []byte {
	local := len(path)
	tagged := false
	for i := len(path) - 1; i >= 0; i-- {
		switch {
		case path[i] == '@' && local == len(path):
			local = i
		case path[i] == '=' && i < local:
			tagged = true
		}
	}
	to = plainLocal(to, path[:local], tagged)
	for i := local; i < len(path) && len(to) < cap(to); i++ {
		to = append(to, lower(path[i]))
	}
	return to
}

func plainLocal(to []byte, local string, tagged bool) []byte {
	for len(local) > 0 && len(to)+len(local) <= cap(to) {
		word := nextWord(local)
		to = plainWord(to, local[:word])
		if word == len(local) {
			break
		}
		mark := local[word]
		if mark == '+' || tagged {
			break
		}
		to = append(to, mark)
		local = local[word+1:]
	}
	return to
}

func nextWord(s string) int {
	for i := range len(s) {
		switch s[i] {
		case '.', '-', '_', '+', '=':
			return i
		}
	}
	return len(s)
}

func plainWord(to []byte, word string) []byte {
	if len(word) >= 8 && isToken(word) {
		return append(to, '0')
	}
	inDigits := false
	for i := range len(word) {
		digit := '0' <= word[i] && word[i] <= '9'
		switch {
		case !digit:
			to = append(to, lower(word[i]))
		case !inDigits:
			to = append(to, '0')
		}
		inDigits = digit
	}
	return to
}

// isToken says that a word is hexadecimal, with a digit in it.
func isToken(word string) bool {
	digits := 0
	for i := range len(word) {
		c := lower(word[i])
		switch {
		case '0' <= c && c <= '9':
			digits++
		case c < 'a' || c > 'f':
			return false
		}
	}
	return digits > 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
