package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// Why a proxy cannot be asked.
var (
	ErrNotRunning = errors.New("the proxy is not running")
	ErrDenied     = errors.New("only root, the proxy's user and members of the admin socket's group may ask the proxy")
	ErrBusy       = errors.New("the proxy ended the connection: too many clients ask it now, or it failed and its log says why")
)

const (
	// patience is how long a proxy may take to begin an answer; while it starts
	// it recovers its spool first.
	patience = 30 * time.Second
	// maxLine bounds one line of an answer: a message may have many recipients.
	maxLine = 32 << 20
	// maxFailure bounds an answer that is not 200.
	maxFailure = 64 << 10
)

// Client asks the proxy that listens at a socket. It may be used by many
// goroutines. Its errors are ErrNotRunning, ErrDenied, ErrBusy and
// spool.ErrUnknown, ErrNotSuspended, wrapped, or what the proxy said.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client. It opens nothing yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext: dial, ResponseHeaderTimeout: patience, DisableCompression: true, DisableKeepAlives: true,
	}}}
}

// Alive says whether there is a proxy that answers.
func (c *Client) Alive(ctx context.Context) error {
	response, err := c.ask(ctx, http.MethodGet, pathAlive, nil)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// Status is the proxy's state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	err := c.get(ctx, pathStatus, &status)
	return status, err
}

// get reads one value.
func (c *Client) get(ctx context.Context, path string, value any) error {
	response, err := c.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxLine)).Decode(value); err != nil {
		return c.broken(err)
	}
	return nil
}

// Items calls yield with each message that the filter matches, in no order.
func (c *Client) Items(ctx context.Context, f spool.Filter, yield func(spool.Item) error) error {
	return c.filter(ctx, pathList, f, func(l line) error {
		if l.Item == nil {
			return nil
		}
		return yield(*l.Item)
	})
}

// Act does op to each message that the filter matches. The filter must name
// states, all of them op's.
func (c *Client) Act(ctx context.Context, op Op, f spool.Filter, done func(Outcome)) error {
	return c.filter(ctx, pathAct+url.PathEscape(string(op)), f, func(l line) error {
		if l.Outcome != nil {
			done(*l.Outcome)
		}
		return nil
	})
}

// Message opens one message, for the caller to close. Reading it fails if the
// proxy could not send all of it.
func (c *Client) Message(ctx context.Context, id string) (spool.Item, io.ReadCloser, error) {
	response, err := c.ask(ctx, http.MethodGet, pathMessages+url.PathEscape(id), nil)
	if isAbsent(err) {
		err = fmt.Errorf("the proxy: %w", spool.ErrUnknown)
	}
	if err != nil {
		return spool.Item{}, nil, err
	}
	var item spool.Item
	r := bufio.NewReader(response.Body)
	head, err := readLine(r)
	if err == nil {
		err = json.Unmarshal(head, &item)
	}
	if err != nil {
		_ = response.Body.Close()
		return spool.Item{}, nil, c.broken(err)
	}
	return item, content{r, response.Body}, nil
}

type content struct {
	io.Reader
	io.Closer
}

// filter posts a filter and goes through the lines of the answer.
func (c *Client) filter(ctx context.Context, path string, f spool.Filter, each func(line) error) error {
	body, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("asking the proxy: %w", err)
	}
	return c.stream(ctx, path, body, each)
}

// stream posts a body and goes through the lines of the answer.
func (c *Client) stream(ctx context.Context, path string, body []byte, each func(line) error) error {
	response, err := c.ask(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for r := bufio.NewReaderSize(response.Body, 64<<10); ; {
		text, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var l line
		if err == nil {
			err = json.Unmarshal(text, &l)
		}
		switch {
		case err != nil:
			return c.broken(err)
		case l.Error != "":
			return fmt.Errorf("the proxy: %s", l.Error)
		}
		if err := each(l); err != nil {
			return err
		}
	}
}

// ask sends one request. The body of the answer is the caller's to close.
func (c *Client) ask(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	var progress call
	request, err := http.NewRequestWithContext(progress.follow(ctx), method, "http://smtpwall"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking the proxy: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", typeJSON)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unanswered(ctx, err, &progress)
	}
	if response.StatusCode >= 200 && response.StatusCode <= 299 {
		return response, nil
	}
	defer response.Body.Close()
	var said failure
	if err := json.NewDecoder(io.LimitReader(response.Body, maxFailure)).Decode(&said); err != nil {
		said.Error = response.Status
	}
	return nil, fmt.Errorf("the proxy: %w", &refusal{response.StatusCode, said.Error})
}

// refusal is an answer that is not 200.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func isAbsent(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == http.StatusNotFound
}

// call is how far one request came.
type call struct{ connected, answered atomic.Bool }

func (c *call) follow(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { c.connected.Store(true) },
		GotFirstResponseByte: func() { c.answered.Store(true) },
	})
}

// unanswered says why there is no answer. A proxy closes the connection of whom
// it does not let in, without a word; which of its two reasons it had can be
// told from here.
func (c *Client) unanswered(ctx context.Context, err error, progress *call) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // without the address that we made up
	}
	var late net.Error
	closed := progress.connected.Load() && !progress.answered.Load() && ctx.Err() == nil && !(errors.As(err, &late) && late.Timeout())
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (%s)", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission), closed && !c.mayAsk():
		return fmt.Errorf("%w (%s)", ErrDenied, c.path)
	case closed:
		return fmt.Errorf("%w (%s)", ErrBusy, c.path)
	}
	return c.broken(err)
}

// mayAsk says whether this process has the right to, as far as can be seen.
func (c *Client) mayAsk() bool {
	allowed := accessTo(&net.UnixAddr{Name: c.path, Net: "unix"})
	allowed.uid = 0
	mine := credentials{uid: uint32(os.Geteuid()), groups: []uint32{uint32(os.Getegid())}}
	groups, _ := os.Getgroups()
	for _, gid := range groups {
		mine.groups = append(mine.groups, uint32(gid))
	}
	return allowed.permits(mine)
}

func (c *Client) broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("asking the proxy at %s: %w", c.path, err)
}

// readLine reads one line of bounded length. io.EOF means that there is none.
func readLine(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		piece, err := r.ReadSlice('\n')
		switch {
		case err == nil && len(text) == 0:
			return piece, nil // valid until the next read, which is after its use
		case len(text)+len(piece) > maxLine:
			return nil, errors.New("the answer has a line that is too long")
		}
		text = append(text, piece...)
		switch {
		case err == nil:
			return text, nil
		case errors.Is(err, io.EOF) && len(text) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		text = slices.Grow(text, r.Size())
	}
}
