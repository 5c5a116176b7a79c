package peer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// NoUID is the UID of a Peer that is not Proven: the kernel's own "no user"
// value. A caller that forgets to look at Proven meets no real user with it.
const NoUID = math.MaxUint32

// Peer is what is known about the other end of a connection. The zero values
// of the strings and of the addresses mean unknown.
type Peer struct {
	// Proven says that UID and CGroup come from the kernel. Without it
	// nothing below but the addresses is set.
	Proven bool
	// UID is the owner of the peer's socket as seen from our user
	// namespace, NoUID unless Proven.
	UID uint32
	// Owned says that /etc/subuid gives UID to the user Owner for its user
	// namespaces; only if Proven.
	Owned bool
	Owner uint32
	// User and Groups are the names that /etc/passwd and /etc/group give
	// the UID, the primary group first.
	User   string
	Groups []string
	// CGroup is the path in the cgroup2 hierarchy, "/" for its root; the
	// socket keeps the cgroup it was made in.
	CGroup string
	// Unit and Container are ParseCGroup of CGroup.
	Unit      string
	Container string
	// Remote and Local are the two ends as our socket has them, IPv4-mapped
	// addresses as IPv4. They are zero for a Unix socket.
	Remote, Local netip.AddrPort
	// OriginalDst is where the client meant to go before the redirect; zero
	// if it was not redirected.
	OriginalDst netip.AddrPort
	// PID and Exe are observed, not proven: the process that held the
	// socket when somebody looked. PID is 0 when unknown.
	PID int
	Exe string
}

// ProcessFinder finds the process that holds a socket; Processes is one for
// root, a connection to the guard another.
type ProcessFinder interface {
	Find(inode uint64, cgroup string, uid uint32) (pid int, exe string, ok bool)
}

// Options are the settings of an Identifier. The zero value is usable.
type Options struct {
	// Logger gets what could not be found out, at level debug. Nil is none.
	Logger *zap.Logger
	// Processes, if set, is asked for the process of each proven peer, on
	// the caller's time.
	Processes ProcessFinder
	// Passwd and Group default to /etc/passwd and /etc/group.
	Passwd, Group string
	// Queries is how many inet_diag queries may be under way at once, each
	// on a socket of its own. Zero means 4.
	Queries int
}

// Identifier identifies peers. Make it with New, in the network namespace whose
// connections it shall identify.
type Identifier struct {
	log       *zap.Logger
	diag      *diagPool
	cgroups   *CGroups
	users     *Users
	processes ProcessFinder
	nobody    bool // the overflow uid stands for strangers, see uidsAreMapped
}

// New opens the kernel interfaces. A host without cgroup2 is fine (peers have
// no CGroup then), one without inet_diag is an error.
func New(opts Options) (*Identifier, error) {
	log := opts.Logger
	if log == nil {
		log = zap.NewNop()
	}
	queries := opts.Queries
	if queries <= 0 {
		queries = 4
	}
	diag, err := newDiagPool(queries)
	if err != nil {
		return nil, err
	}
	cgroups, err := OpenCGroups(log)
	if err != nil {
		log.Debug("cgroups cannot be named", zap.Error(err))
	}
	return &Identifier{
		log:       log,
		diag:      diag,
		cgroups:   cgroups,
		users:     NewUsers(opts.Passwd, opts.Group, log),
		processes: opts.Processes,
		nobody:    uidsAreMapped(),
	}, nil
}

// Close frees the kernel sockets, after the queries under way. The Identifier
// answers unknown from then on.
func (id *Identifier) Close() error {
	return errors.Join(id.diag.close(), id.cgroups.Close())
}

// TCP identifies the peer of an accepted connection. Call it at once, before
// the first byte is sent: a client that has gone cannot be identified any more.
// It never fails; what cannot be found out is unknown.
//
// The listener must not be a multipath TCP one (net.ListenConfig's
// SetMultipathTCP(false)): the kernel has neither the original destination nor
// the owner of those.
func (id *Identifier) TCP(conn *net.TCPConn) Peer {
	p := Peer{
		UID:    NoUID,
		Remote: unmapped(conn.RemoteAddr()),
		Local:  unmapped(conn.LocalAddr()),
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return id.unknown(p, err)
	}
	var found owner
	var ferr error
	if err := raw.Control(func(fd uintptr) { found, ferr = id.socketOwner(int(fd), &p) }); err != nil {
		ferr = err
	}
	if ferr != nil {
		return id.unknown(p, ferr)
	}
	return id.describe(p, found)
}

// socketOwner asks the kernel for everything that hangs on the open socket fd,
// and fills in the original destination on the way.
func (id *Identifier) socketOwner(fd int, p *Peer) (owner, error) {
	dst := p.Local
	original, err := originalDst(fd, p.Local.Addr().Is4())
	if err != nil {
		id.log.Debug("original destination unknown", zap.Stringer("remote", p.Remote), zap.Error(err))
	} else if original.IsValid() && original != p.Local {
		p.OriginalDst = original
		dst = original
	}
	// The client's socket knows nothing of the redirect: its destination is
	// the original one.
	found, err := id.diag.query(p.Remote, dst)
	if err != nil {
		return owner{}, err
	}
	// Only while our end is open is the tuple surely still the one that was
	// accepted: after a reset another process may connect from the same port.
	if err := stillOpen(fd); err != nil {
		return owner{}, err
	}
	return found, nil
}

// Socket identifies the owner of the local TCP socket that is bound to src and
// connected to dst, as that socket sees the two: whoever has the tuple now, which
// need not be who had it when the caller learned of it. It has neither Remote,
// Local nor OriginalDst.
func (id *Identifier) Socket(src, dst netip.AddrPort) Peer {
	p := Peer{UID: NoUID}
	found, err := id.diag.query(unmap(src), unmap(dst))
	if err != nil {
		return id.unknown(p, err)
	}
	return id.describe(p, found)
}

// Unix identifies the peer of an accepted Unix connection by SO_PEERCRED: the
// process that called connect. Its cgroup is the one that it is in now; before
// Linux 6.13 that is read from /proc, and unknown where /proc is hidden from us.
func (id *Identifier) Unix(conn *net.UnixConn) Peer {
	p := Peer{UID: NoUID}
	raw, err := conn.SyscallConn()
	if err != nil {
		return id.unknown(p, err)
	}
	var cred unixPeer
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unixCredentials(int(fd)) }); err != nil {
		cerr = err
	}
	if cerr != nil {
		return id.unknown(p, cerr)
	}
	if !id.real(cred.uid) {
		return id.unknown(p, errForeignUID)
	}
	p.Proven, p.UID = true, cred.uid
	p.User, p.Groups = id.users.Lookup(p.UID)
	p.Owner, p.Owned = id.users.Owner(p.UID)
	p.PID, p.Exe = int(cred.pid), cred.exe
	if cg, ok := id.cgroups.lookup(cred.cgroupID); ok {
		p.CGroup, p.Unit, p.Container = cg.path, cg.unit, cg.container
		return p
	}
	p.CGroup = cred.cgroup
	p.Unit, p.Container = ParseCGroup(p.CGroup)
	return p
}

// describe adds the names to what the kernel said.
func (id *Identifier) describe(p Peer, found owner) Peer {
	if !id.real(found.uid) {
		return id.unknown(p, errForeignUID)
	}
	p.Proven, p.UID = true, found.uid
	p.User, p.Groups = id.users.Lookup(p.UID)
	p.Owner, p.Owned = id.users.Owner(p.UID)
	if cg, ok := id.cgroups.lookup(found.cgroup); ok {
		p.CGroup, p.Unit, p.Container = cg.path, cg.unit, cg.container
	}
	if id.processes != nil && found.inode != 0 {
		if pid, exe, ok := id.processes.Find(uint64(found.inode), p.CGroup, p.UID); ok {
			p.PID, p.Exe = pid, exe
		}
	}
	return p
}

// unknown is the one place where an identification ends without an owner.
func (id *Identifier) unknown(p Peer, why error) Peer {
	id.log.Debug("peer unknown", zap.Stringer("remote", p.Remote), zap.Error(why))
	return p
}

// real tells a uid of this host from the one that the kernel shows for all
// users that our user namespace does not have.
func (id *Identifier) real(uid uint32) bool {
	return uid != NoUID && !(id.nobody && uid == overflowUID)
}

// SelfTest connects to itself on the loopback and identifies that connection:
// an error means that every local peer would be unknown on this host, for
// example because the kernel lacks tcp_diag.
func (id *Identifier) SelfTest(ctx context.Context) error {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	ln, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening on the loopback: %w", err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var dialer net.Dialer
	client, err := dialer.DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return fmt.Errorf("connecting on the loopback: %w", err)
	}
	defer client.Close()
	return id.expectSelf(unmapped(client.LocalAddr()), unmapped(client.RemoteAddr()))
}

// expectSelf identifies a socket of our own.
func (id *Identifier) expectSelf(src, dst netip.AddrPort) error {
	found, err := id.diag.query(src, dst)
	if err != nil {
		return fmt.Errorf("looking up the owner of a socket of our own: %w", err)
	}
	if self := uint32(unix.Geteuid()); found.uid != self {
		return fmt.Errorf("the kernel says that uid %d owns a socket of uid %d", found.uid, self)
	}
	return nil
}

// unmapped is addr with an IPv4-mapped address as IPv4.
func unmapped(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmap(tcp.AddrPort())
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
