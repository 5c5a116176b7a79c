package trust

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAdvice: what is told to be copied works as it stands, and names files that are there.
func TestAdvice(t *testing.T) {
	asAdministrator(t, func(t *testing.T) {
		forgetJava(t)
		ca := newCA(t, caOptions{})
		report, err := Install(t.Context(), Options{Certificate: ca.path})
		if err != nil {
			t.Fatal(err)
		}
		keystore := filepath.Join(t.TempDir(), "keystore")
		writeFile(t, keystore, makeKeystore(t, "JKS", keystorePassword), 0o644)
		database := makeDatabase(t, 0, filepath.Join(t.TempDir(), "database"))
		ran := 0
		for _, advice := range report.Advice {
			for _, line := range advice.Lines {
				checkPaths(t, line)
				command := strings.NewReplacer("KEYSTORE", keystore+" -storepass "+keystorePassword, "DIRECTORY", database).Replace(line)
				if strings.HasPrefix(line, "keytool ") || strings.HasPrefix(line, "certutil ") {
					mustRun(t, "sh", "-c", command)
					ran++
				}
			}
		}
		if ran != 2 || !strings.Contains(trustedByJava(t, keystore), ca.name) || !trusts(t, database, ca) {
			t.Error("the advice does not do what it says")
		}
	})
}

// checkPaths looks for the files that a line names on this system.
func checkPaths(t *testing.T, line string) {
	t.Helper()
	for _, path := range regexp.MustCompile(`(?:^|[ =])(/[a-zA-Z0-9/._-]+)`).FindAllStringSubmatch(line, -1) {
		if _, err := os.Stat(path[1]); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
