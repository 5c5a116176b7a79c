package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// challengeHeaderTime is what a client has to say what it wants, and challengeTime for all: a CA knows when it dials.
	challengeHeaderTime = 2 * time.Second
	challengeTime       = 5 * time.Second
	maxChallengeHeader  = 8 << 10
)

// challengeServer answers CAs on listeners, and nobody else. It owns a goroutine for each listener.
type challengeServer struct {
	challenges *challenges
	http       *http.Server

	mu        sync.Mutex
	listeners []net.Listener
	done      sync.WaitGroup
}

func newChallengeServer(c *challenges) *challengeServer {
	s := &challengeServer{challenges: c}
	s.http = &http.Server{
		Handler:           c,
		ReadHeaderTimeout: challengeHeaderTime,
		ReadTimeout:       challengeHeaderTime,
		WriteTimeout:      challengeTime,
		MaxHeaderBytes:    maxChallengeHeader,
		ErrorLog:          log.New(io.Discard, "", 0), // it says what strangers do
	}
	s.http.SetKeepAlivesEnabled(false)
	return s
}

// serveHTTP answers http-01 on the listener until close.
func (s *challengeServer) serveHTTP(listener net.Listener) {
	s.adopt(listener)
	s.done.Go(func() { _ = s.http.Serve(limitChallenges(listener)) })
}

// serveTLS answers tls-alpn-01 on the listener until close.
func (s *challengeServer) serveTLS(listener net.Listener) {
	s.adopt(listener)
	config := s.challenges.tlsConfig()
	s.done.Go(func() {
		limited := limitChallenges(listener)
		for {
			conn, err := limited.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				time.Sleep(acceptPause)
			default:
				s.done.Go(func() { shakeHands(conn, config) })
			}
		}
	})
}

// acceptPause is for when the process has no descriptor left.
const acceptPause = 100 * time.Millisecond

// shakeHands is the whole session with a CA: the certificate is the answer.
func shakeHands(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), challengeTime)
	defer cancel()
	_ = tls.Server(conn, config).HandshakeContext(ctx)
}

func (s *challengeServer) adopt(listener net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, listener)
}

// close ends listening at once.
func (s *challengeServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, listener := range s.listeners {
		listener.Close()
	}
	s.http.Close()
}

// wait returns when the last connection has ended, which challengeTime bounds after close.
func (s *challengeServer) wait() { s.done.Wait() }
