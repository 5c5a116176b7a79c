package peer

import "strings"

// ParseCGroup names the systemd unit and the container that a cgroup2 path
// stands for; either may be empty.
//
// The first component that is not a slice decides, as in systemd itself: slices
// and what is directly in them are made by root's systemd, while below a unit
// its user may have been given the right to make cgroups of any name. So
// /user.slice/user-1000.slice/user@1000.service/app.slice/foo.service is of
// user@1000.service, whatever it says of foo. Names are as systemctl prints
// them, escapes like \x2d included. A container is its full id or name as in
// the path; its scope, if it has one, is also its unit. Inside a container the
// outermost counts.
func ParseCGroup(path string) (unit, container string) {
	rest := strings.Trim(path, "/")
	first := ""
	for {
		first, rest, _ = strings.Cut(rest, "/")
		first = unescapeName(first)
		if !strings.HasSuffix(first, ".slice") {
			break
		}
	}
	if isUnit(first) {
		unit = first
	}
	container = containerOf(first, rest)
	if container == "" && isRuntime(unit) {
		first, rest, _ = strings.Cut(rest, "/")
		container = containerOf(first, rest)
	}
	return unit, container
}

// unescapeName takes off the underscore that systemd puts before a unit whose
// name would clash with a file of the cgroup file system.
func unescapeName(name string) string { return strings.TrimPrefix(name, "_") }

// isUnit reports whether name is of a kind of unit that has processes.
func isUnit(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		return false
	}
	switch name[dot:] {
	case ".service", ".scope", ".socket", ".mount", ".swap":
		return true
	}
	return false
}

// isRuntime reports whether unit is a service whose own cgroup holds its
// containers, as they do where it does not use systemd's scopes.
func isRuntime(unit string) bool {
	switch unit {
	case "docker.service", "containerd.service", "crio.service", "podman.service", "kubelet.service",
		"k3s.service", "k3s-agent.service", "lxc.service", "incus.service", "snap.lxd.daemon.service":
		return true
	}
	return strings.HasPrefix(unit, "lxc@")
}

// containerOf is the container that the component name, followed by rest,
// stands for.
func containerOf(name, rest string) string {
	if id, ok := scopeContainer(name); ok {
		return id
	}
	if machine, ok := machineName(name); ok {
		return machine
	}
	if payload, ok := strings.CutPrefix(name, "lxc.payload."); ok {
		return payload
	}
	if parts := strings.Split(name, ":"); len(parts) == 3 && isID(parts[2]) {
		return parts[2] // slice:runtime:id, containerd's way without systemd
	}
	return plainContainer(name, rest)
}

// scopeContainer reads docker-ID.scope and its like. A conmon scope holds the
// container's monitor, which is not in the container.
func scopeContainer(name string) (string, bool) {
	name, ok := strings.CutSuffix(name, ".scope")
	if !ok {
		return "", false
	}
	for _, prefix := range []string{"docker-", "libpod-", "crio-", "cri-containerd-", "containerd-", "nerdctl-"} {
		if id, ok := strings.CutPrefix(name, prefix); ok && isID(id) {
			return id, true
		}
	}
	return "", false
}

// machineName reads the two shapes of a systemd machine.
func machineName(name string) (string, bool) {
	if machine, ok := strings.CutPrefix(name, "machine-"); ok {
		if machine, ok = strings.CutSuffix(machine, ".scope"); ok {
			return unescapeUnit(machine), true
		}
	}
	if machine, ok := strings.CutPrefix(name, "systemd-nspawn@"); ok {
		if machine, ok = strings.CutSuffix(machine, ".service"); ok {
			return unescapeUnit(machine), true
		}
	}
	return "", false
}

// plainContainer reads the trees of the managers that make cgroups themselves:
// docker/ID, libpod_parent/libpod-ID, lxc/NAME, kubepods/burstable/podUID/ID.
func plainContainer(name, rest string) string {
	next, _, _ := strings.Cut(rest, "/")
	switch name {
	case "lxc":
		return next
	case "docker", "libpod_parent", "ecs", "kubepods":
		for component := range strings.SplitSeq(rest, "/") {
			if id := strings.TrimPrefix(component, "libpod-"); isID(id) {
				return id
			}
		}
	}
	return ""
}

// isID reports whether s is a container's id: 64 hexadecimal digits.
func isID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// unescapeUnit undoes systemd's \xNN in the instance part of a name.
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+3 < len(s) && s[i] == '\\' && s[i+1] == 'x' {
			hi, lo := unhex(s[i+2]), unhex(s[i+3])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int { return strings.IndexByte("0123456789abcdef", c) }
