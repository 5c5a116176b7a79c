package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// userFiles writes a passwd and a group file and returns their Users.
func userFiles(t testing.TB, passwd, group string) (*Users, string, string) {
	t.Helper()
	dir := t.TempDir()
	p, g := filepath.Join(dir, "passwd"), filepath.Join(dir, "group")
	replaceFile(t, p, passwd)
	replaceFile(t, g, group)
	users := NewUsers(p, g, nil)
	users.recheck = 0 // the tests change the files and look at once
	return users, p, g
}

// replaceFile changes a file as vipw does.
func replaceFile(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestUsersLookup(t *testing.T) {
	passwd := strings.Join([]string{
		"root:x:0:0:root:/root:/bin/bash", "# a comment", "", "+::::::", "short:x", "bad:x:one:1::/:",
		"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin", "again:x:33:0::/:", "huge:x:4294967296:1::/:",
		"lone:x:1001:777::/:", "minus:x:4294967295:1::/:", "last:x:1002:1002",
	}, "\n")
	group := "root:x:0:\nwww-data:x:33:www-data\nmail:x:8:www-data, lone,\nlast:x:1002:\nadm:x:4:www-data,last"
	users, _, _ := userFiles(t, passwd, group)
	tests := []struct {
		uid    uint32
		name   string
		groups []string
	}{
		{0, "root", []string{"root"}},
		{33, "www-data", []string{"www-data", "mail", "adm"}},
		{1001, "lone", []string{"mail"}},
		{1002, "last", []string{"last", "adm"}},
		{5, "", nil},
		{NoUID, "", nil},
	}
	for _, tt := range tests {
		name, groups := users.Lookup(tt.uid)
		if name != tt.name || !slices.Equal(groups, tt.groups) {
			t.Errorf("Lookup(%d) = %q, %q, want %q, %q", tt.uid, name, groups, tt.name, tt.groups)
		}
	}
}

func TestUsersFollowTheFiles(t *testing.T) {
	users, passwd, group := userFiles(t, "a:x:1:1::/:\n", "one:x:1:\n")
	expect := func(name string, groups ...string) {
		t.Helper()
		if n, g := users.Lookup(1); n != name || !slices.Equal(g, groups) {
			t.Errorf("Lookup(1) = %q, %q, want %q, %q", n, g, name, groups)
		}
	}
	expect("a", "one")
	replaceFile(t, passwd, "b:x:1:1::/:\n")
	expect("b", "one")
	replaceFile(t, group, "uno:x:1:\n")
	expect("b", "uno")
	// Written in place, to the same size.
	if err := os.WriteFile(passwd, []byte("c:x:1:1::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("c", "uno")
}

func TestUsersKeepWhatTheyKnow(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	_, passwd, group := userFiles(t, "a:x:1:1::/:\n", "one:x:1:\n")
	users := NewUsers(passwd, group, zap.New(core))
	users.recheck = 0
	users.Lookup(1)
	if err := os.Remove(passwd); err != nil {
		t.Fatal(err)
	}
	if name, _ := users.Lookup(1); name != "a" {
		t.Errorf("after the file went: %q, want %q", name, "a")
	}
	if logs.FilterMessage("user names not read").Len() == 0 {
		t.Error("nothing was logged")
	}
}

func TestUsersHugeFiles(t *testing.T) {
	const n = 100_000
	var passwd strings.Builder
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("site-%d", i)
		fmt.Fprintf(&passwd, "%s:x:%d:100::/:\n", names[i], 10_000+i)
	}
	// One line of more than a megabyte.
	group := "users:x:100:\nsites:x:101:" + strings.Join(names, ",") + "\n"
	users, path, _ := userFiles(t, passwd.String(), group)
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := worker; i < n; i += n / 50 {
				name, groups := users.Lookup(uint32(10_000 + i))
				if name != names[i] || !slices.Equal(groups, []string{"users", "sites"}) {
					t.Errorf("uid %d is %q, %q", 10_000+i, name, groups)
				}
			}
		})
	}
	all.Go(func() { replaceFile(t, path, passwd.String()+"#\n") })
	all.Wait()
}
