package breaker

import (
	"encoding/binary"
	"math/bits"
)

const (
	leastToken = 8  // octets of a word of letters and digits that is made for one reader
	encoded    = 60 // octets of a word that is a line of base64
)

// word is the word being read.
type word struct {
	hash    uint64 // of its octets but the last eight at most
	tail    uint64 // those, the first one lowest
	size    int    // octets that count
	length  int    // and octets of letters and digits
	seen    class  // what was in it
	first   byte   // its first two letters or digits
	second  byte
	digits  bool  // its latest octet was a digit
	cut     bool  // what follows does not count
	dashes  uint8 // that it begins with
	slashes uint8
}

// isNew says that nothing of the word was read.
func (w *word) isNew() bool { return w.seen == 0 && w.dashes|w.slashes == 0 }

// letters takes the letters that p begins with and returns how many they are.
// It reads eight octets at a time: most of what is read comes through here.
func (w *word) letters(p []byte) int {
	n := 0
	for {
		octets := load(p[n:])
		run := letterRun(octets)
		if run == 0 {
			return n
		}
		w.take(octets, run)
		n += run
		if run < 8 {
			return n
		}
	}
}

// take adds the first n of eight octets, all letters.
func (w *word) take(octets uint64, n int) {
	octets &= 1<<(8*n) - 1
	switch w.length {
	case 0:
		w.first, w.second = byte(octets), byte(octets>>8)
	case 1:
		w.second = byte(octets)
	}
	w.length += n
	w.seen |= upper
	if octets&(high|smallBit) != 0 { // what is not ASCII counts as small, too
		w.seen |= small
	}
	w.digits = false
	if !w.cut {
		w.add(octets|smallBit&(1<<(8*n)-1), n)
	}
}

// add appends n octets, the first one lowest.
func (w *word) add(octets uint64, n int) {
	fill := w.size % 8
	w.tail |= octets << (8 * fill)
	w.size += n
	if fill+n >= 8 {
		w.hash = mix(w.hash, w.tail)
		w.tail = octets >> (8 * (8 - fill))
	}
}

// note takes an octet of a word that is neither letter nor digit.
func (w *word) note(c byte, kind class) {
	w.digits = false
	switch kind {
	case mailAt:
		w.seen |= mailAt
	case dash:
		if w.size == 0 && w.dashes < 2 {
			w.dashes++
		}
	case slash:
		if w.slashes < 3 {
			w.slashes++
		}
		w.cut = w.cut || w.slashes == 3 // scheme://host/
	case query:
		w.cut = w.cut || w.slashes == 2 // scheme://host?
	}
}

// number takes n digits: a run of them is one 0.
func (w *word) number(n int) {
	w.length += n
	w.seen |= digit
	if !w.digits && !w.cut {
		w.add('0', 1)
	}
	w.digits = true
}

func (w *word) sum() uint64 { return mix(w.hash, w.tail^uint64(w.size)<<56) }

// isPersonal says that a word is made for one reader, or for one message.
func (w *word) isPersonal() bool {
	mixed := w.seen&digit != 0 && w.seen&letter != 0 && w.slashes == 0
	return w.seen&mailAt != 0 || w.dashes >= 2 || mixed && w.length >= leastToken && w.length < encoded
}

// isName says that a word begins with a capital and has small letters, or is an
// initial.
func (w *word) isName() bool {
	return w.isCapital() && (w.seen&small != 0 || w.length == 1) && w.length < encoded
}

// isCapital knows the capitals of ASCII, and in UTF-8 those of Latin-1 and the
// Cyrillic ones between А and Я.
func (w *word) isCapital() bool {
	switch w.first {
	case 0xc3:
		return w.second < 0x9f
	case 0xd0:
		return 0x90 <= w.second && w.second < 0xb0
	}
	return classes[w.first] == upper
}

func (w *word) isNumber() bool { return w.seen&letter == 0 }

// class says what an octet is. Some are bits, for word.seen.
type class uint8

const (
	space class = iota
	opening
	closing
	equals
	slash
	query
	dash
	ignored

	mailAt class = 0x10
	digit  class = 0x20
	upper  class = 0x40
	small  class = 0x80
	letter       = upper | small
)

// classes has the class of each octet. What is not ASCII is a small letter.
var classes = classify()

func classify() (table [256]class) {
	for c := range table {
		switch {
		case 'a' <= c && c <= 'z', c >= 0x80:
			table[c] = small
		case 'A' <= c && c <= 'Z':
			table[c] = upper
		case '0' <= c && c <= '9':
			table[c] = digit
		case c > ' ':
			table[c] = ignored
		}
	}
	for _, c := range `"'(),;!*|` {
		table[c] = space
	}
	table['<'], table['>'], table['='] = opening, closing, equals
	table['/'], table['?'], table['-'], table['@'] = slash, query, dash, mailAt
	return table
}

// Octets, eight times: added to an octet below 0x80, fromA sets its highest bit
// from "a" on, and beyondZ after "z".
const (
	ones     = 0x0101010101010101
	high     = 0x80 * ones
	smallBit = 0x20 * ones
	fromA    = (0x80 - 'a') * ones
	beyondZ  = (0x80 - 'z' - 1) * ones
)

// load reads eight octets, the first one lowest; zero octets follow the last.
func load(p []byte) uint64 {
	if len(p) >= 8 {
		return binary.LittleEndian.Uint64(p)
	}
	var octets uint64
	for i, c := range p {
		octets |= uint64(c) << (8 * i)
	}
	return octets
}

// letterBits has the highest bit of each octet that is a letter: one between
// "a" and "z" once the bit of small letters is set, or not ASCII.
func letterBits(octets uint64) uint64 {
	low := (octets | smallBit) & (high - ones)
	return ((low+fromA)&^(low+beyondZ) | octets) & high
}

// letterRun is how many of eight octets are letters before one is none. It and
// letterBits are as short as the compiler wants them for use in place.
func letterRun(octets uint64) int {
	return int(uint(bits.TrailingZeros64(letterBits(octets)^high)) >> 3)
}

// styleHash is the hash of the word "style".
var styleHash = wordHash("style")

func wordHash(s string) uint64 {
	var w word
	w.letters([]byte(s))
	return w.sum()
}

// mix is the multiplication of wyhash.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return high ^ low
}
