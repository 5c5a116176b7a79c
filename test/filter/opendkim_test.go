package filter_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/filter"
)

const opendkimConf = `
Mode                $MODE
Domain              example.com
Selector            test
KeyFile             $DIR/test.private
Canonicalization    $CANONICALIZATION
TestPublicKeys      $DIR/public
Socket              local:$DIR/milter.sock
Background          no
AutoRestart         no
Syslog              no
UMask               077
RequireSafeKeys     no
AlwaysAddARHeader   yes
`

// opendkim makes a key and starts two: one signs, one verifies.
func opendkim(t *testing.T, canonicalization string) (signer, verifier *filter.Filter, key string) {
	t.Helper()
	var filters []*filter.Filter
	key = t.TempDir()
	run(t, "opendkim-genkey", "-b", "2048", "-d", "example.com", "-s", "test", "-D", key)
	for _, mode := range []string{"s", "v"} {
		conf := strings.NewReplacer("$MODE", mode, "$CANONICALIZATION", canonicalization).Replace(opendkimConf)
		dir := privateDir(t, map[string]string{"opendkim.conf": conf, "public": publicKey(t, filepath.Join(key, "test.txt"))})
		run(t, "cp", filepath.Join(key, "test.private"), dir)
		d := startDaemon(t, filepath.Join(dir, "milter.sock"), "/usr/sbin/opendkim", "-f", "-x", filepath.Join(dir, "opendkim.conf"))
		filters = append(filters, d.filter())
	}
	return filters[0], filters[1], key
}

// publicKey turns the record for the name server into a line of TestPublicKeys.
func publicKey(t *testing.T, path string) string {
	t.Helper()
	record, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for i, part := range strings.Split(string(record), `"`) {
		if i%2 == 1 {
			text.WriteString(part)
		}
	}
	return "test._domainkey.example.com " + text.String() + "\n"
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// The simple canonicalization forgives no octet of the header section: it shows
// that fields reach the filter as they are and come out as it meant them.
func TestOpenDKIM(t *testing.T) {
	for _, canonicalization := range []string{"simple/simple", "relaxed/relaxed"} {
		t.Run(strings.ReplaceAll(canonicalization, "/", " "), func(t *testing.T) {
			signer, verifier, key := opendkim(t, canonicalization)
			header := strings.Replace(plainHeader, "To: b", "To:   b", 1)
			verdict, signed := check(t, signer, header, "A line\r\n\r\n.dots and so on\r\n\r\n\r\n")
			if verdict.Action != filter.Accept || !verdict.Changed || !strings.HasPrefix(signed, "DKIM-Signature: v=1;") {
				t.Fatalf("%+v\n%s", verdict, signed)
			}
			if canonicalization == "simple/simple" {
				verifySimple(t, filepath.Join(key, "test.private"), signed)
			}
			signedHeader, body, _ := strings.Cut(signed, "\r\n\r\n")
			for _, c := range []struct{ name, body, want string }{
				{"as it is", body, "dkim=pass"},
				{"forged", strings.Replace(body, "line", "lime", 1), "dkim=fail"},
			} {
				verdict, verified := checkFrom(t, verifier, netip.MustParseAddr("192.0.2.1"), signedHeader+"\r\n", c.body)
				if results := linesOf(verified, "Authentication-Results:"); len(results) != 1 || !strings.Contains(verified, c.want) {
					t.Errorf("%s: %+v\n%s", c.name, verdict, verified)
				}
			}
		})
	}
}
