package nft

import (
	"bytes"
	"context"

	"github.com/smtpwall/smtpwall/rules"
)

// AnswerReader reads answers of name servers as they come in. Of an answer it
// knows where in the packet it is, and nothing about what it says: whoever is
// asked writes that. One goroutine at a time may use it, but for Lost and Close.
type AnswerReader struct{ log *nflogReader }

// OpenAnswers binds to an NFLOG group in the network namespace of the calling
// thread. It fails while another program reads the same group.
func OpenAnswers(group uint16) (*AnswerReader, error) {
	// At once: who was told an address is about to connect there.
	log, err := openNflog(group, delivery{copyRange: rules.AnswerSnap, threshold: 1})
	if err != nil {
		return nil, err
	}
	return &AnswerReader{log}, nil
}

// Read waits for the next answers and returns them: DNS messages (RFC 1035
// section 4), or what looks like one from outside. It returns the context's
// error when that is done.
func (r *AnswerReader) Read(ctx context.Context) ([][]byte, error) {
	var answers [][]byte
	err := r.log.receive(ctx, func(p nflogPacket) {
		message, err := parseAnswer(p.payload)
		if err != nil {
			r.log.lost.Add(1)
			return
		}
		answers = append(answers, bytes.Clone(message)) // the rest of the buffer goes
	})
	return answers, err
}

// Lost returns how many answers Read did not return since the reader was opened:
// the receive buffer was full, or they were no whole packets, or longer than is
// copied.
func (r *AnswerReader) Lost() uint64 { return r.log.lost.Load() }

// Close gives the group back and ends a Read under way.
func (r *AnswerReader) Close() error { return r.log.close() }
