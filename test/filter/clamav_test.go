package filter_test

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/filter"
)

const clamdConf = `
Foreground yes
User root
DatabaseDirectory $DIR/signatures
TemporaryDirectory $DIR
LocalSocket $DIR/clamd.sock
`

const clamavMilterConf = `
Foreground yes
User root
MilterSocket unix:$DIR/milter.sock
MilterSocketMode 600
ClamdSocket unix:$CLAMD
TemporaryDirectory $DIR
OnInfected $INFECTED
RejectMsg found %v
AddHeader Replace
`

// eicar is the text that every scanner takes for a virus; in two pieces, so that
// none takes this file for one.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-` + `STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

func TestClamAV(t *testing.T) {
	dir := privateDir(t, map[string]string{
		"clamd.conf":          clamdConf,
		"signatures/test.ndb": "Test.Eicar:0:*:" + hex.EncodeToString([]byte(eicar)) + "\n",
	})
	clamd := startDaemon(t, filepath.Join(dir, "clamd.sock"), "/usr/sbin/clamd", "-c", filepath.Join(dir, "clamd.conf"))
	for _, c := range []struct {
		infected string
		action   filter.Action
		reply    string
	}{
		{"Reject", filter.Reject, "550 5.7.1 found Test.Eicar.UNOFFICIAL"},
		{"Quarantine", filter.Quarantine, ""},
		{"Blackhole", filter.Discard, ""},
		{"Defer", filter.Defer, `451 4.7.1 message deferred by filter "under-test", try again later`},
	} {
		t.Run(c.infected, func(t *testing.T) {
			conf := strings.NewReplacer("$CLAMD", clamd.socket, "$INFECTED", c.infected).Replace(clamavMilterConf)
			dir := privateDir(t, map[string]string{"milter.conf": conf})
			f := startDaemon(t, filepath.Join(dir, "milter.sock"), "/usr/sbin/clamav-milter", "-c", filepath.Join(dir, "milter.conf")).filter()
			verdict, _ := check(t, f, plainHeader, eicar+"\r\n")
			if verdict.Action != c.action || c.reply != "" && verdict.Reply.String() != c.reply {
				t.Errorf("%v %v %q", verdict.Action, verdict.Reply, verdict.Reason)
			}
			verdict, message := check(t, f, plainHeader, "nothing bad\r\n")
			if verdict.Action != filter.Accept || !strings.Contains(message, "\r\nX-Virus-Status: Clean\r\n") {
				t.Errorf("%+v\n%s", verdict, message)
			}
		})
	}
}
