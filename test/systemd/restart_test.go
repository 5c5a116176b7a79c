package systemd_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// A restart loses no connection that waits to be accepted, and no message that
// got its 250, whether the relay is up or not.

// testRestart restarts the proxy as an administrator does, with both ways of
// delivery.
func testRestart(t *testing.T, m *machine, o *outside) {
	defer func() {
		m.write(t, configFile, 0o640, []byte(enforce))
		m.run(t, "systemctl", "restart", proxy)
	}()
	for _, mode := range []string{"proxy", "queue"} {
		m.write(t, configFile, 0o640, []byte(enforce+fmt.Sprintf("[delivery]\nmode = %q\n", mode)))
		m.run(t, "systemctl", "restart", proxy)
		o.relay.TakeMessages()
		t.Run(mode+"/Load", func(t *testing.T) { testRestartUnderLoad(t, m, o) })
		t.Run(mode+"/Backlog", func(t *testing.T) { testRestartBacklog(t, m, o) })
	}
}

// testRestartUnderLoad restarts three times while forty clients send: with the
// relay up, with the relay down, and with what the spool took meanwhile.
func testRestartUnderLoad(t *testing.T, m *machine, o *outside) {
	l := newLoad(t, m)
	ctx, stop := context.WithCancel(t.Context())
	wait := l.run(ctx, 40)
	defer wait()
	defer stop()
	restart := func() {
		l.progress(t, 100)
		pid := m.show(t, proxy, "MainPID")
		m.run(t, "systemctl", "restart", proxy)
		if m.show(t, proxy, "MainPID") == pid {
			t.Fatal("the proxy was not restarted")
		}
		l.progress(t, 100)
	}
	restart()
	if err := m.net.Remote.Do(o.relay.Down); err != nil {
		t.Fatal(err)
	}
	restart()
	if err := m.net.Remote.Do(o.relay.Up); err != nil {
		t.Fatal(err)
	}
	restart()
	stop()
	wait()
	l.arrived(t, o.relay)
}

// testRestartBacklog lets one client take its time over a message while the
// proxy is told to stop: the message is awaited, and who comes meanwhile is served
// by the next proxy as if nothing had been.
func testRestartBacklog(t *testing.T, m *machine, o *outside) {
	const waiting = 100
	l := newLoad(t, m)
	slow, idle := l.mustDial(t), l.mustDial(t)
	defer slow.Close()
	defer idle.Close()
	if err := slow.prepare(); err != nil {
		t.Fatal(err)
	}
	message := compose(l.name+".slow", 100_000)
	if _, err := slow.Write(message[:50_000]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := idle.text.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	m.run(t, "systemctl", "restart", "--no-block", proxy)
	// Who is idle is told 421 once nothing is accepted any more.
	if _, _, err := idle.text.ReadResponse(421); err != nil {
		t.Fatal(err)
	}

	var sessions sync.WaitGroup
	for i := range waiting {
		s := l.mustDial(t)
		sessions.Go(func() {
			defer s.Close()
			l.submit(s, fmt.Sprintf("%s.%d", l.name, i), i)
		})
	}
	reply, err := slow.finish(message[50_000:])
	if err != nil {
		t.Fatal(err)
	}
	l.note(l.name+".slow", message, reply)
	sessions.Wait()
	if l.cut != 0 || l.count() != waiting+1 {
		t.Errorf("of %d messages %d were taken, and %d sessions were told 421", waiting+1, l.count(), l.cut)
	}
	l.arrived(t, o.relay)
}

func (l *load) mustDial(t *testing.T) *session {
	t.Helper()
	s, err := l.dial()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
