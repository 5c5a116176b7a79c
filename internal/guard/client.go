package guard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// findTime bounds a question that a session waits for.
	findTime = 500 * time.Millisecond
	// maxAnswer bounds what a client reads of an answer.
	maxAnswer = 4 << 20
)

// Client asks a guard. It keeps one connection, opened when it is needed and
// again when the guard was restarted. It may be used by many goroutines; their
// questions queue.
type Client struct {
	path string
	log  *zap.Logger

	mu    sync.Mutex
	conn  net.Conn
	lines *bufio.Reader
}

// NewClient makes a client of the guard that listens at path. It opens nothing. A
// nil log means none.
func NewClient(path string, log *zap.Logger) *Client {
	if log == nil {
		log = zap.NewNop()
	}
	return &Client{path: path, log: log}
}

// Relays returns the relays with those of their addresses that the rules let
// through already, and with the reason where a look-up failed.
func (c *Client) Relays(ctx context.Context) ([]RelayStatus, error) {
	a, err := c.ask(ctx, request{Op: opRelays})
	return a.Relays, err
}

// Find returns the process that holds a socket, by the inode of the socket, the
// cgroup's path if known and the owner's uid. It is not ok if the process is
// not to be seen, or the guard not to be asked. It has the shape of package
// peer's ProcessFinder.
func (c *Client) Find(inode uint64, cgroup string, uid uint32) (pid int, exe string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	a, err := c.ask(ctx, request{Op: opProcess, Inode: inode, CGroup: cgroup, UID: uid})
	if err != nil {
		c.log.Debug("process unknown", zap.Error(err))
		return 0, "", false
	}
	if a.Process == nil {
		return 0, "", false
	}
	return a.Process.PID, a.Process.Exe, true
}

// Status returns the guard's state. It needs root, as all below.
func (c *Client) Status(ctx context.Context) (Status, error) {
	a, err := c.ask(ctx, request{Op: opStatus})
	if err == nil && a.Status == nil {
		err = errors.New("the guard answered something else")
	}
	if err != nil {
		return Status{}, err
	}
	return *a.Status, nil
}

// Release makes the guard take the rules down and leave them so until it is
// reloaded or started anew.
func (c *Client) Release(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opRelease})
	return err
}

// Reload makes the guard read its configuration again. On an error nothing has
// changed.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opReload})
	return err
}

// Enforce switches to enforce mode. Unless Confirm comes within that time, the
// guard goes back to observe mode by itself, over restarts of it and of the host
// too; 0 is for good. The time is of whole seconds, at most MaxTrial.
func (c *Client) Enforce(ctx context.Context, within time.Duration) error {
	if within < 0 || within%time.Second != 0 {
		return errors.New("a trial takes a number of whole seconds")
	}
	_, err := c.ask(ctx, request{Op: opEnforce, Seconds: int64(within / time.Second)})
	return err
}

// Confirm makes enforce mode stay that is on trial. Without a trial it fails.
func (c *Client) Confirm(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opConfirm})
	return err
}

// Observe switches to observe mode, in which nothing is blocked or redirected.
func (c *Client) Observe(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opObserve})
	return err
}

// Suspend tells the guard who is suspended: all of them, by the keys of policy's
// identities ("uid:33", "unit:php-fpm.service", "container:ID"). Other keys are
// left out, as the kernel knows nothing of accounts. What the configuration
// allows to connect directly does not count for those, and in enforce mode their
// open direct connections end. The proxy's user may call it, too. The guard
// remembers the list until the next one. Of more than MaxSuspended keys it takes
// the first, by their spelling, and tells so in its status.
func (c *Client) Suspend(ctx context.Context, keys []string) error {
	if len(keys) > MaxSuspended { // one more is enough to tell
		keys = slices.SortedFunc(slices.Values(keys), bySocket)[:MaxSuspended+1]
	}
	_, err := c.ask(ctx, request{Op: opSuspended, Suspended: keys})
	return err
}

// Close ends the connection. The client opens another one if it is asked again.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hangUp()
}

func (c *Client) hangUp() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn, c.lines = nil, nil
	return err
}

// ask sends one request. A connection that was kept may have ended since: then
// once more on a new one.
func (c *Client) ask(ctx context.Context, q request) (response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.conn != nil
	a, err := c.exchange(ctx, q)
	if err != nil && kept && ctx.Err() == nil {
		a, err = c.exchange(ctx, q)
	}
	if err != nil {
		return response{}, fmt.Errorf("asking the guard at %s: %w", c.path, err)
	}
	if a.Error != "" {
		return response{}, fmt.Errorf("guard: %s", a.Error)
	}
	return a, nil
}

func (c *Client) exchange(ctx context.Context, q request) (response, error) {
	a, err := c.tryExchange(ctx, q)
	if err != nil {
		c.hangUp() // half an answer may be on its way
	}
	return a, err
}

func (c *Client) tryExchange(ctx context.Context, q request) (response, error) {
	var a response
	if c.conn == nil {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", c.path)
		if err != nil {
			return a, err
		}
		c.conn, c.lines = conn, bufio.NewReaderSize(conn, 4<<10)
	}
	conn := c.conn
	conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return a, err
	}
	line, err = readLine(c.lines)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(line, &a)
}

// readLine reads one line of bounded length.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxAnswer:
			return nil, errors.New("the answer is too long")
		}
	}
}
