package filter_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/filter"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// rspamdConf scans in the worker that speaks milter and knows no test but its
// own patterns. Three endings of domains instead of nine thousand spare it half
// a minute of compiling.
const rspamdConf = `
options {
    tempdir = "$DIR";
    hs_cache_dir = "$DIR";
    stats_file = "$DIR/stats";
    history_file = "$DIR/history";
    control_socket = "$DIR/control.sock mode=0600";
    url_tld = "$DIR/endings";
    disable_hyperscan = true;
    enable_test_patterns = true;
    filters = "";
    dns { nameserver = ["127.0.0.1:53"]; timeout = 0.1s; retransmits = 1; }
}
logging { type = "console"; level = "info"; }
actions { reject = 15; add_header = 6; greylist = 4; }
worker "rspamd_proxy" {
    bind_socket = "$DIR/milter.sock mode=0600";
    milter = yes;
    count = 1;
    timeout = 20s;
    quarantine_on_reject = $QUARANTINE;
    upstream "local" { default = yes; self_scan = yes; }
}
modules { path = "/usr/share/rspamd/plugins/milter_headers.lua"; }
milter_headers { use = ["x-spamd-bar", "x-spam-level", "x-spam-status"]; skip_local = false; skip_authenticated = false; }
`

// rspamd starts one; quarantine is what it asks for instead of a refusal.
func rspamd(t *testing.T, quarantine bool) *filter.Filter {
	t.Helper()
	conf := strings.ReplaceAll(rspamdConf, "$QUARANTINE", map[bool]string{true: "yes", false: "no"}[quarantine])
	dir := privateDir(t, map[string]string{"rspamd.conf": conf, "endings": "com\nnet\norg\n"})
	return startDaemon(t, filepath.Join(dir, "milter.sock"), "/usr/bin/rspamd", "-f", "--insecure", "-c", filepath.Join(dir, "rspamd.conf")).filter()
}

// Patterns that rspamd judges as their names say.
const (
	gtubeReject    = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	gtubeAddHeader = "YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	gtubeRewrite   = "ZJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
)

func TestRspamd(t *testing.T) {
	f := rspamd(t, false)
	t.Run("refuses GTUBE", func(t *testing.T) {
		verdict, _ := check(t, f, plainHeader, "Hello\r\n"+gtubeReject+"\r\n")
		want := smtp.NewReply(554, smtp.EnhancedCode{5, 7, 1}, "Gtube pattern")
		if verdict.Action != filter.Reject || verdict.Reply.String() != want.String() {
			t.Errorf("%v %v, want %v", verdict.Action, verdict.Reply, want)
		}
	})
	t.Run("adds fields", func(t *testing.T) {
		verdict, message := check(t, f, plainHeader, "Hello\r\n"+gtubeAddHeader+"\r\n")
		if verdict.Action != filter.Accept || !verdict.Changed || verdict.Body != nil {
			t.Fatalf("%+v", verdict)
		}
		header, body, _ := strings.Cut(message, "\r\n\r\n")
		if !strings.Contains(header, plainHeader) || !strings.Contains(header, "X-Spam: Yes") || body != "Hello\r\n"+gtubeAddHeader+"\r\n" {
			t.Errorf("%q", message)
		}
	})
	t.Run("changes the subject", func(t *testing.T) {
		verdict, message := check(t, f, plainHeader, "Hello\r\n"+gtubeRewrite+"\r\n")
		if verdict.Action != filter.Accept || !verdict.Changed {
			t.Fatalf("%+v", verdict)
		}
		if subjects := linesOf(message, "Subject:"); len(subjects) != 1 || !strings.HasPrefix(subjects[0], "Subject: *** SPAM ***") {
			t.Errorf("%q", subjects)
		}
	})
	t.Run("lets pass what is nothing", func(t *testing.T) {
		verdict, message := check(t, f, plainHeader, "Hello\r\n")
		if verdict.Action != filter.Accept || !strings.HasSuffix(message, "\r\n\r\nHello\r\n") {
			t.Errorf("%+v %q", verdict, message)
		}
	})
	t.Run("sees what hides behind a line that is no field", func(t *testing.T) {
		verdict, _ := check(t, f, plainHeader+"no field\r\n"+gtubeReject+"\r\n", "Hello\r\n")
		if verdict.Action != filter.Reject {
			t.Errorf("%+v", verdict)
		}
	})
	t.Run("has the last part of ten megabytes", func(t *testing.T) {
		header := strings.Replace(plainHeader, "text/plain; charset=utf-8", "multipart/mixed; boundary=cut", 1)
		verdict, _ := check(t, f, header, "--cut\r\nContent-Type: application/octet-stream\r\n\r\n"+
			strings.Repeat(strings.Repeat("x", 70)+"\r\n", 10<<20/72)+"--cut\r\n\r\n"+gtubeReject+"\r\n--cut--\r\n")
		if verdict.Action != filter.Reject {
			t.Errorf("%+v", verdict)
		}
	})
}

func TestRspamdQuarantines(t *testing.T) {
	verdict, _ := check(t, rspamd(t, true), plainHeader, "Hello\r\n"+gtubeReject+"\r\n")
	if verdict.Action != filter.Quarantine || verdict.Reason == "" {
		t.Errorf("%+v", verdict)
	}
}

// linesOf are the lines that begin so.
func linesOf(message, prefix string) []string {
	return slices.DeleteFunc(strings.Split(message, "\r\n"), func(line string) bool { return !strings.HasPrefix(line, prefix) })
}
