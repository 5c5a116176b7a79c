package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// answerTime is how long the kernel may take for one answer. It waits for
	// other users of nftables, a big iptables-restore for example.
	answerTime = 30 * time.Second
	// sendBuffer must hold a whole batch: 4 MiB is some 60,000 elements.
	sendBuffer    = 4 << 20
	receiveBuffer = 1 << 20
)

// socket is a netlink socket that outlives each request, and perhaps the
// process: an owned table belongs to the socket, and stays as long as somebody
// holds it. Requests must not overlap.
type socket struct {
	file *os.File
	port uint32
	seq  atomic.Uint32
	buf  []byte
}

// newSocket opens a socket in the network namespace of the calling thread.
func newSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("binding netlink socket: %w", err)
	}
	return wrapSocket(fd)
}

// adoptSocket takes over a socket that another process opened. It duplicates
// the descriptor; the caller keeps f.
func adoptSocket(f *os.File) (*socket, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicating the inherited netlink socket: %w", err)
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	protocol, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err := errors.Join(err, err2); err != nil || domain != unix.AF_NETLINK || protocol != unix.NETLINK_NETFILTER {
		unix.Close(fd)
		return nil, fmt.Errorf("inherited descriptor %s is no netfilter socket", f.Name())
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("setting the inherited netlink socket up: %w", err)
	}
	return wrapSocket(fd)
}

func wrapSocket(fd int) (*socket, error) {
	addr, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("reading netlink address: %w", err)
	}
	// Bigger buffers and shorter acknowledgements are better, not needed.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	s := &socket{file: os.NewFile(uintptr(fd), "nftables"), buf: make([]byte, 64<<10)}
	s.port = addr.(*unix.SockaddrNetlink).Pid
	// Answers to a former holder of the socket may still wait to be read.
	s.seq.Store(uint32(time.Now().UnixNano()))
	return s, nil
}

func (s *socket) close() error { return s.file.Close() }

// join subscribes to a multicast group.
func (s *socket) join(group int) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
	})
	return errors.Join(err, failed)
}

// send writes messages in one datagram and returns their sequence numbers.
func (s *socket) send(messages []netlink.Message) (first, last uint32, err error) {
	var out []byte
	first = s.seq.Add(uint32(len(messages))) - uint32(len(messages)) + 1
	for i, m := range messages {
		m.Header.Sequence = first + uint32(i)
		m.Header.Length = uint32(16 + align(len(m.Data)))
		b, err := m.MarshalBinary()
		if err != nil {
			return 0, 0, err
		}
		out = append(out, b...)
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return failed != unix.EAGAIN
	})
	return first, first + uint32(len(messages)) - 1, errors.Join(err, failed)
}

// receive reads one datagram from the kernel. Datagrams of other processes,
// which may write to a netlink socket, are passed over.
func (s *socket) receive() ([]netlink.Message, error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		n, from, failed := 0, unix.Sockaddr(nil), error(nil)
		err = raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), s.buf, unix.MSG_TRUNC)
			return failed != unix.EAGAIN
		})
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
		if n > len(s.buf) {
			return nil, fmt.Errorf("netlink datagram of %d bytes is too long", n)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
			return split(s.buf[:n])
		}
	}
}

// commit sends a batch that takes effect as a whole or not at all. It fails
// with errStale if the ruleset is no longer at the given generation, unless that
// is 0.
func (s *socket) commit(ctx context.Context, generation uint32, messages []netlink.Message) error {
	batch := frame(generation, messages)
	defer s.limit(ctx)()
	first, last, err := s.send(batch)
	if err != nil {
		return fmt.Errorf("sending to nftables: %w", err)
	}
	for {
		replies, err := s.receive()
		if err != nil {
			return fmt.Errorf("reading the answer of nftables: %w", err)
		}
		for _, r := range replies {
			at := r.Header.Sequence - first
			if at > last-first || r.Header.Type != netlink.Error {
				continue
			}
			if err := errno(r); err != nil {
				return refusal(err, batch[at])
			}
			if r.Header.Sequence == last-1 {
				return nil
			}
		}
	}
}

// dump sends a request and returns all messages of its answer.
func (s *socket) dump(ctx context.Context, request netlink.Message) ([]netlink.Message, error) {
	request.Header.Flags |= netlink.Request
	defer s.limit(ctx)()
	_, seq, err := s.send([]netlink.Message{request})
	if err != nil {
		return nil, fmt.Errorf("asking nftables: %w", err)
	}
	var answer []netlink.Message
	for {
		replies, err := s.receive()
		if err != nil {
			return nil, fmt.Errorf("reading the answer of nftables: %w", err)
		}
		for _, r := range replies {
			if r.Header.Sequence != seq {
				continue
			}
			switch r.Header.Type {
			case netlink.Done:
				return answer, nil
			case netlink.Error:
				return answer, errno(r)
			}
			answer = append(answer, r)
			if r.Header.Flags&netlink.Multi == 0 {
				return answer, nil
			}
		}
	}
}

// limit ends reading when ctx does or the kernel is silent for too long.
func (s *socket) limit(ctx context.Context) (undo func()) {
	s.file.SetReadDeadline(time.Now().Add(answerTime))
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.file.SetReadDeadline(time.Unix(1, 0))
		close(done)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// split takes a datagram apart. The messages do not share memory with b.
func split(b []byte) ([]netlink.Message, error) {
	var messages []netlink.Message
	for len(b) >= 16 {
		length := int(binary.NativeEndian.Uint32(b))
		if length < 16 || length > len(b) {
			return nil, fmt.Errorf("netlink message of %d bytes in %d", length, len(b))
		}
		var m netlink.Message
		padded := append([]byte(nil), b[:length]...)
		padded = append(padded, make([]byte, align(length)-length)...)
		binary.NativeEndian.PutUint32(padded, uint32(len(padded)))
		if err := m.UnmarshalBinary(padded); err != nil {
			return nil, fmt.Errorf("reading netlink message: %w", err)
		}
		messages = append(messages, m)
		b = b[min(align(length), len(b)):]
	}
	return messages, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// errno returns what an error message says; nil is an acknowledgement.
func errno(m netlink.Message) error {
	if len(m.Data) < 4 {
		return errors.New("short netlink error message")
	}
	if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
