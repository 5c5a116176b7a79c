package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// savedRulesets are where the nft command's service loads its rules from, by
// distribution: files, and directories of them.
func savedRulesets() []string {
	return []string{"/etc/nftables.conf", "/etc/nftables.d", "/etc/sysconfig/nftables.conf", "/etc/nftables"}
}

// warnSaved warns of saved rulesets that hold our tables. While the guard has
// the lock the kernel refuses such a file as a whole, the administrator's own
// rules with it.
func (c *console) warnSaved(places []string) {
	for _, place := range places {
		for _, mention := range mentions(place) {
			fmt.Fprintf(c.err, "smtpwall: warning: %s: a saved ruleset with a table of smtpwall's cannot be loaded while the guard runs\n", mention)
			fmt.Fprintln(c.err, "hint: delete all that is said there of tables inet smtpwall and inet smtpwall_lock: the guard puts them up itself")
		}
	}
}

// mentions returns file and line of the first mention of our tables in each
// file. What is not there or cannot be read is passed over: this is advice.
func mentions(place string) []string {
	var found []string
	_ = filepath.WalkDir(place, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if line := mentionedIn(path); line > 0 {
			found = append(found, fmt.Sprintf("%s:%d", path, line))
		}
		return nil
	})
	return found
}

var ourTable = regexp.MustCompile(`\btable\s+inet\s+"?smtpwall(_lock)?"?(\s|[{;]|$)`)

// mentionedIn returns the first line of a file that names a table of ours
// outside a comment, 0 for none.
func mentionedIn(path string) int {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return 0
	}
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		code, _, _ := strings.Cut(lines.Text(), "#")
		if ourTable.MatchString(code) {
			return number
		}
	}
	return 0
}
