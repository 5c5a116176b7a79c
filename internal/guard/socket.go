package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/peer"
)

const (
	// maxClients bounds the connections under way; rootClients of them are kept
	// for root, so that a proxy gone wrong cannot keep an administrator out.
	maxClients  = 32
	rootClients = 8
	// idleTime is how long a client may be silent between requests, answerTime
	// how long it may take to read an answer, workTime how long the guard may
	// take for it.
	idleTime   = 5 * time.Minute
	answerTime = 5 * time.Second
	workTime   = 20 * time.Second
)

var (
	errDenied = errors.New("not permitted")
	errBusy   = errors.New("too many clients")
)

// socketServer answers on the guard socket.
type socketServer struct {
	guard *Guard
	find  peer.ProcessFinder
	// caller returns who is at the other end.
	caller func(*net.UnixConn) (caller, error)

	mu     sync.Mutex
	all    int
	others int // of them not root's
}

// serve listens until ctx is done.
func (g *Guard) serve(ctx context.Context) error {
	o := g.options()
	if o.Socket == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	ln := g.listener
	g.listener = nil
	if ln == nil {
		var err error
		if ln, err = listen(o.Socket, o.SocketGID); err != nil {
			return err
		}
	}
	g.conditions.set("socket", nil)
	s := &socketServer{guard: g, find: g.attempts.who.processes(), caller: callerOf}
	return s.run(ctx, ln)
}

// listen makes the socket, in place of one that a dead guard left behind.
// Nobody but root and one group may connect.
func listen(path string, gid int) (*net.UnixListener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listening on %s: another guard does", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("listening on %s: there is a file that is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the guard socket: %w", err)
	}
	if err := errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660)); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the guard socket: %w", err), ln.Close())
	}
	return ln, nil
}

// run accepts until ctx is done, and ends all connections then.
func (s *socketServer) run(ctx context.Context, ln *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := ln.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("accepting on the guard socket: %w", err)
		}
		clients.Go(func() { s.client(ctx, conn) })
	}
}

func (s *socketServer) client(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	from, err := s.caller(conn)
	if err == nil {
		err = s.enter(from.uid)
	}
	if err != nil {
		s.guard.log.Debug("client of the guard socket turned away", zap.Uint32(logfields.PeerUID, from.uid), zap.Error(err))
		reply(conn, response{Error: err.Error()})
		return
	}
	defer s.leave(from.uid)
	err = s.guard.protect(ctx, func(ctx context.Context) error { return s.converse(ctx, conn, from) })
	if err != nil && ctx.Err() == nil {
		s.guard.log.Debug("client of the guard socket gone", zap.Uint32(logfields.PeerUID, from.uid), zap.Error(err))
	}
}

// enter counts a client in, if it may ask anything and there is room.
func (s *socketServer) enter(uid uint32) error {
	if uid != 0 && uid != s.guard.options().Rules.ProxyUID {
		return errDenied
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxClients || uid != 0 && s.others >= maxClients-rootClients {
		return errBusy
	}
	s.all++
	if uid != 0 {
		s.others++
	}
	return nil
}

func (s *socketServer) leave(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if uid != 0 {
		s.others--
	}
}

// converse answers line by line. A line that is too long, or makes no sense,
// ends it.
func (s *socketServer) converse(ctx context.Context, conn net.Conn, from caller) error {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 512), maxRequest)
	for {
		conn.SetReadDeadline(time.Now().Add(idleTime))
		if !lines.Scan() {
			return lines.Err()
		}
		var q request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		switch q.Op {
		case opWatch:
			return s.watch(ctx, conn)
		case opLookups:
			return s.listen(ctx, conn)
		}
		a, err := s.answer(ctx, q, from)
		if err != nil {
			a = response{Error: err.Error()}
		}
		if err := reply(conn, a); err != nil {
			return err
		}
	}
}

// reply writes one line, to a client that reads.
func reply(conn net.Conn, a response) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("writing an answer: %w", err)
	}
	conn.SetWriteDeadline(time.Now().Add(answerTime))
	_, err = conn.Write(append(line, '\n'))
	return err
}

func (s *socketServer) answer(ctx context.Context, q request, from caller) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	switch q.Op {
	case opRelays:
		return response{Relays: s.guard.relays.status()}, nil
	case opProcess:
		if pid, exe, ok := s.find.Find(q.Inode, q.CGroup, q.UID); ok {
			return response{Process: &process{PID: pid, Exe: exe}}, nil
		}
		return response{}, nil
	case opSuspended:
		return response{}, s.guard.Suspend(ctx, q.Suspended)
	}
	if from.uid != 0 {
		return response{}, errDenied
	}
	return s.answerRoot(ctx, q, from)
}

// answerRoot does what is for root alone.
func (s *socketServer) answerRoot(ctx context.Context, q request, from caller) (response, error) {
	switch q.Op {
	case opStatus:
		status, err := s.guard.Status(ctx)
		return response{Status: &status}, err
	case opRelease:
		return response{}, s.guard.Release(ctx)
	case opReload:
		reload := s.guard.options().OnReload
		if reload == nil {
			return response{}, errors.New("this guard cannot reload")
		}
		return response{}, reload(ctx)
	case opEnforce:
		if q.Seconds < 0 || q.Seconds > int64(MaxTrial/time.Second) {
			return response{}, errTrial
		}
		return response{}, s.guard.Enforce(ctx, time.Duration(q.Seconds)*time.Second, from.name)
	case opConfirm:
		return response{}, s.guard.Confirm(ctx, from.name)
	case opObserve:
		return response{}, s.guard.Observe(ctx, from.name)
	}
	return response{}, fmt.Errorf("unknown operation %q", q.Op)
}
