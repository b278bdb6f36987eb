package ipmi

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingot-metal/ingot/hardware"
)

// The commands of FRU devices (34).
var (
	cmdFRUArea = command{netFn: netFnStorage, id: 0x10, name: "Get FRU Inventory Area Info"}
	cmdFRURead = command{netFn: netFnStorage, id: 0x11, name: "Read FRU Data"}
)

const (
	maxFRU = 4096 // of one FRU; an area's offset has one byte in units of eight
	// smallRead is what every BMC gives in one answer, over KCS too.
	smallRead = 16
	mostFRUs  = 64
)

// fru0 reads the FRU of the board that the BMC is on.
func fru0(ctx context.Context, s *session) error {
	return s.fru(ctx, locator{bmc: true, entity: entityUnknown})
}

// frus reads what the locator records name, and FRU 0, which needs none.
func (s *session) frus(ctx context.Context, with0 bool) error {
	seen := map[byte]bool{0: !with0}
	if with0 {
		l := locator{bmc: true, entity: entityUnknown}
		for _, r := range s.records {
			if r.locator != nil && r.locator.bmc && r.locator.fru == 0 {
				l = *r.locator
			}
		}
		if err := s.fruOr(ctx, l); err != nil {
			return err
		}
		seen[0] = true
	}
	for _, r := range s.records {
		if r.locator == nil || seen[r.locator.fru] || !r.locator.bmc || len(seen) >= mostFRUs {
			continue
		}
		seen[r.locator.fru] = true
		if err := s.fruOr(ctx, *r.locator); err != nil {
			return err
		}
	}
	return nil
}

// fruOr makes a finding of a FRU that is not read, and an error of a BMC that
// is silent.
func (s *session) fruOr(ctx context.Context, l locator) error {
	err := s.fru(ctx, l)
	switch {
	case err == nil:
	case over(ctx) != nil || s.silent > 0 || s.own.stuck:
		return fmt.Errorf("FRU %d: %w", l.fru, err)
	case errors.Is(err, codeNotPresent) && (l.fru != 0 || !s.device.fru): // a slot that is empty
	default:
		s.malformed(fmt.Sprintf("fru %d", l.fru), err)
	}
	return nil
}

func (s *session) fru(ctx context.Context, l locator) error {
	r := &fruReader{s: s, id: l.fru, lun: l.lun, big: s.big, size: maxFRU}
	if err := r.info(ctx); err != nil {
		return err
	}
	if r.size == 0 {
		return nil
	}
	if err := r.read(ctx, fruHeader); err != nil {
		return fmt.Errorf("common header: %w", err)
	}
	inv := &s.view.Inventory
	if l.spd() && r.data[0]&0xf != fruVersion || looksLikeSPD(r.data) {
		return s.spd(ctx, l, r)
	}
	problems := r.areas(ctx)
	c, more := decodeFRU(int(l.fru), r.data)
	problems = append(problems, more...)
	c.fru.Name, c.fru.Sources = l.name, hardware.Sources{Source}
	if c.known() {
		inv.FRUs = append(inv.FRUs, c.fru)
		if l.fru == 0 {
			fruParts(c.fru, inv)
		} else {
			c.partOf(l, inv)
		}
	}
	for _, p := range problems {
		s.malformed(fmt.Sprintf("fru %d", l.fru), p)
	}
	return nil
}

// known reports whether there is a fact in the FRU beside its number.
func (c *fruContent) known() bool {
	bare := c.fru
	bare.ID, bare.Name, bare.Sources, bare.Raw = 0, "", nil, nil
	return bare.Other != nil || bare.BoardDate != "" || bare.ChassisType != "" ||
		bare.ChassisPart+bare.ChassisSerial+bare.BoardManufacturer+bare.BoardProduct+bare.BoardSerial+bare.BoardPart+bare.ProductManufacturer+
			bare.ProductName+bare.ProductPart+bare.ProductVersion+bare.ProductSerial+bare.AssetTag != ""
}

// fruParts says of the system, the board and the chassis what the FRU knows;
// it fills what SMBIOS left blank.
func fruParts(f hardware.FRU, inv *hardware.Inventory) {
	if f.ProductName != "" || f.ProductSerial != "" {
		inv.System = hardware.System{Manufacturer: f.ProductManufacturer, Model: f.ProductName, Serial: f.ProductSerial,
			AssetTag: f.AssetTag, UUID: inv.System.UUID, Sources: f.Sources}
	}
	if f.BoardProduct != "" || f.BoardSerial != "" {
		inv.Baseboard = hardware.Baseboard{Manufacturer: f.BoardManufacturer, Model: f.BoardProduct, Serial: f.BoardSerial, Sources: f.Sources}
	}
	if f.ChassisSerial != "" {
		inv.Chassis = hardware.Chassis{Serial: f.ChassisSerial, Part: f.ChassisPart, Type: f.ChassisType, Sources: f.Sources}
	}
}

// fruReader reads one FRU device as far as its areas go, in reads as large as
// the BMC takes.
type fruReader struct {
	s     *session
	id    byte
	lun   byte
	size  int
	words bool // offsets and counts are in units of two bytes
	big   int
	data  []byte // all from 0 that was read
}

func (r *fruReader) ask(ctx context.Context, cmd command, data ...byte) ([]byte, error) {
	cmd.lun = r.lun
	return r.s.ask(ctx, cmd, data...)
}

// info asks how large the device is. A BMC that does not say is read anyway.
func (r *fruReader) info(ctx context.Context) error {
	b, err := r.ask(ctx, cmdFRUArea, r.id)
	var code CompletionCode
	if errors.As(err, &code) && code != codeNotPresent && code != codePrivilege {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) >= 3 {
		r.size, r.words = min(le16(b), maxFRU), b[2]&1 != 0
	}
	return nil
}

// read extends data up to end.
func (r *fruReader) read(ctx context.Context, end int) error {
	for len(r.data) < end {
		if end > r.size {
			return fmt.Errorf("ends at %d, beyond the device's %d bytes", end, r.size)
		}
		unit := 1
		if r.words {
			unit = 2
		}
		at, n := len(r.data)/unit, min(r.big, r.size-len(r.data))/unit
		b, err := r.ask(ctx, cmdFRURead, r.id, byte(at), byte(at>>8), byte(n))
		if b, err = want(b, err, 1); err != nil && r.shrink(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("at %d: %w", len(r.data), err)
		}
		got := b[1:min(len(b), 1+int(b[0])*unit)]
		if len(got) == 0 {
			return fmt.Errorf("nothing at %d", len(r.data))
		}
		r.data = append(r.data, got[:min(len(got), n*unit)]...)
	}
	return nil
}

// shrink says whether to try again with a smaller read: the BMC, or what it
// reads for us, gives less at a time. It is kept for the FRUs that follow.
func (r *fruReader) shrink(err error) bool {
	if !tooMuch(err) && !(r.s.lost(err) && r.big > 4*smallRead) || r.big <= smallRead {
		return false
	}
	r.big = max(r.big/2, smallRead)
	r.s.big = r.big
	return true
}

// tooMuch says whether a refusal may be for the length that was asked for.
func tooMuch(err error) bool {
	var code CompletionCode
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case codeTooManyBytes, codeTruncated, codeLength, codeTooLong, codeOutOfRange, codeUnspecified, 0xcc:
		return true
	}
	return false
}

// areas reads the areas that the common header names.
func (r *fruReader) areas(ctx context.Context) (problems []error) {
	header := r.data[:fruHeader:fruHeader]
	for _, a := range fruAreas {
		start := int(header[a.at]) * 8
		if start == 0 {
			continue
		}
		if err := r.area(ctx, a, start); err != nil {
			problems = append(problems, fmt.Errorf("%s area: %w", a.name, err))
		}
	}
	return problems
}

func (r *fruReader) area(ctx context.Context, a fruArea, start int) error {
	if a.decode != nil {
		if err := r.read(ctx, start+2); err != nil {
			return err
		}
		return r.read(ctx, start+int(r.data[start+1])*8)
	}
	for n := 0; n < mostRecords; n++ {
		if err := r.read(ctx, start+recordHeader); err != nil {
			return err
		}
		end := start + recordHeader + int(r.data[start+2])
		last := r.data[start+1]&lastRecord != 0 || checksum(r.data[start:start+recordHeader]) != 0
		if err := r.read(ctx, end); err != nil || last {
			return err
		}
		start = end
	}
	return nil // the decoder says that it does not end
}
