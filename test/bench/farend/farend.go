package farend

import (
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/test/bench/load"
)

// Argument is the first argument of the driver's own program when it is to be
// the relay; the second holds the Options.
const Argument = "relay"

// Options of the relay process.
type Options struct {
	Delay              time.Duration
	Username, Password string
}

// Hello is what the relay process says first.
type Hello struct {
	STARTTLS string // host:port; serves clients in clear too
	Implicit string // host:port
	CA       []byte // PEM
}

// Harvest is what was recorded since the last one.
type Harvest struct {
	Received []load.Received
	Last     time.Time // when the last of them was complete
	Counters testkit.RelayCounters
	Problem  string // why it could not do as asked
}

// request asks the relay process for a Harvest. With Keep it only counts.
type request struct {
	Keep     bool
	Down, Up bool // before that
}

// Serve is the relay process: it answers requests from in on out until in ends.
func Serve(argument string, in io.Reader, out io.Writer) error {
	var opts Options
	if err := json.Unmarshal([]byte(argument), &opts); err != nil {
		return fmt.Errorf("reading the relay's options: %w", err)
	}
	relay, err := testkit.StartRelay(testkit.RelayOptions{
		Name: "relay.test", Username: opts.Username, Password: opts.Password, Delay: opts.Delay,
		// What every peer can use, so that logging in costs each the same.
		Mechanisms: []string{"PLAIN", "LOGIN"},
		Digest:     load.NewDigest, DigestFrom: load.FirstField,
	})
	if err != nil {
		return err
	}
	defer relay.Close()
	encoder, decoder := gob.NewEncoder(out), gob.NewDecoder(in)
	hello := Hello{STARTTLS: relay.Addr(), Implicit: relay.ImplicitAddr(), CA: relay.CA()}
	if err := encoder.Encode(hello); err != nil {
		return fmt.Errorf("saying hello: %w", err)
	}
	for {
		var ask request
		if err := decoder.Decode(&ask); err != nil {
			return nil // the driver has gone
		}
		harvest := Harvest{Problem: problem(move(relay, ask)), Counters: relay.Counters()}
		if !ask.Keep {
			harvest.take(relay.TakeMessages())
		}
		if err := encoder.Encode(harvest); err != nil {
			return fmt.Errorf("answering the driver: %w", err)
		}
	}
}

// move ends or begins the relay's service.
func move(relay *testkit.Relay, ask request) error {
	switch {
	case ask.Down:
		return relay.Down()
	case ask.Up:
		return relay.Up()
	}
	return nil
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (h *Harvest) take(messages []testkit.RelayMessage) {
	h.Received = make([]load.Received, len(messages))
	for i, m := range messages {
		h.Received[i] = load.Received{ReversePath: m.ReversePath, Digest: m.Digest}
		if m.At.After(h.Last) {
			h.Last = m.At
		}
	}
}

// FarEnd is a relay process, seen from the driver.
type FarEnd struct {
	Hello
	command *exec.Cmd
	in      io.Closer
	encoder *gob.Encoder
	decoder *gob.Decoder
}

// Start runs this very program as the relay process.
func Start(opts Options) (*FarEnd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argument, err := json.Marshal(opts)
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, Argument, string(argument))
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting the relay process: %w", err)
	}
	f := &FarEnd{command: command, in: in, encoder: gob.NewEncoder(in), decoder: gob.NewDecoder(out)}
	if err := f.decoder.Decode(&f.Hello); err != nil {
		f.Stop()
		return nil, fmt.Errorf("waiting for the relay process: %w", err)
	}
	return f, nil
}

// PID is the id of the relay process.
func (f *FarEnd) PID() int { return f.command.Process.Pid }

// Take returns what the relay recorded and lets it forget that.
func (f *FarEnd) Take() (Harvest, error) { return f.ask(request{}) }

// Counters returns the relay's counters.
func (f *FarEnd) Counters() (testkit.RelayCounters, error) {
	harvest, err := f.ask(request{Keep: true})
	return harvest.Counters, err
}

// Down ends the relay's connections and refuses new ones until Up.
func (f *FarEnd) Down() error {
	_, err := f.ask(request{Keep: true, Down: true})
	return err
}

// Up lets the relay serve again, at the same addresses.
func (f *FarEnd) Up() error {
	_, err := f.ask(request{Keep: true, Up: true})
	return err
}

func (f *FarEnd) ask(ask request) (Harvest, error) {
	var harvest Harvest
	if err := f.encoder.Encode(ask); err != nil {
		return harvest, fmt.Errorf("asking the relay process: %w", err)
	}
	if err := f.decoder.Decode(&harvest); err != nil {
		return harvest, fmt.Errorf("hearing from the relay process: %w", err)
	}
	if harvest.Problem != "" {
		return harvest, fmt.Errorf("relay process: %s", harvest.Problem)
	}
	return harvest, nil
}

// Stop ends the relay process: its standard input ends, so it does.
func (f *FarEnd) Stop() error {
	f.in.Close()
	if err := f.command.Wait(); err != nil {
		return fmt.Errorf("relay process: %w", err)
	}
	return nil
}
