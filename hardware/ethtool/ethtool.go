// Package ethtool asks the drivers of network ports by the ioctls of
// linux/ethtool.h, which every kernel has. What they answer are bytes, so that
// a recorded machine can give them again; the decoders beside them are bounded.
// Only the memory of transceivers is for root.
package ethtool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxAnswer bounds every answer.
const MaxAnswer = 4096

// request is struct ifreq of linux/if.h with a pointer in its union.
type request struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24]byte
}

// do sends one structure of linux/ethtool.h, which begins with its command;
// the driver fills the rest.
func do(port string, command uint32, b []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	binary.NativeEndian.PutUint32(b, command)
	r := request{data: unsafe.Pointer(&b[0])}
	if len(port) >= len(r.name) {
		return fmt.Errorf("ask %q: the name is too long", port)
	}
	copy(r.name[:], port)
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
		runtime.KeepAlive(b)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// None reports whether an error says that the driver, or what is plugged into
// the port, does not have what was asked for. An empty cage is EIO to some.
func None(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EINVAL, unix.ENODEV, unix.ENXIO, unix.EIO, unix.ENOTTY} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// driverInfoBytes is the size of struct ethtool_drvinfo.
const driverInfoBytes = 196

// DriverInfo is struct ethtool_drvinfo of a port.
func DriverInfo(port string) ([]byte, error) {
	b := make([]byte, driverInfoBytes)
	return b, do(port, unix.ETHTOOL_GDRVINFO, b)
}

// Firmware is the firmware version in an answer of [DriverInfo].
func Firmware(b []byte) string {
	if len(b) != driverInfoBytes {
		return ""
	}
	return zeroEnded(b[68:100])
}

func zeroEnded(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// PermanentAddress is the address burnt into a port.
func PermanentAddress(port string) ([]byte, error) {
	b := make([]byte, 8+32) // cmd, size, address
	binary.NativeEndian.PutUint32(b[4:], 32)
	if err := do(port, unix.ETHTOOL_GPERMADDR, b); err != nil {
		return nil, err
	}
	return b[8 : 8+min(binary.NativeEndian.Uint32(b[4:]), 32)], nil
}

// linkHeader is struct ethtool_link_settings before its masks.
const (
	linkHeader  = 48
	maskWordsAt = 15
	maxWords    = 32
)

// LinkSettings is struct ethtool_link_settings with its three masks:
// supported, advertised, and what the partner advertises.
func LinkSettings(port string) ([]byte, error) {
	b := make([]byte, linkHeader)
	if err := do(port, unix.ETHTOOL_GLINKSETTINGS, b); err != nil {
		return nil, err
	}
	words := -int(int8(b[maskWordsAt])) // the kernel says how many it wants
	if words < 1 || words > maxWords {
		return nil, fmt.Errorf("read link settings: masks of %d words", words)
	}
	b = make([]byte, linkHeader+3*4*words)
	b[maskWordsAt] = byte(words)
	return b, do(port, unix.ETHTOOL_GLINKSETTINGS, b)
}

// Modes are the link modes that a port supports, by an answer of
// [LinkSettings], and the speed of its fastest.
func Modes(b []byte) (names []string, most int) {
	if len(b) < linkHeader {
		return nil, 0
	}
	words := int(int8(b[maskWordsAt]))
	if words < 1 || words > maxWords || len(b) < linkHeader+4*words {
		return nil, 0
	}
	for bit, name := range modes {
		word := linkHeader + 4*(bit/32)
		if bit/32 >= words || name == "" || binary.NativeEndian.Uint32(b[word:])>>(bit%32)&1 == 0 {
			continue
		}
		names, most = append(names, name), max(most, speedOf(name))
	}
	return names, most
}

// ModuleEEPROM is the memory of the transceiver in a port, as far as the
// driver shows it as one.
func ModuleEEPROM(port string) ([]byte, error) {
	info := make([]byte, 12+32) // cmd, type, length, reserved
	if err := do(port, unix.ETHTOOL_GMODULEINFO, info); err != nil {
		return nil, err
	}
	n := min(binary.NativeEndian.Uint32(info[8:]), 256) // the identity stands in the first page
	b := make([]byte, 16+256)                           // cmd, magic, offset, length, data
	binary.NativeEndian.PutUint32(b[12:], n)
	if err := do(port, unix.ETHTOOL_GMODULEEEPROM, b); err != nil {
		return nil, err
	}
	return b[16 : 16+n], nil
}

// privateFlags is ETH_SS_PRIV_FLAGS, a set of strings.
const (
	privateFlags = 2
	stringBytes  = 32
	maxFlags     = 32
)

// PrivateFlags are what a driver alone has, by name.
func PrivateFlags(port string) (map[string]bool, error) {
	names, err := flagNames(port)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	v := make([]byte, 8)
	if err := do(port, unix.ETHTOOL_GPFLAGS, v); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for i, name := range names {
		out[name] = binary.NativeEndian.Uint32(v[4:])>>i&1 == 1
	}
	return out, nil
}

// SetPrivateFlag turns one flag on or off.
func SetPrivateFlag(port, flag string, on bool) error {
	names, err := flagNames(port)
	if err != nil {
		return err
	}
	v := make([]byte, 8)
	if err := do(port, unix.ETHTOOL_GPFLAGS, v); err != nil {
		return err
	}
	bits := binary.NativeEndian.Uint32(v[4:])
	for i, name := range names {
		if name == flag && on {
			bits |= 1 << i
		} else if name == flag {
			bits &^= 1 << i
		}
	}
	binary.NativeEndian.PutUint32(v[4:], bits)
	return do(port, unix.ETHTOOL_SPFLAGS, v)
}

func flagNames(port string) ([]string, error) {
	set := make([]byte, 16+4) // cmd, reserved, mask, the length of the one set
	binary.NativeEndian.PutUint64(set[8:], 1<<privateFlags)
	if err := do(port, unix.ETHTOOL_GSSET_INFO, set); err != nil {
		return nil, err
	}
	n := binary.NativeEndian.Uint32(set[16:])
	if binary.NativeEndian.Uint64(set[8:]) == 0 || n == 0 {
		return nil, nil
	}
	if n > maxFlags {
		return nil, fmt.Errorf("read private flags: %d of them, at most %d", n, maxFlags)
	}
	b := make([]byte, 12+stringBytes*maxFlags) // cmd, set, length, strings
	binary.NativeEndian.PutUint32(b[4:], privateFlags)
	binary.NativeEndian.PutUint32(b[8:], n)
	if err := do(port, unix.ETHTOOL_GSTRINGS, b); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		names[i] = zeroEnded(b[12+i*stringBytes:][:stringBytes])
	}
	return names, nil
}
