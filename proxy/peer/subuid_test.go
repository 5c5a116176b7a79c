package peer

import (
	"os"
	"slices"
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

// TestRanges: they are exactly the uids that Owner puts down to those users.
func TestRanges(t *testing.T) {
	users, passwd, _ := userFiles(t, "root:x:0:0::/:\nann:x:1000:1000::/:\nbob:x:1001:1001::/:\n"+
		"low:x:300:300::/:\nreal:x:305:305::/:\nnext:x:306:306::/:\nhigh:x:320:320::/:\nlast:x:409:409::/:", "root:x:0:")
	users.subuid = passwd + ".sub"
	replaceFile(t, users.subuid, "ann:300:20\nann:320:5\nbob:325:5\nann:330:10\nbob:335:2\nann:350:0\nbob:360:5\nbob:365:5\nann:400:10\nann:4294967290:100")
	for name, owners := range map[string][]uint32{"nobody": nil, "ann": {1000}, "bob": {1001}, "both": {1000, 1001}, "another": {7}} {
		of := func(owner uint32) bool { return slices.Contains(owners, owner) }
		covered := map[uint32]bool{}
		last := int64(-2)
		for _, r := range users.Ranges(of) {
			if int64(r.First) <= last+1 || r.Last < r.First || r.Last == NoUID {
				t.Errorf("%s: %d-%d after %d", name, r.First, r.Last, last)
			}
			last = int64(r.Last)
			for uid := uint64(r.First); uid <= uint64(r.Last); uid++ {
				covered[uint32(uid)] = true
			}
		}
		probe := []uint32{4294967288, 4294967289, 4294967290, 4294967294}
		for uid := range uint32(1100) {
			probe = append(probe, uid)
		}
		for _, uid := range probe {
			owner, ok := users.Owner(uid)
			if want := ok && of(owner); covered[uid] != want {
				t.Errorf("%s: %d is covered: %v, want %v (it is %d's: %v)", name, uid, covered[uid], want, owner, ok)
			}
		}
	}
}
