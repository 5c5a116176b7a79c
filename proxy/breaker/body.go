package breaker

import "math/bits"

const (
	bodyCounts = 2 << 10  // octets that make a digest
	bodyRead   = 64 << 10 // octets looked at to find them
	leastText  = 32       // octets of text that tell one letter from another
	leastToken = 8        // octets of a word of letters and digits that is made for one reader
	encoded    = 60       // octets of a word that is a line of base64
)

// Body digests the body of one message so that letters made from one template
// are one body. Write it the body as it passes, dot-stuffed or not; Sum is the
// digest. The zero value is ready. It keeps hashes, the octets of less than one
// word, and nothing else.
//
// The body is read as words. White space, punctuation and case do not count,
// nor do soft line breaks (RFC 2045 section 6.7), so wrapping and encoding
// matter little. Left out is what differs from reader to reader:
//
//   - words with a capital and small letters: names, and with them each word that begins a sentence
//   - mail addresses; the path and query of a URL
//   - numbers, and words of 8 or more octets with digits among the letters, except lines of base64
//   - MIME boundaries, HTML tags and style sheets
//
// The first 2 KiB of the rest are the digest, found within the first 64 KiB. If
// the rest is less than 32 octets, then capitals, numbers (each run of digits as
// one 0) and tags count too.
//
// It does not see through an author who rewrites each letter on purpose, nor
// through base64 that holds a reader's name.
type Body struct {
	word    word
	text    digest // what all readers have in common
	all     digest // with capitals, numbers and tags
	read    int    // octets looked at
	soft    int    // where, in octets read, a "=" was last
	inTag   bool
	inStyle bool
	tagNext bool // the last octet was "<"
	done    bool
}

// digest is a chain of words.
type digest struct {
	hash uint64
	size int // octets
}

func (d *digest) add(hash uint64, size int) {
	if d.size < bodyCounts {
		d.hash = mix(d.hash, hash)
		d.size += size
	}
}

// Write takes the next part of the body. It takes all of it and never fails.
func (b *Body) Write(p []byte) (int, error) {
	if b.done {
		return len(p), nil
	}
	looked := p[:min(len(p), bodyRead-b.read)]
	w := b.word // in registers
	for i, c := range looked {
		kind := classes[c]
		if kind >= inWord && !b.tagNext {
			w.put(c, kind)
			continue
		}
		b.word = w
		b.mark(c, kind, b.read+i)
		w = b.word
	}
	b.word = w
	b.read += len(looked)
	b.done = b.done || b.read == bodyRead
	return len(p), nil
}

// Sum is the digest of what was written so far; 0 if there is nothing to tell
// it from another body.
func (b *Body) Sum() uint64 {
	end := *b
	end.endWord()
	switch {
	case end.text.size >= leastText:
		return max(end.text.hash, 1)
	case end.all.size > 0:
		return max(end.all.hash, 1)
	}
	return 0
}

// Reset makes it ready for the next body.
func (b *Body) Reset() { *b = Body{} }

// mark takes an octet that is no part of a word, or comes after a "<".
func (b *Body) mark(c byte, kind class, at int) {
	if b.tagNext {
		b.tagNext = false
		b.inTag = kind&letter != 0 || c == '/' || c == '!'
	}
	switch kind {
	case space:
		if b.isSoft(c, at) {
			return
		}
		b.endWord()
	case open:
		b.endWord()
		b.tagNext = true
	case shut:
		b.endWord()
		b.inTag = false
	case equals:
		b.soft = at + 1
	case slash, query, dash, mailAt:
		b.word.note(kind)
	case ignored:
	default:
		b.word.put(c, kind)
	}
}

// isSoft says that a CR or LF ends a line which goes on in the next (RFC 2045
// section 6.7): "=" CRLF. Positions are counted from 1, so that 0 is none.
func (b *Body) isSoft(c byte, at int) bool {
	return b.soft != 0 && (c == '\r' && b.soft == at || c == '\n' && (b.soft == at || b.soft == at-1))
}

// endWord adds the word to the digests it belongs to.
func (b *Body) endWord() {
	w := b.word
	b.word = word{}
	if w.size == 0 || w.personal() {
		return
	}
	hash := w.sum()
	b.all.add(hash, w.size)
	if b.inTag && hash == styleHash {
		b.inStyle = !b.inStyle
	}
	if b.inTag || b.inStyle || w.isName() || w.isNumber() {
		return
	}
	b.text.add(hash, w.size)
	b.done = b.done || b.text.size >= bodyCounts
}

// word is the word being read.
type word struct {
	hash    uint64 // of its octets but the last eight at most
	tail    uint64 // those
	size    int    // octets that count
	seen    class  // what was in it
	first   class  // its first octet
	last    class  // and its latest
	slashes uint8
	dashes  uint8 // that it begins with
	cut     bool  // what follows does not count
}

// put takes an octet of a word.
func (w *word) put(c byte, kind class) {
	if w.size == 0 {
		w.first = kind
	}
	repeated := kind == digit && w.last == digit
	w.last = kind
	w.seen |= kind
	if repeated || w.cut {
		return
	}
	if kind == digit {
		c = '0'
	}
	w.tail = w.tail<<8 | uint64(c|byte(kind&upper))
	w.size++
	if w.size%8 == 0 {
		w.hash, w.tail = mix(w.hash, w.tail), 0
	}
}

// note takes what says of which sort the word is.
func (w *word) note(kind class) {
	w.last = 0
	switch kind {
	case mailAt:
		w.seen |= mailAt
	case dash:
		if w.size == 0 {
			w.dashes++
		}
	case slash:
		w.slashes++
		w.cut = w.cut || w.slashes >= 3
	case query:
		w.cut = w.cut || w.slashes >= 2
	}
}

func (w *word) sum() uint64 { return mix(w.hash, w.tail^uint64(w.size)<<56) }

// personal says that a word is made for one reader, or for one message.
func (w *word) personal() bool {
	mixed := w.seen&digit != 0 && w.seen&letter != 0 && w.slashes == 0
	return w.seen&mailAt != 0 || w.dashes >= 2 || mixed && w.size >= leastToken && w.size < encoded
}

func (w *word) isName() bool   { return w.first == upper && w.seen&lowerCase != 0 && w.size < encoded }
func (w *word) isNumber() bool { return w.seen&letter == 0 }

// class says what an octet is. Those of a word are bits.
type class uint8

const (
	space class = iota
	open
	shut
	equals
	slash
	query
	dash
	ignored

	mailAt    class = 0x08
	inWord    class = 0x10
	digit     class = 0x10
	upper     class = 0x20 // the bit that makes a small letter of it
	lowerCase class = 0x40
	letter          = upper | lowerCase
)

// classes has the class of each octet. What is not ASCII is a small letter.
var classes = classify()

func classify() (table [256]class) {
	for c := range table {
		switch {
		case 'a' <= c && c <= 'z', c >= 0x80:
			table[c] = lowerCase
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
	table['<'], table['>'], table['='] = open, shut, equals
	table['/'], table['?'], table['-'], table['@'] = slash, query, dash, mailAt
	return table
}

// styleHash is the hash of the word "style".
var styleHash = wordHash("style")

func wordHash(s string) uint64 {
	var w word
	for _, c := range []byte(s) {
		w.put(c, classes[c])
	}
	return w.sum()
}

// mix is the multiplication of wyhash.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xe7037ed1a0b428db)
	return high ^ low
}
