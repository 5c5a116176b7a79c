package main

import (
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
)

func TestParseTrace(t *testing.T) {
	calls, err := parseTrace(strings.NewReader(`71 1795306075.186283 fsync(12</var/spool/hold/2C47>) = 0 <0.000404>
72 1795306076.000000 fsync(13</var/spool/hold/5DE6> <unfinished ...>
71   1795306076.100000 fdatasync(14</var/spool/queue>) = -1 EIO (Input/output error) <0.010000>
71 1795306076.200000 fdatasync(14</var/spool/queue> <unfinished ...>
72 1795306076.500000 <... fsync resumed>) = 0 <0.500000>
71 1795306076.600000 <... fdatasync resumed>) = 0 <0.400000>
71 1795306076.700000 --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL} ---
72 1795306076.800000 +++ exited with 0 +++
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(microseconds int64) time.Time { return time.UnixMicro(1_795_306_000_000_000 + microseconds) }
	want := []synced{
		{"/var/spool/hold/2C47", at(75_186_283), at(75_186_687)},
		{"/var/spool/hold/5DE6", at(76_000_000), at(76_500_000)},
		{"/var/spool/queue", at(76_200_000), at(76_600_000)},
	}
	if len(calls) != len(want) {
		t.Fatalf("%d calls: %v", len(calls), calls)
	}
	for i, c := range calls {
		near := func(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Microsecond } // a float's last digit
		if c.path != want[i].path || !near(c.begin, want[i].begin) || !near(c.end, want[i].end) {
			t.Errorf("call %d: %v, want %v", i, c, want[i])
		}
	}
	if _, err := parseTrace(strings.NewReader("71 soon fsync(1</x>) = 0 <0.1>\n")); err == nil {
		t.Error("no error from a line without a time")
	}
}

func TestPerMessage(t *testing.T) {
	dir := t.TempDir()
	files, directories := perMessage(make([]load.Sent, 4), []synced{{path: dir + "/gone"}, {path: dir}, {path: dir + "/b"}})
	if files != 0.5 || directories != 0.25 {
		t.Errorf("%v files and %v directories a message", files, directories)
	}
}
