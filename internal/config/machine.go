package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Machine is what a host has, as far as names in the file may mean it. Where a
// field is nil nobody knows, and there are no warnings.
type Machine struct {
	Users  map[string]string // names and uids
	Groups []string
	// Units has the names of unit files, and for each the unit that it stands
	// for: another one where it is an alias.
	Units map[string]string
	// Program says what is wrong with running a program as ourselves: an error
	// with a hint where others can replace it, fs.ErrNotExist where there is none.
	Program func(path string) error
	Shared  func(directory string) bool // whether everybody can put files there
}

// ThisMachine looks at the host that this process runs on. It reads the files of
// users and groups themselves, as all of smtpwall does.
func ThisMachine() *Machine {
	m := &Machine{Shared: isShared}
	for _, fields := range database("/etc/passwd", 3) {
		if m.Users == nil {
			m.Users = make(map[string]string)
		}
		m.Users[fields[0]] = fields[2]
	}
	ours := keepers{0, uint32(os.Geteuid())}
	if uid, err := strconv.ParseUint(m.Users[proxyUser], 10, 32); err == nil {
		ours = append(ours, uint32(uid))
	}
	m.Program = ours.look
	for _, fields := range database("/etc/group", 1) {
		m.Groups = append(m.Groups, fields[0])
	}
	if info, err := os.Stat("/run/systemd/system"); err == nil && info.IsDir() { // sd_booted(3)
		m.Units = unitFiles(unitPath)
	}
	return m
}

// database returns the lines of passwd(5) or group(5) with at least so many
// fields, or none if it cannot be read.
func database(path string, least int) [][]string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var lines [][]string
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) >= least && fields[0] != "" && fields[0][0] != '#' {
			lines = append(lines, fields)
		}
	}
	return lines
}

// unitPath is where systemd looks for units, systemd.unit(5); what comes first
// counts.
var unitPath = []string{
	"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/run/systemd/generator.early",
	"/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator",
	"/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/generator.late",
}

// unitFiles returns the units of some directories, and nil without any.
func unitFiles(directories []string) map[string]string {
	var units map[string]string
	for _, directory := range directories {
		entries, err := os.ReadDir(directory)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			name := entry.Name()
			if _, before := units[name]; before || entry.IsDir() || !slices.Contains(unitKinds, filepath.Ext(name)) {
				continue
			}
			if units == nil {
				units = make(map[string]string)
			}
			units[name] = name
			if entry.Type() == fs.ModeSymlink {
				units[name] = primaryName(filepath.Join(directory, name), name)
			}
		}
	}
	return units
}

// primaryName returns the unit that a unit file stands for: an alias is a
// symbolic link to a file of the same kind and another name.
func primaryName(path, name string) string {
	target, err := os.Readlink(path)
	if other := filepath.Base(target); err == nil && filepath.Ext(other) == filepath.Ext(name) {
		return other
	}
	return name
}

// unit returns the unit that name stands for, by itself or as an instance of a
// template.
func (m *Machine) unit(name string) (primary string, known bool) {
	if primary, known = m.Units[name]; known {
		return primary, true
	}
	prefix, instance, found := strings.Cut(name, "@")
	kind := filepath.Ext(name)
	if !found {
		return "", false
	}
	template, known := m.Units[prefix+"@"+kind]
	return strings.Replace(template, "@", "@"+strings.TrimSuffix(instance, kind), 1), known
}

// services returns the services that name may have been meant to be. The ending,
// which all have, makes none of them like another.
func (m *Machine) services(name string) []string {
	stems := make([]string, 0, len(m.Units))
	for unit := range m.Units {
		if stem, ok := strings.CutSuffix(unit, ".service"); ok {
			stems = append(stems, stem)
		}
	}
	slices.Sort(stems)
	if near := suggest(strings.TrimSuffix(name, ".service"), stems); near != "" {
		return []string{near + ".service"}
	}
	return nil
}

// machine is the host to ask; where there is none, one that nobody knows.
func (o Options) machine() *Machine {
	if o.Machine == nil {
		return &Machine{}
	}
	return o.Machine
}
