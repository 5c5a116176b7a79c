package acme_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lineage is certbot's layout of files: live/NAME has links to the current ones
// in archive/NAME, which are numbered.
type lineage struct {
	t             testing.TB
	live, archive string
	n             int            // of the newest pair; the first is 1
	serial        map[int]string // of each
}

// newLineage has a first certificate. Certbot keeps it for root alone; an
// administrator lets smtpwall's user in.
func (b *bed) newLineage(t testing.TB) *lineage {
	t.Helper()
	l := &lineage{
		t: t, serial: map[int]string{},
		live: b.path("letsencrypt", "live", hostName), archive: b.path("letsencrypt", "archive", hostName),
	}
	for _, dir := range []string{l.live, l.archive} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.issue(b.authority)
	l.move("fullchain", l.n)
	l.move("privkey", l.n)
	return l
}

// issue puts another pair into the archive, where nobody looks yet.
func (l *lineage) issue(a *authority) {
	l.t.Helper()
	chain, key := a.issue(l.t, hostName)
	l.n++
	block, _ := pem.Decode(chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err == nil {
		err = errors.Join(
			os.WriteFile(l.file("fullchain", l.n), chain, 0o644),
			os.WriteFile(l.file("privkey", l.n), key, 0o600),
			os.Chown(l.file("privkey", l.n), proxyUID, proxyUID))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.serial[l.n] = leaf.SerialNumber.String()
}

func (l *lineage) file(kind string, n int) string {
	return filepath.Join(l.archive, fmt.Sprintf("%s%d.pem", kind, n))
}

// move makes a link lead to a file: certbot takes the old one away and makes the
// new one.
func (l *lineage) move(kind string, n int) {
	l.t.Helper()
	link := filepath.Join(l.live, kind+".pem")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	if err := os.Symlink("../../archive/"+hostName+"/"+filepath.Base(l.file(kind, n)), link); err != nil {
		l.t.Fatal(err)
	}
}

// filesConfig has smtpwall read what certbot keeps.
const filesConfig = `source = "files"
certificate = "$DIR/letsencrypt/live/` + hostName + `/fullchain.pem"
key = "$DIR/letsencrypt/live/` + hostName + `/privkey.pem"
`

// TestSwaps: the files of another program change a thousand times, in both
// orders and one later than the other, and every client meanwhile sees a pair
// that belongs together. In the end it is the last.
func TestSwaps(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	l := b.newLineage(t)
	b.configure(setup{config: filesConfig})
	b.start()
	b.awaitCertificate(t, b.authority.pool(), hostName)
	l.issue(b.authority)
	seen := b.watchHandshakes(t)
	for swap := range 1000 {
		first, second, to := "fullchain", "privkey", 1+swap%2
		if swap/2%2 == 0 {
			first, second = second, first
		}
		l.move(first, to)
		time.Sleep(time.Duration(swap%25) * time.Millisecond) // most of the time they do not match
		l.move(second, to)
		time.Sleep(3 * time.Millisecond)
		if swap%333 == 332 { // a rest, in which the present pair is loaded
			b.awaitSerial(t, l.serial[to])
		}
	}
	l.issue(b.authority)
	l.move("fullchain", l.n)
	l.move("privkey", l.n)
	b.awaitSerial(t, l.serial[l.n])
	serials := seen(t)
	for n := 1; n <= l.n; n++ {
		if serials[l.serial[n]] == 0 {
			t.Errorf("pair %d was never seen", n)
		}
		delete(serials, l.serial[n])
	}
	if len(serials) > 0 {
		t.Errorf("certificates %v are none of the files'", serials)
	}
	b.awaitWell(t)
}

// awaitSerial waits until a certificate is shown, while those before it verify.
func (b *bed) awaitSerial(t testing.TB, serial string) {
	t.Helper()
	await(t, "certificate "+serial, func() bool {
		shown, err := b.handshake(submissions, b.authority.pool(), hostName)
		if err != nil {
			t.Fatal(err)
		}
		return shown.SerialNumber.String() == serial
	})
}

// watchHandshakes shakes hands with both listeners all the time. What it returns
// ends that and gives the serials that were seen.
func (b *bed) watchHandshakes(t testing.TB) (seen func(testing.TB) map[string]int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var mu sync.Mutex
	serials, errs, count := map[string]int{}, []error(nil), 0
	for _, at := range []netip.AddrPort{submission, submissions} {
		clients.Go(func() { // ends with ctx, for which the function below waits
			for ctx.Err() == nil {
				shown, err := b.handshake(at, b.authority.pool(), hostName)
				mu.Lock()
				if count++; err != nil {
					errs = append(errs, fmt.Errorf("at %s: %w", at, err))
				} else {
					serials[shown.SerialNumber.String()]++
				}
				mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { cancel(); clients.Wait() })
	return func(t testing.TB) map[string]int {
		t.Helper()
		cancel()
		clients.Wait()
		if len(errs) > 0 {
			t.Errorf("%d of %d handshakes failed: %v", len(errs), count, errors.Join(errs[:min(10, len(errs))]...))
		}
		t.Logf("%d handshakes saw %d certificates", count, len(serials))
		return serials
	}
}

// TestPairsThatDoNotMatch: files that do not belong together are not shown, and
// somebody is told; when they do again all is well.
func TestPairsThatDoNotMatch(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	l := b.newLineage(t)
	b.configure(setup{config: filesConfig})
	b.start()
	first := b.awaitCertificate(t, b.authority.pool(), hostName)
	l.issue(b.authority)
	l.move("privkey", l.n) // and the other file does not come
	await(t, "somebody to be told", func() bool {
		conditions, status := b.conditions(t)
		return status == 3 && strings.Contains(ofFiles(conditions), "private key")
	})
	b.checkShown(t, b.authority.pool(), hostName, first)
	b.checkMail(t, b.authority.pool())
	l.move("fullchain", l.n)
	b.awaitSerial(t, l.serial[l.n])
	b.awaitWell(t)
}

// TestNoFilesYet: smtpwall starts before the program that makes the files.
func TestNoFilesYet(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.configure(setup{config: filesConfig})
	b.start()
	b.checkMail(t, b.localRoots(t))
	if conditions, status := b.conditions(t); !strings.Contains(ofFiles(conditions), "no such file") || status != 3 {
		t.Errorf("status %d with the conditions %v", status, conditions)
	}
	b.newLineage(t)
	b.awaitCertificate(t, b.authority.pool(), hostName)
	b.awaitWell(t)
}

// ofFiles is the condition of certificate files: while nothing could be loaded
// there is no name to call it by.
func ofFiles(conditions map[string]string) (all string) {
	for part, text := range conditions {
		if part == "certificate "+hostName || strings.HasPrefix(part, "certificate /") {
			all += text
		}
	}
	return all
}
