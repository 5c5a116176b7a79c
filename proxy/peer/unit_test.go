package peer

import (
	"strings"
	"testing"
)

func TestParseCGroup(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	other := strings.Repeat("fedcba9876543210", 4)
	pod := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f1c_22.slice/"
	user := "/user.slice/user-1000.slice/user@1000.service"
	tests := []struct{ path, unit, container string }{
		{"", "", ""},
		{"/", "", ""},
		{"/init.scope", "init.scope", ""},
		{"/system.slice", "", ""},
		{"/system.slice/php8.2-fpm.service", "php8.2-fpm.service", ""},
		{"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", ""},
		{"/system.slice/cron.service/child", "cron.service", ""},
		{`/system.slice/mail\x2dqueue.service`, `mail\x2dqueue.service`, ""},
		{"/system.slice/_cpu.service", "cpu.service", ""},
		{"/system.slice/inetd.socket", "inetd.socket", ""},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope", ""},
		// What a user makes below his own manager is his to name.
		{user + "/app.slice/foo.service", "user@1000.service", ""},
		{user + "/system.slice/php8.2-fpm.service", "user@1000.service", ""},
		{user + "/docker-" + id + ".scope", "user@1000.service", ""},
		{user + "/user.slice/libpod-" + id + ".scope/container", "user@1000.service", ""},
		{"/system.slice/site.service/docker-" + id + ".scope", "site.service", ""},
		{"/system.slice/site.service/docker/" + id, "site.service", ""},
		// Not units.
		{"/.service", "", ""},
		{"/system.slice/x.target", "", ""},
		{"/plain/php8.2-fpm.service", "", ""},
		// Containers.
		{"/system.slice/docker-" + id + ".scope", "docker-" + id + ".scope", id},
		{"/docker/" + id, "", id},
		{"/docker/" + id + "/docker/" + other, "", id},
		{"/docker/buildx", "", ""},
		{"/machine.slice/libpod-" + id + ".scope/container", "libpod-" + id + ".scope", id},
		{"/machine.slice/libpod-conmon-" + id + ".scope", "libpod-conmon-" + id + ".scope", ""},
		{"/libpod_parent/libpod-" + id, "", id},
		{pod + "cri-containerd-" + id + ".scope", "cri-containerd-" + id + ".scope", id},
		{pod + "crio-" + id + ".scope", "crio-" + id + ".scope", id},
		{pod + "docker-" + id + ".scope/init", "docker-" + id + ".scope", id},
		{"/kubepods/burstable/pod3f1c-22/" + id, "", id},
		{"/kubepods-burstable-pod3f1c_22.slice:cri-containerd:" + id, "", id},
		{"/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:" + id, "containerd.service", id},
		{"/system.slice/k3s.service/kubepods/besteffort/pod1/" + id, "k3s.service", id},
		{"/system.slice/docker-" + id[:12] + ".scope", "docker-" + id[:12] + ".scope", ""},
		{"/system.slice/docker-" + strings.ToUpper(id) + ".scope", "docker-" + strings.ToUpper(id) + ".scope", ""},
		{"/lxc.payload.web1", "", "web1"},
		{"/lxc.payload.web1/system.slice/php8.2-fpm.service", "", "web1"},
		{"/lxc.monitor.web1", "", ""},
		{"/lxc/web1/init.scope", "", "web1"},
		{"/system.slice/lxc@web1.service/lxc.payload.web1", "lxc@web1.service", "web1"},
		{`/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt`, `machine-qemu\x2d1\x2dweb.scope`, "qemu-1-web"},
		{`/machine.slice/systemd-nspawn@web\x2done.service/payload`, `systemd-nspawn@web\x2done.service`, "web-one"},
		{`/machine.slice/machine-bad\x2.scope`, `machine-bad\x2.scope`, `bad\x2`},
	}
	for _, tt := range tests {
		unit, container := ParseCGroup(tt.path)
		if unit != tt.unit || container != tt.container {
			t.Errorf("ParseCGroup(%q) = %q, %q, want %q, %q", tt.path, unit, container, tt.unit, tt.container)
		}
	}
}

func FuzzParseCGroup(f *testing.F) {
	f.Add("/system.slice/cron.service")
	f.Add(`/machine.slice/machine-a\x2d.scope`)
	f.Add("/kubepods/x:y:z")
	f.Fuzz(func(t *testing.T, below string) {
		// Whatever a user does below his own unit names no other one.
		unit, container := ParseCGroup("/user.slice/user-7.slice/user@7.service/" + below)
		if unit != "user@7.service" || container != "" {
			t.Errorf("%q below user@7.service became %q, %q", below, unit, container)
		}
		ParseCGroup(below)
	})
}
