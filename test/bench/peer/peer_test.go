package peer

import (
	"os/exec"
	"strings"
	"testing"
)

func TestStartNamesWhatIsMissing(t *testing.T) {
	if _, err := Start(t.Context(), "sendmail", Environment{}); err == nil || !strings.Contains(err.Error(), "direct, smtpwall, haproxy") {
		t.Errorf("unknown peer: %v", err)
	}
	_, err := Start(t.Context(), "smtpwall", Environment{Dir: t.TempDir(), Smtpwall: "/nowhere/smtpwall"})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("smtpwall was not built: %v", err)
	}
	t.Setenv("PATH", "/nowhere")
	if _, err := lookUp("no-such-program"); err == nil {
		t.Error("found a program that does not exist")
	}
}

func TestDaemonTellsWhyItFailed(t *testing.T) {
	env := Environment{Dir: t.TempDir()}
	process, err := daemon(env, exec.Command("sh", "-c", "echo began; echo broken >&2; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	ended := <-process.ended
	if err := stopError(ended, process.log); err == nil || !strings.Contains(err.Error(), "exit status 3: began; broken") {
		t.Errorf("error %v", err)
	}
}

func TestDaemonEndsBySIGTERM(t *testing.T) {
	process, err := daemon(Environment{Dir: t.TempDir()}, exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	if err := process.stop(); err != nil {
		t.Error(err)
	}
}
