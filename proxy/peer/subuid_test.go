package peer

import (
	"os"
	"testing"
)

// TestOwner: the uids that a user has for its user namespaces are that user's,
// and nobody else's.
func TestOwner(t *testing.T) {
	users, passwd, _ := userFiles(t, "root:x:0:0::/:\nann:x:1000:1000::/:\nbob:x:1001:1001::/:\nreal:x:100005:100005::/:", "root:x:0:")
	users.subuid = passwd + ".sub"
	if got, ok := users.Owner(100000); ok {
		t.Errorf("without a file 100000 is %d's", got)
	}
	replaceFile(t, users.subuid, "bob:165536:65536\nann:100000:65536\n# no\nroot:300000:10\n1002:400000:1\ngone:500000:10\nann:4294967290:100\nbad:x:y\nann:7")
	for uid, want := range map[uint32]uint32{
		0: 0, 1000: 0, 99999: 0, 100000: 1000, 100005: 0, 165535: 1000, 165536: 1001, 231071: 1001, 231072: 0,
		300000: 0, 400000: 1002, 400001: 0, 500000: 0, 4294967294: 1000, 7: 0,
	} {
		if got, ok := users.Owner(uid); got != want || ok != (want != 0) {
			t.Errorf("%d is %d's (%v), want %d", uid, got, ok, want)
		}
	}
	if err := os.Remove(users.subuid); err != nil {
		t.Fatal(err)
	}
	if got, ok := users.Owner(100000); ok {
		t.Errorf("after the file is gone 100000 is %d's", got)
	}
}
