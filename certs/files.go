package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// watchInterval is how often the files are read. New content is loaded when two readings in a row agree on it, so
// that a file that is still being written is not taken for whole.
const watchInterval = 2 * time.Second

// files is the certificate of SourceFiles. The files are read rather than watched for events: a certbot renewal moves a
// symlink in one of the directories on the path, an event would have to be awaited on each, and reading two small files
// costs microseconds.
type files struct {
	certificateFile, keyFile string
	logger                   *zap.Logger

	current atomic.Pointer[pair]      // nil until there was one
	fault   atomic.Pointer[complaint] // nil while all is well
	stop    chan struct{}
	done    sync.WaitGroup
}

// pair is a certificate with its key, and what was read.
type pair struct {
	certificate tls.Certificate
	digest      digest
	names       map[string]bool // in lower case
	wildcards   map[string]bool // "example.com" for "*.example.com"
}

type digest [sha256.Size]byte

// openFiles loads the pair and keeps it fresh until close. Files that are missing or do not belong together are waited
// for.
func openFiles(certificateFile, keyFile string, logger *zap.Logger) *files {
	f := &files{certificateFile: certificateFile, keyFile: keyFile, logger: logger, stop: make(chan struct{})}
	p, err := readPair(certificateFile, keyFile)
	if err == nil {
		f.use(p)
	} else {
		f.complain("cannot load the certificate files; clients are shown the local CA's until they can be", err)
	}
	f.done.Go(f.watch)
	return f
}

// close ends the watching and waits for it.
func (f *files) close() {
	close(f.stop)
	f.done.Wait()
}

func (f *files) watch() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var look digest
	if p := f.current.Load(); p != nil {
		look = p.digest
	}
	for {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
			look = f.look(look)
		}
	}
}

// complaint is why the files cannot be loaded.
type complaint struct {
	text string
	at   time.Time // since when
}

// look reads the files and loads them if they hold something new that the last reading saw as well. What cannot be
// loaded is complained of once, and tried again at each look: the other file, or its mode, may follow.
func (f *files) look(last digest) digest {
	certificatePEM, keyPEM, err := readFiles(f.certificateFile, f.keyFile)
	seen := digestOf(certificatePEM, keyPEM, err)
	if p := f.current.Load(); p != nil && seen == p.digest {
		f.fault.Store(nil)
		return seen
	}
	if seen != last {
		return seen
	}
	p, err := checkPair(certificatePEM, keyPEM, err, f.keyFile)
	switch {
	case err == nil:
		f.use(p)
	case f.current.Load() == nil:
		f.complain("cannot load the certificate files; clients are shown the local CA's until they can be", err)
	default:
		f.complain("cannot load the changed certificate files; keeping the certificate loaded before", err)
	}
	return seen
}

// checkPair judges one reading of the files.
func checkPair(certificatePEM, keyPEM []byte, err error, keyFile string) (*pair, error) {
	if err != nil {
		return nil, err
	}
	p, err := parsePair(certificatePEM, keyPEM)
	if err != nil {
		return nil, err
	}
	return p, closedTo(0o007, keyFile)
}

func (f *files) complain(message string, err error) {
	if last := f.fault.Load(); last != nil && last.text == err.Error() {
		return
	}
	f.fault.Store(&complaint{err.Error(), time.Now()})
	f.logger.Warn(message, zap.Error(err))
}

func (f *files) use(p *pair) {
	leaf := p.certificate.Leaf
	f.logger.Info("loaded the certificate files", zap.String(logfields.Path, f.certificateFile), zap.Strings("names", leaf.DNSNames),
		zap.Time("not_after", leaf.NotAfter), zap.String("issuer", leaf.Issuer.String()))
	if !isGood(leaf, time.Now()) {
		f.logger.Warn("the certificate in the files has expired or not begun; clients are shown the local CA's",
			zap.Time("not_before", leaf.NotBefore), zap.Time("not_after", leaf.NotAfter))
	}
	f.current.Store(p)
	f.fault.Store(nil)
}

// reread loads the files now if they are a pair.
func (f *files) reread() error {
	p, err := readPair(f.certificateFile, f.keyFile)
	if err != nil {
		return err
	}
	if now := f.current.Load(); now == nil || now.digest != p.digest {
		f.use(p)
	}
	return nil
}

// good is the pair if it has begun and not ended.
func (f *files) good() *pair {
	if p := f.current.Load(); p != nil && isGood(p.certificate.Leaf, time.Now()) {
		return p
	}
	return nil
}

// forName is the certificate if it is good and for name, in lower case.
func (f *files) forName(name string) *tls.Certificate {
	if p := f.good(); p != nil && p.covers(name) {
		return &p.certificate
	}
	return nil
}

// forAnybody is the certificate if it is good.
func (f *files) forAnybody() *tls.Certificate {
	if p := f.good(); p != nil {
		return &p.certificate
	}
	return nil
}

// readPair reads the files, which must belong together, and a key that others cannot read.
func readPair(certificateFile, keyFile string) (*pair, error) {
	certificatePEM, keyPEM, err := readFiles(certificateFile, keyFile)
	if err != nil {
		return nil, err
	}
	if err := closedTo(0o007, keyFile); err != nil {
		return nil, fmt.Errorf("reading the key file: %w", err)
	}
	p, err := parsePair(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("loading %s with %s: %w", certificateFile, keyFile, err)
	}
	return p, nil
}

// maxPEM is what is read of a file. A pipe is none.
const maxPEM = 1 << 20

func readFiles(certificateFile, keyFile string) (certificatePEM, keyPEM []byte, err error) {
	if certificatePEM, err = durable.ReadSmall(certificateFile, maxPEM, 0); err != nil {
		return nil, nil, fmt.Errorf("reading the certificate file: %w", err)
	}
	if keyPEM, err = durable.ReadSmall(keyFile, maxPEM, 0); err != nil {
		return nil, nil, fmt.Errorf("reading the key file: %w", err)
	}
	return certificatePEM, keyPEM, nil
}

// parsePair fails unless the key is the certificate's.
func parsePair(certificatePEM, keyPEM []byte) (*pair, error) {
	certificate, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, err
	}
	octets := 0
	for _, der := range certificate.Certificate {
		octets += len(der)
	}
	if n := len(certificate.Certificate); n > maxChain || octets > maxChainOctets {
		return nil, fmt.Errorf("the chain has %d certificates and %d octets; clients need no more than %d and %d", n, octets, maxChain, maxChainOctets)
	}
	p := &pair{certificate: certificate, digest: digestOf(certificatePEM, keyPEM, nil)}
	p.names, p.wildcards = map[string]bool{}, map[string]bool{}
	for _, name := range certificate.Leaf.DNSNames {
		name = strings.ToLower(name)
		if parent, ok := strings.CutPrefix(name, "*."); ok {
			p.wildcards[parent] = true
		} else {
			p.names[name] = true
		}
	}
	return p, nil
}

// covers reports whether the certificate is for name, in lower case; a wildcard stands for one label (RFC 9525,
// section 6.3).
func (p *pair) covers(name string) bool {
	_, parent, _ := strings.Cut(name, ".")
	return p.names[name] || p.wildcards[parent]
}

// digestOf tells one reading from another; an error is a reading too.
func digestOf(certificatePEM, keyPEM []byte, err error) digest {
	h := sha256.New()
	fmt.Fprintf(h, "%d %v\n", len(certificatePEM), err)
	h.Write(certificatePEM)
	h.Write(keyPEM)
	return digest(h.Sum(nil))
}
