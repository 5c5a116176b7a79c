package filter

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// packet is one of the protocol: its kind and its data.
type packet struct {
	code byte
	data string
}

// wire is the packet as it is sent.
func (p packet) wire() []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(p.data)+1))
	return append(append(out, p.code), p.data...)
}

// index is a number at the beginning of a packet.
func index(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// fake is a filter that follows a script and notes what it is told. It knows
// nothing of the library that the client uses.
type fake struct {
	t        *testing.T
	network  string
	listener net.Listener

	version, actions, steps uint32             // of its negotiation; version 0 is 6
	answers                 map[byte][]packet  // to a command, instead of continue
	raw                     map[byte]string    // the same, but any octets, and then it hangs up
	silent                  byte               // at this command it says nothing more
	after                   func(command byte) // called when a command came
	small                   bool               // the client takes small bodies only
	forgetful               bool               // it notes nothing

	mu   sync.Mutex
	told []packet // macros too, negotiation too
	done sync.WaitGroup
}

// newFake listens on a Unix socket; start begins.
func newFake(t *testing.T) *fake {
	t.Helper()
	return newFakeOn(t, "unix", filepath.Join(t.TempDir(), "milter.sock"))
}

func newFakeOn(t *testing.T, network, address string) *fake {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, network: network, listener: listener, version: 6, answers: map[byte][]packet{}, raw: map[byte]string{}}
	t.Cleanup(func() {
		f.listener.Close()
		f.done.Wait()
	})
	return f
}

// start serves until the test ends.
func (f *fake) start() *fake {
	f.done.Go(func() {
		for {
			conn, err := f.listener.Accept()
			if err != nil {
				return
			}
			f.done.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	return f
}

func (f *fake) filter(change func(*Options)) *Filter {
	options := Options{Name: "fake", Network: f.network, Address: f.listener.Addr().String(), TempDir: f.t.TempDir()}
	if f.small {
		options.MaxMessage = 1000
	}
	if change != nil {
		change(&options)
	}
	return New(options)
}

func (f *fake) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		p, err := readPacket(in)
		if err != nil {
			return
		}
		f.note(p)
		if f.after != nil {
			f.after(p.code)
		}
		if p.code == f.silent {
			_, _ = io.Copy(io.Discard, in)
			return
		}
		if raw, ok := f.raw[p.code]; ok {
			_, _ = conn.Write([]byte(raw))
			return
		}
		for _, answer := range f.answer(p) {
			if _, err := conn.Write(answer.wire()); err != nil {
				return
			}
		}
	}
}

func (f *fake) note(p packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.forgetful {
		f.told = append(f.told, p)
	}
}

// answer is what the script says, else what goes on.
func (f *fake) answer(p packet) []packet {
	if answers, ok := f.answers[p.code]; ok {
		return answers
	}
	silent := map[byte]uint32{'C': 1 << 12, 'H': 1 << 13, 'M': 1 << 14, 'R': 1 << 15, 'L': 1 << 7, 'N': 1 << 18, 'B': 1 << 19}
	switch {
	case p.code == 'O':
		return []packet{{'O', index(f.version) + index(f.actions) + index(f.steps)}}
	case strings.IndexByte("DAQ", p.code) >= 0 || f.steps&silent[p.code] != 0:
		return nil
	}
	return []packet{{'c', ""}}
}

func readPacket(in io.Reader) (packet, error) {
	var length uint32
	if err := binary.Read(in, binary.BigEndian, &length); err != nil {
		return packet{}, err
	}
	if length == 0 || length > 1<<20 {
		return packet{}, fmt.Errorf("packet of %d octets", length)
	}
	data := make([]byte, length)
	_, err := io.ReadFull(in, data)
	return packet{data[0], string(data[1:])}, err
}

// heard is the data of all packets of that kind, in order.
func (f *fake) heard(code byte) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, p := range f.told {
		if p.code == code {
			all = append(all, p.data)
		}
	}
	return all
}
