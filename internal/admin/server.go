package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const (
	// headTime and requestTime are how long a client may take to say what it
	// wants, answerTime how long it may leave a piece of the answer unread, and
	// idleTime how long it may be silent between requests.
	headTime    = 5 * time.Second
	requestTime = 20 * time.Second
	answerTime  = 10 * time.Second
	idleTime    = time.Minute
	// workTime bounds one request in all: a reader that takes a little each time
	// must end too.
	workTime = time.Hour

	maxHeader = 16 << 10
)

// Options say what a server answers with.
type Options struct {
	Reader    Reader
	Limits    LimitReader
	Actor     Actor
	Certifier Certifier   // nil: certificates cannot be asked for
	Logger    *zap.Logger // nil is none
}

// Server answers on the admin socket. Make it with NewServer.
type Server struct {
	http http.Server
	log  *zap.Logger
	stop context.CancelFunc
}

// NewServer makes a server; Serve gives it a socket.
func NewServer(o Options) *Server {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	// Shutdown ends it, and the requests with it.
	running, stop := context.WithCancel(context.Background())
	// What net/http has to say is of a handler's panic, or of accept failing.
	complaints, _ := zap.NewStdLogAt(o.Logger, zap.ErrorLevel) // a level that it knows
	s := &Server{log: o.Logger, stop: stop}
	s.http = http.Server{
		Handler: NewHandler(o), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headTime, ReadTimeout: requestTime, IdleTimeout: idleTime,
		ConnContext: withPeer,
		BaseContext: func(net.Listener) context.Context { return running },
		ErrorLog:    complaints,
	}
	return s
}

// Serve answers connections that come from ln, a Unix socket's, until Shutdown,
// and returns nil then. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	err := s.http.Serve(newGate(ln, s.log))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown ends the requests under way, waits for their goroutines as long as
// ctx allows, and closes every connection.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	return errors.Join(s.http.Shutdown(ctx), s.http.Close())
}
