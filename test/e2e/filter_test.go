package e2e_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// What rspamd judges as these names say.
const (
	gtubeReject = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	gtubeHeader = "YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
)

// startRspamd starts Debian's rspamd without a network and with its own patterns
// as the only test, and gives its socket. quarantine is what it asks for instead of
// a refusal.
func startRspamd(t testing.TB, quarantine string) (socket string, p *process) {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "rspamd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conf := strings.NewReplacer("$DIR", dir, "$QUARANTINE", quarantine).Replace(readFile(t, "testdata/filter-rspamd.conf"))
	for name, text := range map[string]string{"rspamd.conf": conf, "endings": "com\nnet\norg\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for the proxy's user
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/rspamd", "-f", "--insecure", "-c", filepath.Join(dir, "rspamd.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	p = launch(t, cmd)
	t.Cleanup(func() { _ = p.end(syscall.SIGTERM) }) // and its workers
	socket = filepath.Join(dir, "milter.sock")
	await(t, "rspamd at "+socket, func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return socket, p
}

func filterConfig(socket, more string) string {
	return "[[filter]]\nname = \"rspamd\"\nmilter = \"unix:" + socket + "\"\n" + more + "\n"
}

// TestFilter: rspamd refuses, adds fields and lets pass, in both modes of
// delivery, and what becomes of messages while it is away is as it was configured.
func TestFilter(t *testing.T) {
	t.Parallel()
	socket, rspamd := startRspamd(t, "no")
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			socket := socket
			b := newBed(t, setup{delivery: `mode = "` + mode + `"`, config: filterConfig(socket, "")})
			b.checkFilterRefuses(t)
			b.checkFilterAdds(t)
			b.checkFilterPasses(t)
			if mode == "queue" {
				_ = rspamd.end(syscall.SIGTERM)
			} else { // the other one needs it
				socket += ".gone"
				b.reload(setup{delivery: `mode = "proxy"`, config: filterConfig(socket, "")})
			}
			b.checkFilterAway(t, mode, socket)
		})
	}
}

func (b *bed) checkFilterRefuses(t *testing.T) {
	l := writeLetter("Hello\r\n" + gtubeReject + "\r\n")
	got := b.talk(t).send(l, sender, recipient)
	if got.code != 554 || !strings.HasPrefix(got.text, "5.7.1 Gtube pattern") {
		t.Errorf("of GTUBE the client hears %+v", got)
	}
	event := b.transaction(t, got.txn(t))
	if event.Decision != "deny" || !strings.HasPrefix(event.Reason, "filter rspamd: ") || event.Custody != audit.CustodyClient || event.ReplyCode != 554 {
		t.Errorf("the event says %+v", event)
	}
	said := mustFail(t, b.program("swaks", b.swaks(l, "--server", "127.0.0.1:587", "--tls")...))
	if !strings.Contains(said, "<~* 554 5.7.1 Gtube pattern") {
		t.Errorf("swaks says:\n%s", said)
	}
	b.checkStored(t)
	if n := len(findAll(b.relay, l)); n > 0 {
		t.Errorf("the relay has GTUBE, %d times", n)
	}
}

// posted sends a letter and gives what the relay has of it.
func (b *bed) posted(t *testing.T, l letter) []byte {
	t.Helper()
	got := b.talk(t).send(l, sender, recipient)
	if got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	txn := got.txn(t)
	if event := b.transaction(t, txn); event.Custody == audit.CustodySpool {
		b.awaitDelivery(t, txn)
	}
	return findOne(t, b.relay, l).Bytes
}

func (b *bed) checkFilterAdds(t *testing.T) {
	l := writeLetter("Hello\r\n.\r\n" + gtubeHeader + "\r\n")
	header, body, _ := bytes.Cut(b.posted(t, l), []byte("\r\n\r\n"))
	wantHeader, wantBody, _ := bytes.Cut(l.text, []byte("\r\n\r\n"))
	if !bytes.Contains(header, []byte("\r\nX-Spam: Yes")) || !bytes.Contains(header, wantHeader) || !bytes.Equal(body, wantBody) {
		t.Errorf("the relay has %q", header)
	}
}

func (b *bed) checkFilterPasses(t *testing.T) {
	for name, l := range map[string]letter{"a letter": newLetter(), "a large one": bigLetter(3 << 20)} {
		_, body, _ := bytes.Cut(b.posted(t, l), []byte("\r\n\r\n"))
		if _, want, _ := bytes.Cut(l.text, []byte("\r\n\r\n")); !bytes.Equal(body, want) {
			t.Errorf("%s has arrived with another body", name)
		}
	}
}

// checkFilterAway: without an answer a message is put off, or passes, and status
// tells of it.
func (b *bed) checkFilterAway(t *testing.T, mode, socket string) {
	l := newLetter()
	got := b.talk(t).send(l, sender, recipient)
	if got.code != 451 || !strings.HasPrefix(got.text, "4.") {
		t.Errorf("while the filter is away the client hears %+v", got)
	}
	if event := b.transaction(t, got.txn(t)); event.Custody != audit.CustodyClient || event.Decision != "defer" {
		t.Errorf("the event says %+v", event)
	}
	if stdout, stderr, status := b.output("status"); status != 3 || !strings.Contains(stdout+stderr, "filter rspamd") {
		t.Errorf("while the filter is away status ends with %d: %s%s", status, stdout, stderr)
	}
	b.reload(setup{delivery: `mode = "` + mode + `"`, config: filterConfig(socket, `on_failure = "accept"`)})
	l = newLetter()
	l.compare(t, b.posted(t, l))
}

// TestFilterQuarantines: what a filter quarantines waits for a person, whose word
// lets it go.
func TestFilterQuarantines(t *testing.T) {
	t.Parallel()
	socket, _ := startRspamd(t, "yes")
	b := newBed(t, setup{config: filterConfig(socket, `timeout = "20s"`)})
	l := writeLetter("Hello\r\n" + gtubeReject + "\r\n")
	got := b.talk(t).send(l, sender, recipient)
	if got.code != 250 || !strings.Contains(got.text, "held until the administrator releases it") {
		t.Fatalf("the client hears %+v", got)
	}
	txn := got.txn(t)
	ids, all := b.list(t, "hold", "--reason", "rspamd")
	if len(ids) != 1 || ids[0] != txn || all[txn].Progress.Hold != "filter" {
		t.Errorf("hold has %+v", all)
	}
	if event := b.transaction(t, txn); event.Decision != "hold" || event.Custody != audit.CustodySpool {
		t.Errorf("the event says %+v", event)
	}
	b.orders(t, 0, "1 message released", "hold", "release", txn)
	b.awaitDelivery(t, txn)
	if message := findOne(t, b.relay, l); !bytes.Contains(message.Bytes, []byte(gtubeReject)) {
		t.Errorf("the relay has %q", message.Bytes)
	}
}
