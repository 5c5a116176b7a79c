package breaker

import (
	"bytes"
	"encoding/binary"
)

const (
	bodyCounts = 512      // octets of words that make a digest
	bodyRead   = 16 << 10 // octets looked at to find them
	leastText  = 32       // octets of text that tell one letter from another
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
// The first 512 octets of the rest are the digest, found within the first 64 KiB. If
// the rest is less than 32 octets, then capitals, numbers (each run of digits as
// one 0) and the names of tags count too.
//
// It does not see through an author who rewrites each letter on purpose, nor
// through base64 that holds a reader's name.
type Body struct {
	word word
	text digest // what all readers have in common
	all  digest // with capitals, numbers and tags
	read int    // octets looked at
	soft int    // where a line break that is none would be: behind "="

	skip    byte // what comes before the next one of these does not count; 0 is nothing
	opened  bool // the last octet was "<"
	inTag   bool
	inStyle bool
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
	for i := 0; i < len(looked) && !b.done; i++ {
		if b.skip != 0 {
			next := bytes.IndexByte(looked[i:], b.skip)
			if next < 0 {
				break
			}
			i, b.skip = i+next, 0
		}
		if b.opened {
			b.open(looked[i])
		}
		i += b.plain(looked[i:])
		if i += b.word.letters(looked[i:]); i == len(looked) {
			break
		}
		if n := digitRun(looked[i:]); n > 0 {
			b.word.number(n)
			i += n - 1
			continue
		}
		b.mark(looked[i], b.read+i)
	}
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

// plain takes the short words of ASCII letters that p begins with, each with the
// white space behind it, and returns how many octets they are: the same as
// letters and mark would come to, several times as fast. Most of what counts
// comes through here.
func (b *Body) plain(p []byte) int {
	if b.inTag || b.inStyle || !b.word.isNew() {
		return 0
	}
	n := 0
	for len(p)-n > 8 && b.text.size < bodyCounts {
		octets := binary.LittleEndian.Uint64(p[n:])
		run := letterRun(octets)
		if run == 8 || classes[p[n+run]] != space {
			break
		}
		octets &= 1<<(8*run) - 1
		if octets&high != 0 { // not ASCII
			break
		}
		n += run + 1
		if run > 0 {
			b.plainWord(octets, run)
		}
	}
	b.done = b.text.size >= bodyCounts
	return n
}

// plainWord adds a word of less than eight ASCII letters.
func (b *Body) plainWord(octets uint64, size int) {
	hash := mix(0, octets|smallBit&(1<<(8*size)-1)^uint64(size)<<56)
	if b.text.size < leastText {
		b.all.add(hash, size)
	}
	isName := octets&0x20 == 0 && (octets&smallBit != 0 || size == 1)
	if !isName {
		b.text.hash = mix(b.text.hash, hash)
		b.text.size += size
	}
}

// digitRun is how many digits p begins with.
func digitRun(p []byte) int {
	for n := range p {
		if p[n]-'0' > 9 {
			return n
		}
	}
	return len(p)
}

// open says whether an octet after "<" begins a tag.
func (b *Body) open(c byte) {
	b.opened = false
	b.inTag = classes[c]&letter != 0 || c == '/' || c == '!'
}

// mark takes an octet that is no letter.
func (b *Body) mark(c byte, at int) {
	switch kind := classes[c]; kind {
	case space:
		if !b.isSoft(c, at) {
			b.endWord()
		}
	case opening:
		b.endWord()
		b.opened, b.inTag = true, false
	case closing:
		b.endWord()
		b.inTag, b.skip = false, 0
		if b.inStyle {
			b.skip = '<'
		}
	case equals:
		b.soft = at + 1
	default:
		b.word.note(c, kind)
	}
}

// isSoft says that a CR or LF ends a line which goes on in the next (RFC 2045
// section 6.7): "=" CRLF.
func (b *Body) isSoft(c byte, at int) bool {
	soft := b.soft == at && at > 0 && (c == '\r' || c == '\n')
	if soft && c == '\r' {
		b.soft = at + 1
	}
	return soft
}

// endWord adds the word to the digests it belongs to.
func (b *Body) endWord() {
	w := &b.word
	if w.size != 0 && !w.isPersonal() {
		hash := w.sum()
		if b.text.size < leastText {
			b.all.add(hash, w.size)
		}
		switch {
		case b.inTag:
			b.endTagName(hash, w.slashes > 0)
		case !b.inStyle && !w.isName() && !w.isNumber():
			b.text.add(hash, w.size)
			b.done = b.text.size >= bodyCounts
		}
	}
	*w = word{}
}

// endTagName leaves out what a tag holds beside its name, and what is between
// <style> and </style>.
func (b *Body) endTagName(hash uint64, closes bool) {
	b.skip = '>'
	if hash == styleHash {
		b.inStyle = !closes
	}
}
