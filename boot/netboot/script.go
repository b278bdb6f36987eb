package netboot

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Variable is an iPXE setting that a script may name. Nothing else is ever
// expanded.
type Variable string

const (
	// BootMAC is the MAC of the NIC that iPXE booted from.
	BootMAC Variable = "${netX/mac}"
	// BootAddress is the IPv4 address which that NIC got.
	BootAddress Variable = "${netX/ip}"
)

// Param is one word of the kernel's command line: Key, Key=Value or, with Var
// set, Key=variable. Key and Value are refused when they hold anything but
// letters, digits and - . _ , : / @ + % =, so no word can end the line, start a
// command or expand.
type Param struct {
	Key   string
	Value string
	Var   Variable
}

// maxCmdline keeps clear of COMMAND_LINE_SIZE, 2048 on x86.
const maxCmdline = 1900

// DefaultCmdline is used when Config.Cmdline is nil. The serial console comes
// last and so is /dev/console.
func DefaultCmdline() []Param {
	return []Param{
		{Key: "console", Value: "tty0"},
		{Key: "console", Value: "ttyS0,115200"},
		{Key: "rdinit", Value: "/init"},
		{Key: "loglevel", Value: "4"},
		{Key: "panic", Value: "60"},
		{Key: "ingot.bootif", Var: BootMAC},
	}
}

func plainWord(s, more string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._", c) >= 0, strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func (p Param) word() (string, error) {
	if !plainWord(p.Key, "") {
		return "", fmt.Errorf("kernel parameter %q: a name is letters, digits and - . _", p.Key)
	}
	switch {
	case p.Var != "" && p.Value != "":
		return "", fmt.Errorf("kernel parameter %s: both a value and a variable", p.Key)
	case p.Var == BootMAC || p.Var == BootAddress:
		return p.Key + "=" + string(p.Var), nil
	case p.Var != "":
		return "", fmt.Errorf("kernel parameter %s: unknown variable %q", p.Key, p.Var)
	case p.Value == "":
		return p.Key, nil
	case !plainWord(p.Value, ",:/@+%="):
		return "", fmt.Errorf("kernel parameter %s: value %q holds a character that a boot script may not", p.Key, p.Value)
	}
	return p.Key + "=" + p.Value, nil
}

// kernelName is what iPXE calls the kernel. On UEFI it becomes the first word of
// the command line; a word without a dot would be handed to init as an argument.
const kernelName = "ingot.kernel"

// Script is an iPXE boot script as values.
type Script struct {
	Server  netip.AddrPort // where the paths are fetched from
	Kernel  string         // path on the server
	Initrds []string       // paths on the server, in the order the kernel unpacks them
	Cmdline []Param
}

// Text renders the script, or says which value has no place in one.
//
// The script fetches, says what it does, and on any failure waits (2 s, and 3 s
// more each time up to 32 s; a key cuts the wait short) and begins again. It
// has no way out into a firmware's menu. "initrd=" words serve UEFI kernels
// without LoadFile2; kernels that know it, and BIOS, pass over them.
func (s Script) Text() ([]byte, error) {
	if err := s.checkServer(); err != nil {
		return nil, err
	}
	if len(s.Initrds) == 0 {
		return nil, fmt.Errorf("boot script: no initrd")
	}
	for _, p := range append([]string{s.Kernel}, s.Initrds...) {
		if !strings.HasPrefix(p, "/") || !plainWord(baseName(p), "") || !plainWord(p, "/") {
			return nil, fmt.Errorf("boot script: path %q: want /name of letters, digits and - . _ /", p)
		}
	}
	cmdline, err := s.cmdline()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	line := func(words ...string) { b.WriteString(strings.Join(words, " ") + "\n") }
	base := "http://" + s.Server.String()
	line("#!ipxe")
	line("set pause:int32 2")
	line(":retry")
	line("echo ingot: ${netX/mac} ${netX/ip}: loading from", base)
	line("imgfree")
	line("kernel --name", kernelName, base+s.Kernel, cmdline, "|| goto failed")
	for _, p := range s.Initrds {
		line("initrd --name", baseName(p), base+p, "|| goto failed")
	}
	line("echo ingot: starting the agent")
	line("boot || goto failed")
	line(":failed")
	line("echo ingot: boot from", base, "stopped: ${errno}")
	line("echo ingot: trying again in ${pause} s")
	line("prompt --timeout ${pause}000 ingot: or now, at any key ||")
	line("iseq ${pause} 32 || inc pause 3")
	line("goto retry")
	return []byte(b.String()), nil
}

// AutoexecText renders the script that snponly.efi asks its server for by the
// name autoexec.ipxe before it does anything else. Having one saves the two
// seconds in which iPXE offers its command line, and a machine without a lease
// waits here and not in the firmware's menu.
func (s Script) AutoexecText() ([]byte, error) {
	if err := s.checkServer(); err != nil {
		return nil, err
	}
	return []byte(strings.Join([]string{
		"#!ipxe",
		"set pause:int32 2",
		":retry",
		"dhcp || goto failed",
		"chain --replace http://" + s.Server.String() + PathScript + " || goto failed",
		":failed",
		"echo ingot: no boot script: ${errno}",
		"echo ingot: trying again in ${pause} s",
		"prompt --timeout ${pause}000 ingot: or now, at any key ||",
		"iseq ${pause} 32 || inc pause 3",
		"goto retry",
	}, "\n") + "\n"), nil
}

func (s Script) checkServer() error {
	if !s.Server.IsValid() || !s.Server.Addr().Is4() || s.Server.Port() == 0 {
		return fmt.Errorf("boot script: server %q is not an IPv4 address with a port", s.Server)
	}
	return nil
}

func (s Script) cmdline() (string, error) {
	var words []string
	for _, p := range s.Initrds {
		words = append(words, "initrd="+baseName(p))
	}
	for _, p := range s.Cmdline {
		w, err := p.word()
		if err != nil {
			return "", fmt.Errorf("boot script: %w", err)
		}
		words = append(words, w)
	}
	line := strings.Join(words, " ")
	if len(line) > maxCmdline {
		return "", fmt.Errorf("boot script: kernel command line of %s bytes, at most %d", strconv.Itoa(len(line)), maxCmdline)
	}
	return line, nil
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
