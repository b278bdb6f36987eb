package pci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

const (
	// maxVPD bounds a device's VPD: its address has 15 bits.
	maxVPD = 32 << 10
	// vpdDeadline is how long one device may take. A healthy one needs about
	// a millisecond for four bytes; a sick one never answers.
	vpdDeadline = 1500 * time.Millisecond
	maxVPDs     = 128
	maxItems    = 64
)

// vpdReads are the reads under way, by the device's address.
type vpdReads struct {
	ctx    context.Context // ends at the deadline
	cancel context.CancelFunc
	reads  map[hardware.BDF]chan vpdRead
}

type vpdRead struct {
	bytes []byte
	err   error
}

// readVPDs begins to read the VPD of each card, from the first of its
// functions that has one, side by side. A read that hangs in the kernel is
// left behind: its goroutine ends when the device answers.
func readVPDs(ctx context.Context, root sysfs.Root, addresses []string) *vpdReads {
	r := &vpdReads{reads: map[hardware.BDF]chan vpdRead{}}
	r.ctx, r.cancel = context.WithTimeout(ctx, vpdDeadline)
	cards := map[string]bool{}
	for _, a := range addresses {
		card, _, _ := strings.Cut(a, ".")
		if cards[card] || len(r.reads) == maxVPDs || !root.Exists(devices, a, "vpd") {
			continue
		}
		cards[card] = true
		c := make(chan vpdRead, 1)
		r.reads[hardware.BDF(a)] = c
		go func() {
			b, err := root.Bytes(maxVPD, devices, a, "vpd")
			c <- vpdRead{b, err}
		}()
	}
	return r
}

// into waits for the reads, decodes them into their devices, and returns what
// went wrong.
func (r *vpdReads) into(all []hardware.PCIDevice) []hardware.Finding {
	defer r.cancel()
	var out []hardware.Finding
	denied := 0
	for i := range all {
		c, ok := r.reads[all[i].BDF]
		if !ok {
			continue
		}
		got := r.wait(c)
		switch {
		case errors.Is(got.err, fs.ErrPermission):
			denied++
			continue
		case got.err == nil && !slices.ContainsFunc(got.bytes, func(b byte) bool { return b != 0 && b != 0xff }):
			continue // nobody wrote any
		case got.err == nil:
			all[i].VPD, got.err = DecodeVPD(got.bytes)
		}
		if got.err != nil {
			out = append(out, hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: "pci " + string(all[i].BDF),
				Evidence: "read VPD: " + cause(got.err).Error(), Hint: "serial and part number of the card are not known", Source: Source})
		}
	}
	if denied > 0 {
		out = append(out, hardware.Finding{Code: hardware.CodeNotPermitted, Severity: hardware.Info, Part: "pci",
			Evidence: fmt.Sprintf("VPD of %d devices: permission denied", denied), Hint: "serials and part numbers of cards are read by root only", Source: Source})
	}
	return out
}

func (r *vpdReads) wait(c chan vpdRead) vpdRead {
	select {
	case got := <-c:
		return got
	case <-r.ctx.Done():
	}
	select {
	case got := <-c:
		return got
	default:
		return vpdRead{err: fmt.Errorf("no answer within %v", vpdDeadline)}
	}
}

// cause is an error without the path below the root.
func cause(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// The tags of resources (PCI 3.0 appendix I, after PnP ISA 6.2): large ones
// have the top bit set and two bytes of length, small ones their length in
// the lowest three bits.
const (
	tagProduct = 0x82
	tagRead    = 0x90
	tagWrite   = 0x91
	tagEnd     = 0x0f // a small one
)

// DecodeVPD reads vital product data: the product's name, then keywords. What
// stands before a broken resource is returned beside the error.
func DecodeVPD(b []byte) (hardware.VPD, error) {
	var v hardware.VPD
	for len(b) > 0 {
		tag := b[0]
		if tag&0x80 == 0 {
			if tag>>3 == tagEnd {
				return v, nil
			}
			n := 1 + int(tag&7)
			if tag == 0 || n > len(b) {
				return v, fmt.Errorf("decode VPD: tag 0x%02x with %d bytes left", tag, len(b))
			}
			b = b[n:]
			continue
		}
		if len(b) < 3 {
			return v, fmt.Errorf("decode VPD: tag 0x%02x with %d bytes left", tag, len(b))
		}
		n := int(b[1]) | int(b[2])<<8
		if 3+n > len(b) {
			return v, fmt.Errorf("decode VPD: tag 0x%02x of %d bytes with %d left", tag, n, len(b))
		}
		switch payload := b[3 : 3+n]; tag {
		case tagProduct:
			v.Product = hardware.Clean(string(payload))
		case tagRead, tagWrite:
			keywords(payload, &v)
		}
		b = b[3+n:]
	}
	return v, errors.New("decode VPD: no end tag")
}

// keywords are two letters, a length, and so many bytes.
func keywords(b []byte, v *hardware.VPD) {
	for n := 0; len(b) >= 3 && n < maxItems; n++ {
		key, size := string(b[:2]), int(b[2])
		if 3+size > len(b) {
			return
		}
		value := string(b[3 : 3+size])
		b = b[3+size:]
		switch key {
		case "PN":
			v.Part = hardware.CleanSerial(value)
		case "SN":
			v.Serial = hardware.CleanSerial(value)
		case "EC":
			v.Revision = hardware.Clean(value)
		case "RV", "RW": // checksum, what is left to write
		default:
			if s := hardware.CleanSerial(value); s != "" && isText(value) {
				if v.Other == nil {
					v.Other = map[string]string{}
				}
				v.Other[hardware.Clean(key)] = s
			}
		}
	}
}

// isText reports whether a value is ASCII, padded with zeros or spaces.
func isText(s string) bool {
	for _, c := range []byte(strings.TrimRight(s, "\x00 ")) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
