package peer

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "4071 (a) b) S 17 4071 4071 0 -1 4194560 5 0 0 0 12 3 400 50 20 0 1 0 9 1 1 1\n"
	got, ok := parseStat(line)
	if want := (status{parent: 17, cpu: 4650 * time.Millisecond}); !ok || got != want {
		t.Errorf("%+v %v, want %+v", got, ok, want)
	}
	for _, line := range []string{"", "1 (x", "1 (x) S", "1 (x) S a b"} {
		if got, ok := parseStat(line); ok {
			t.Errorf("%q was read as %+v", line, got)
		}
	}
}

func TestFamilyHoldsOurselves(t *testing.T) {
	members, err := family(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	if _, found := members[os.Getpid()]; !found {
		t.Errorf("%d is not in the family of its parent %d", os.Getpid(), os.Getppid())
	}
	memory, err := (&Running{PID: os.Getpid()}).Memory()
	if err != nil || memory.RSS == 0 || memory.PSS == 0 || memory.Peak < memory.RSS {
		t.Errorf("memory %+v, %v", memory, err)
	}
}
