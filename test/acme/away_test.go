package acme_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

// TestAwayAtBoot: while the CA is away the local CA serves and somebody is told;
// when it comes back there is a certificate without a restart.
func TestAwayAtBoot(t *testing.T) {
	t.Parallel()
	s := setup{config: acmeConfig}
	b := newBed(t, s)
	b.ca.Stop()
	b.configure(s)
	began := time.Now()
	b.start()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the start took %s", took)
	}
	b.checkMail(t, b.localRoots(t))
	b.awaitComplaint(t, "connection refused")
	b.ca.Start()
	// Who asks again and again asks less and less often.
	b.awaitCertificateFor(t, 150*time.Second, b.ca.Roots(0), hostName)
	b.awaitWell(t)
	b.checkMail(t, b.ca.Roots(0))
	// For localhost the local CA is still the one.
	if _, err := b.handshake(submissions, b.localRoots(t), "localhost"); err != nil {
		t.Errorf("for localhost: %v", err)
	}
}

// TestHangingAtBoot: a CA that takes connections and says nothing keeps nobody
// waiting either.
func TestHangingAtBoot(t *testing.T) {
	t.Parallel()
	s := setup{config: acmeConfig}
	b := newBed(t, s)
	b.ca.Pause()
	b.configure(s)
	began := time.Now()
	b.start()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the start took %s", took)
	}
	b.checkMail(t, b.localRoots(t))
	if conditions, status := b.conditions(t); conditions["certificate "+hostName] == "" || status != 3 {
		t.Errorf("status %d with the conditions %v", status, conditions)
	}
	began = time.Now()
	b.stop()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the end took %s", took)
	}
	b.ca.Resume()
	b.start()
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
}

// TestStored: what was issued is used at the next start, without the CA.
func TestStored(t *testing.T) {
	t.Parallel()
	s := setup{config: acmeConfig}
	b := startBed(t, s)
	roots := b.ca.Roots(0)
	first := b.awaitCertificate(t, roots, hostName)
	b.stop()
	b.ca.Stop()
	b.start()
	second, err := b.handshake(submissions, roots, hostName)
	if err != nil {
		t.Fatalf("at the first handshake after the start: %v", err)
	}
	if !second.Equal(first) {
		t.Errorf("there is another certificate, %x, before %x", second.SerialNumber, first.SerialNumber)
	}
	b.checkMail(t, roots)
	b.awaitWell(t)
}

// TestKilledInOrder: a proxy that is killed in the middle of an order finishes
// it, or makes another, with the account that it has.
func TestKilledInOrder(t *testing.T) {
	t.Parallel()
	b := startBed(t, setup{
		ca:     pebble.Options{Slow: 8 * time.Second, RetryAfter: 2 * time.Second},
		config: acmeConfig,
		errors: []string{"the proxy ended, the rules stay and it is started again"},
	})
	await(t, "the CA to validate", func() bool { return strings.Contains(b.ca.Log(), "Starting 3 validations") })
	proxy := onlyChild(t, b.run.cmd.Process.Pid)
	if proxy == 0 {
		t.Fatal("there is no proxy")
	}
	if err := syscall.Kill(proxy, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.run.await(t, "accepting mail", 2)
	b.checkMail(t, b.localRoots(t))
	b.awaitCertificateFor(t, 2*patience, b.ca.Roots(0), hostName)
	if again := onlyChild(t, b.run.cmd.Process.Pid); again == proxy || again == 0 {
		t.Errorf("the proxy is %d, killed was %d", again, proxy)
	}
	if made := strings.Count(b.ca.Log(), "accounts in memory"); made != 1 {
		t.Errorf("there were %d accounts made, want one", made)
	}
	b.awaitWell(t)
}

// TestAwayAtRenewal: a CA that is away when a certificate has to be renewed costs
// nobody anything until it ends; then the local CA serves; and when the CA is
// back there is a certificate again.
func TestAwayAtRenewal(t *testing.T) {
	t.Parallel()
	const away = "EOF"
	b := newBed(t, setup{ca: pebble.Options{Profiles: map[string]time.Duration{"default": 40 * time.Second}}})
	f := &front{withoutARI: true}
	b.startFront(t, f)
	b.configure(setup{config: f.config()})
	b.start()
	roots := b.ca.Roots(0)
	first := b.awaitCertificate(t, roots, hostName)
	f.leave(true)
	await(t, "the failure to be told", func() bool {
		conditions, status := b.conditions(t)
		return status == 3 && strings.Contains(conditions["certificate "+hostName], away)
	})
	if time.Now().After(first.NotAfter) {
		t.Fatal("nobody was told before the certificate ended")
	}
	b.checkShown(t, roots, hostName, first)
	if c := b.certificate(t, "acme", hostName); !c.Serving || c.Error == "" {
		t.Errorf("cert status says %+v", c)
	}
	time.Sleep(time.Until(first.NotAfter.Add(time.Second)))
	b.checkMail(t, b.localRoots(t))
	b.awaitComplaint(t, away)
	f.leave(false)
	b.awaitCertificateFor(t, 150*time.Second, roots, hostName)
	await(t, "the complaint to end", func() bool { return b.certificate(t, "acme", hostName).Error == "" })
}

// TestForgetfulCA: a CA that was set up anew at its place, and knows neither the
// account nor the certificate that it is to renew, is asked as if for the first
// time.
func TestForgetfulCA(t *testing.T) {
	t.Parallel()
	b := startBed(t, setup{config: acmeConfig})
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.ca.Stop()
	b.ca.Start()
	must(t, b.command("cert", "renew"))
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.awaitWell(t)
}

// TestChangedNames: another name is certified after a reload, and the first one
// keeps what it has, even while another source is in force.
func TestChangedNames(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.startWebRoot(t)
	const config = acmeConfig + "web_root = \"$DIR/www\"\n"
	b.configure(setup{config: config})
	b.start()
	roots := b.ca.Roots(0)
	first := b.awaitCertificate(t, roots, hostName)
	b.configure(setup{config: config + "names = [\"vps1.example.net\", \"mail.example.net\"]\n"})
	b.reload(t)
	b.awaitCertificate(t, roots, "mail.example.net")
	b.checkShown(t, roots, hostName, first)
	b.awaitWell(t)
	b.configure(setup{})
	b.reload(t)
	if _, err := b.handshake(submissions, b.localRoots(t), hostName); err != nil {
		t.Errorf("with the local CA: %v", err)
	}
	b.configure(setup{config: config})
	b.reload(t)
	b.checkShown(t, roots, hostName, first)
	b.awaitWell(t)
}
