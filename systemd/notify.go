package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyTimeout bounds a notification: a manager that reads nothing must not
// stop the mail.
const notifyTimeout = 5 * time.Second

// Managed reports whether a manager listens to our notifications.
func Managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// Notify sends assignments such as "READY=1" to the manager in one datagram
// (sd_notify(3)). Without a manager it does nothing and returns nil. An
// assignment that holds a newline is refused, as it would be read as two.
func Notify(state ...string) error {
	return send(nil, state...)
}

// Ready tells that start-up or a reload is complete, with a status line for
// people.
func Ready(status string) error { return Notify("READY=1", statusLine(status)) }

// Reloading tells that the configuration is being read again; Ready ends it,
// whether or not the new configuration was taken.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("reading the monotonic clock: %w", err)
	}
	// Type=notify-reload (253) pairs the message with its request by this time;
	// older managers ignore it.
	return Notify("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
}

// Stopping tells that an orderly shutdown has begun.
func Stopping() error { return Notify("STOPPING=1") }

// Status sets the line that "systemctl status" shows.
func Status(text string) error { return Notify(statusLine(text)) }

// KeepAlive answers the watchdog. Call it at the interval that Watchdog gives,
// and only while the process is healthy.
func KeepAlive() error { return Notify("WATCHDOG=1") }

// Watchdog returns how often KeepAlive is to be called: half the manager's
// limit, as sd_watchdog_enabled(3) advises. ok is false when no watchdog
// watches this process.
func Watchdog() (interval time.Duration, ok bool) {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0, false
	}
	// The variables are inherited; the watchdog is not.
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, false
	}
	return time.Duration(usec) * time.Microsecond / 2, true
}

func statusLine(text string) string {
	return "STATUS=" + strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// send writes one datagram, with file's descriptor attached unless it is nil.
func send(file *os.File, state ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" || len(state) == 0 {
		return nil
	}
	for _, s := range state {
		if strings.ContainsRune(s, '\n') {
			return fmt.Errorf("notifying the service manager: assignment %q holds a newline", s)
		}
	}
	if path[0] != '/' && path[0] != '@' {
		return fmt.Errorf("notifying the service manager: address %q is not a unix socket", path)
	}
	// net reads a leading @ as the abstract name space, as systemd does.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	if err := write(conn, []byte(strings.Join(state, "\n")), file); err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	return nil
}

// write borrows the descriptor through SyscallConn, because Fd would put it
// into blocking mode under its owner's feet.
func write(conn *net.UnixConn, data []byte, file *os.File) error {
	if file == nil {
		_, err := conn.Write(data)
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) { sendErr = sendRights(conn, data, int(fd)) })
	return errors.Join(err, sendErr)
}

// sendRights is WriteMsgUnix, which net refuses on a connected datagram socket.
func sendRights(conn *net.UnixConn, data []byte, fd int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(socket uintptr) (done bool) {
		sendErr = unix.Sendmsg(int(socket), data, unix.UnixRights(fd), nil, 0)
		return sendErr != unix.EAGAIN
	})
	return errors.Join(err, sendErr)
}
