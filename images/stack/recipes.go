package stack

// hypervisorRoot is the server's root: systemd and udev to run it,
// QEMU for virtual machines, and the few commands that a person at the console
// wants. No package manager, no interpreter but sh, no D-Bus, no
// network daemon: the resident agent takes the lease.
func hypervisorRoot() Recipe {
	return Recipe{
		Name:  "hypervisor",
		Suite: "trixie",
		Packages: []string{
			"systemd", "systemd-sysv", "udev", "kmod", "qemu-system-x86", "seabios", "iproute2",
			"base-files", "dash", "coreutils", "util-linux", "mount", "procps", "grep", "sed",
		},
		Keep: []string{
			"usr/bin/qemu-system-x86_64-microvm",
			"usr/share/seabios/bios-microvm.bin", "usr/share/qemu/qboot.rom", "usr/share/qemu/linuxboot_dma.bin", "usr/share/qemu/pvh.bin",

			"usr/lib/systemd/systemd", "usr/lib/systemd/systemd-executor", "usr/lib/systemd/systemd-journald",
			"usr/lib/systemd/systemd-udevd", "usr/lib/systemd/systemd-shutdown",
			"usr/lib/systemd/systemd-sysctl", "usr/lib/systemd/systemd-modules-load",
			"usr/lib/systemd/systemd-sulogin-shell", "usr/lib/systemd/systemd-reply-password",
			"usr/lib/systemd/system/**", "usr/lib/systemd/network/99-default.link", "usr/lib/systemd/system-preset/**",
			"usr/lib/systemd/journald.conf.d/**", "usr/lib/systemd/system.conf.d/**",
			"usr/bin/systemctl", "usr/bin/journalctl", "usr/bin/systemd-tmpfiles", "usr/bin/udevadm",
			"usr/sbin/init", "usr/lib/tmpfiles.d/**", "usr/lib/sysctl.d/**", "usr/lib/udev/**",
			"usr/lib/os-release", "etc/os-release", "etc/systemd/**", "etc/udev/**",

			"usr/bin/dash", "usr/bin/kmod", "usr/sbin/modprobe", "usr/bin/lsmod", "usr/bin/ip",
			"usr/bin/cat", "usr/bin/ls", "usr/bin/cp", "usr/bin/mv", "usr/bin/rm", "usr/bin/mkdir", "usr/bin/ln", "usr/bin/chmod",
			"usr/bin/df", "usr/bin/du", "usr/bin/head", "usr/bin/tail", "usr/bin/sleep", "usr/bin/uname", "usr/bin/date", "usr/bin/sync",
			"usr/bin/mount", "usr/bin/umount", "usr/bin/dmesg", "usr/bin/lsblk", "usr/sbin/losetup",
			"usr/bin/ps", "usr/bin/free", "usr/bin/kill", "usr/bin/grep", "usr/bin/sed",
			"usr/lib64/ld-linux-x86-64.so.2",
		},
		Drop: []string{
			"usr/lib/udev/hwdb.d/**",
			// Sound, cameras, desks and drives of other times.
			"usr/lib/udev/rules.d/60-autosuspend.rules", "usr/lib/udev/rules.d/60-cdrom_id.rules", "usr/lib/udev/rules.d/60-drm.rules",
			"usr/lib/udev/rules.d/60-fido-id.rules", "usr/lib/udev/rules.d/60-persistent-alsa.rules", "usr/lib/udev/rules.d/60-persistent-input.rules",
			"usr/lib/udev/rules.d/60-persistent-v4l.rules", "usr/lib/udev/rules.d/60-sensor.rules", "usr/lib/udev/rules.d/70-camera.rules",
			"usr/lib/udev/rules.d/70-joystick.rules", "usr/lib/udev/rules.d/70-mouse.rules", "usr/lib/udev/rules.d/70-touchpad.rules",
			"usr/lib/udev/rules.d/70-uaccess.rules", "usr/lib/udev/rules.d/71-seat.rules", "usr/lib/udev/rules.d/73-seat-late.rules",
			"usr/lib/udev/rules.d/78-sound-card.rules", "usr/lib/udev/rules.d/81-net-dhcp.rules", "usr/lib/udev/rules.d/60-sensor.rules",
			"usr/lib/udev/rules.d/90-iocost.rules", "usr/lib/udev/rules.d/70-memory.rules", "usr/lib/udev/rules.d/70-power-switch.rules",
			"usr/lib/udev/rules.d/60-input-id.rules", "usr/lib/udev/rules.d/60-evdev.rules", "usr/lib/udev/rules.d/75-probe_mtd.rules",
			"usr/lib/udev/fido_id", "usr/lib/udev/v4l_id", "usr/lib/udev/cdrom_id", "usr/lib/udev/iocost", "usr/lib/udev/mtd_probe", "usr/lib/udev/dmi_memory_id",
			"usr/lib/tmpfiles.d/dbus.conf", "usr/lib/tmpfiles.d/x11.conf", "usr/lib/tmpfiles.d/home.conf", "usr/lib/tmpfiles.d/debian.conf",
		},
		Loaded: []string{"libkmod.so.2", "libzstd.so.1"},
		Files:  hypervisorFiles,
		Links:  hypervisorLinks(),
		Modes:  map[string]int64{"etc/shadow": 0o600, "root/": 0o700, "tmp/": 0o1777, "var/tmp/": 0o1777},
	}
}

var hypervisorFiles = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
		"systemd-network:x:998:998:systemd Network Management:/:/usr/sbin/nologin\n",
	"etc/group": "root:x:0:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\nutmp:x:43:\n" +
		"audio:x:29:\nvideo:x:44:\nclock:x:103:\ninput:x:104:\nsgx:x:105:\nkvm:x:106:\nrender:x:107:\nusers:x:100:\nnogroup:x:65534:\n" +
		"systemd-journal:x:999:\nsystemd-network:x:998:\n",
	// Nobody logs in by password.
	"etc/shadow":                 "root:!*:19000::::::\nnobody:!*:19000::::::\nsystemd-network:!*:19000::::::\n",
	"etc/nsswitch.conf":          "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
	"etc/hostname":               "ingot\n",
	"etc/hosts":                  "127.0.0.1 localhost ingot\n::1 localhost ip6-localhost\n",
	"etc/resolv.conf":            "",
	"etc/fstab":                  "",
	"etc/ld.so.conf":             libraryDirs,
	"etc/machine-id":             "uninitialized\n",
	"etc/systemd/journald.conf":  "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nForwardToSyslog=no\n",
	"etc/systemd/system.conf":    "[Manager]\nLogLevel=notice\nShowStatus=no\nDefaultTimeoutStopSec=15s\nStatusUnitFormat=name\n",
	"etc/sysctl.d/50-ingot.conf": "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\nkernel.panic = 10\nkernel.panic_on_oops = 1\n",
	"dev/":                       "", "proc/": "", "sys/": "", "run/": "", "tmp/": "", "root/": "", "home/": "",
	"var/lib/systemd/": "", "var/log/journal/": "", "var/tmp/": "", "usr/lib/modules/": "",
}

const libraryDirs = "/usr/lib/x86_64-linux-gnu\n"

// masked are units that have no work in a root that is made anew with every
// boot, and cost seconds to find that out.
var masked = []string{
	"systemd-hwdb-update.service", "ldconfig.service", "systemd-journal-catalog-update.service", "systemd-update-done.service",
	"systemd-firstboot.service", "systemd-sysusers.service", "systemd-machine-id-commit.service", "systemd-random-seed.service",
	"systemd-binfmt.service", "systemd-pcrmachine.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service",
	"systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service", "systemd-hibernate-clear.service", "systemd-ask-password-console.path",
	"systemd-ask-password-wall.path", "systemd-journal-flush.service", "systemd-user-sessions.service", "systemd-logind.service",
	"systemd-network-generator.service", "systemd-networkd-persistent-storage.service", "systemd-networkd-wait-online.service",
	"systemd-networkd.service", "systemd-networkd.socket",
	"systemd-pstore.service", "systemd-rfkill.socket", "systemd-initctl.socket", "systemd-hostnamed.socket", "systemd-creds.socket",
	"systemd-pcrextend.socket", "systemd-pcrlock.socket", "systemd-sysext.socket", "systemd-udev-load-credentials.service",
	"dbus.service", "dbus.socket", "e2scrub_all.timer", "fstrim.timer", "systemd-tmpfiles-clean.timer", "kmod-static-nodes.service",
	"systemd-modules-load.service", "systemd-remount-fs.service", "systemd-tmpfiles-setup-dev-early.service", "systemd-tmpfiles-setup-dev.service",
	"getty.target", "getty-static.service", "serial-getty@.service", "getty@.service", "proc-sys-fs-binfmt_misc.automount",
	"dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
	"sys-fs-fuse-connections.mount", "procps.service", "qemu-vmsr-helper.socket", "systemd-bsod.service", "remote-fs.target",
	"tmp.mount", "run-lock.mount",
}

func hypervisorLinks() map[string]string {
	links := map[string]string{
		"usr/bin/sh":                        "dash",
		"etc/mtab":                          "../proc/self/mounts",
		"var/run":                           "/run",
		"var/lock":                          "/run/lock",
		"etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
	}
	for _, u := range masked {
		links["etc/systemd/system/"+u] = "/dev/null"
	}
	return links
}

// vmRoot is a virtual machine's root: containerd and runc, nothing else. Its
// first process is the agent, which stage 1 lays over it.
func vmRoot() Recipe {
	return Recipe{
		Name:     "vm",
		Suite:    "trixie",
		Packages: []string{"containerd", "runc", "base-files"},
		Keep: []string{
			"usr/bin/containerd", "usr/bin/ctr", "usr/bin/containerd-shim-runc-v2", "usr/sbin/runc",
			"usr/lib/os-release", "etc/os-release", "usr/lib64/ld-linux-x86-64.so.2",
		},
		Files: map[string]string{
			"etc/passwd":      "root:x:0:0:root:/root:/bin/false\n",
			"etc/group":       "root:x:0:\n",
			"etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n",
			"etc/resolv.conf": "",
			"etc/hostname":    "vm\n",
			"etc/containerd/config.toml": `version = 2
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.native",
]
`,
			"dev/": "", "proc/": "", "sys/": "", "run/": "", "tmp/": "", "root/": "", "var/lib/containerd/": "", "usr/lib/modules/": "",
		},
		Modes: map[string]int64{"root/": 0o700, "tmp/": 0o1777},
	}
}
