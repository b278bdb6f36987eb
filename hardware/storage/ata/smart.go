package ata

import (
	"fmt"
)

// Power is a drive's power mode, the count that CHECK POWER MODE gives
// (ACS-4 7.3.4).
type Power byte

// Standby reports whether the drive's medium stands still, so that a command
// for it would spin it up.
func (p Power) Standby() bool { return p == 0x00 || p == 0x01 || p == 0x40 }

// Attribute is one row of the SMART data: its meaning is the vendor's.
type Attribute struct {
	ID         byte
	PreFailure bool // at its threshold the drive is about to fail; else it is worn
	Value      byte // normalized, falling to the threshold
	Worst      byte
	Raw        uint64
	Threshold  byte // 0 where there is none
}

// Failing reports whether the value has come down to the threshold.
func (a Attribute) Failing() bool {
	return a.Threshold > 0 && a.Threshold < 0xfe && a.Value <= a.Threshold && a.Value != 0
}

// Smart is the SMART data (ACS-3 7.48.6, and SFF-8035i for the attributes).
type Smart struct {
	Attributes []Attribute // in the drive's order
	SelfTests  bool        // the drive has them, and a log of them
	// SelfTestRunning says that one is running now.
	SelfTestRunning bool
}

const (
	attributes     = 30
	attributeBytes = 12
)

// ParseSmart reads SMART data and, where they are known, the thresholds.
func ParseSmart(data, thresholds []byte) (Smart, error) {
	if len(data) != PageBytes {
		return Smart{}, fmt.Errorf("read SMART data: %d bytes, want %d", len(data), PageBytes)
	}
	if sum(data) != 0 {
		return Smart{}, fmt.Errorf("read SMART data: checksum 0x%02x is wrong", data[511])
	}
	s := Smart{SelfTests: data[367]&(1<<4) != 0, SelfTestRunning: data[363]>>4 == 0xf}
	limit := map[byte]byte{}
	if len(thresholds) == PageBytes && sum(thresholds) == 0 {
		for i := range attributes {
			if t := thresholds[2+i*attributeBytes:]; t[0] != 0 {
				limit[t[0]] = t[1]
			}
		}
	}
	for i := range attributes {
		a := data[2+i*attributeBytes:]
		if a[0] == 0 {
			continue
		}
		s.Attributes = append(s.Attributes, Attribute{ID: a[0], PreFailure: le.Uint16(a[1:])&1 != 0, Value: a[3], Worst: a[4],
			Raw: uint64(le.Uint16(a[9:]))<<32 | uint64(le.Uint32(a[5:])), Threshold: limit[a[0]]})
	}
	return s, nil
}

// Attribute is the row of an ID.
func (s Smart) Attribute(id byte) (Attribute, bool) {
	for _, a := range s.Attributes {
		if a.ID == id {
			return a, true
		}
	}
	return Attribute{}, false
}

// IDs of attributes on whose meaning vendors agree, or nearly.
const (
	Reallocated    = 5
	PowerOnHours   = 9
	PowerCycles    = 12
	WearLeveling   = 177
	Uncorrectable  = 187
	AirflowCelsius = 190
	Celsius        = 194
	Pending        = 197
	OfflineErrors  = 198
	LifeRemaining  = 202
	LifeLeft       = 231
	WearIndicator  = 233
	BlocksWritten  = 241
	BlocksRead     = 242
)

// names are what those attributes are called in a finding.
var names = map[byte]string{
	1: "read error rate", 3: "spin-up time", Reallocated: "reallocated sectors", 7: "seek error rate", PowerOnHours: "power-on hours",
	10: "spin retries", PowerCycles: "power cycles", WearLeveling: "wear leveling", 184: "end-to-end errors", Uncorrectable: "uncorrectable errors",
	AirflowCelsius: "airflow temperature", Celsius: "temperature", 196: "reallocation events", Pending: "pending sectors",
	OfflineErrors: "offline uncorrectable sectors", 199: "CRC errors of the link", LifeRemaining: "life remaining", LifeLeft: "life left",
	WearIndicator: "media wear-out",
}

// String is the attribute for a person: "attribute 5 (reallocated sectors)
// 1 at threshold 10".
func (a Attribute) String() string {
	name := fmt.Sprintf("attribute %d", a.ID)
	if n := names[a.ID]; n != "" {
		name += " (" + n + ")"
	}
	return fmt.Sprintf("%s is %d, its threshold %d", name, a.Value, a.Threshold)
}

// Signature is the answer to SMART RETURN STATUS, LBA bits 23:8 (ACS-4
// 7.46.8).
type Signature [2]byte

// Failing says that the drive expects to fail, sound that it does not. Some
// bridges answer neither.
func (s Signature) Failing() bool { return s == Signature{0xf4, 0x2c} }

// Sound is the other answer.
func (s Signature) Sound() bool { return s == Signature{0x4f, 0xc2} }

// SelfTest is the newest result of a self-test log.
type SelfTest struct {
	Result string // passed, failed, aborted; empty where there was none
	Hours  uint64 // the low 16 bits of the power-on hours at its end
}

const (
	selfTests     = 21
	selfTestBytes = 24
)

// ParseSelfTests reads the SMART self-test log, log 06h (ACS-3 A.15).
func ParseSelfTests(b []byte) (SelfTest, error) {
	if len(b) != PageBytes {
		return SelfTest{}, fmt.Errorf("read SMART self-test log: %d bytes, want %d", len(b), PageBytes)
	}
	if sum(b) != 0 {
		return SelfTest{}, fmt.Errorf("read SMART self-test log: checksum 0x%02x is wrong", b[511])
	}
	newest := int(b[508])
	if newest == 0 || newest > selfTests {
		return SelfTest{}, nil
	}
	e := b[2+(newest-1)*selfTestBytes:]
	t := SelfTest{Result: selfTestResult(e[1] >> 4), Hours: uint64(le.Uint16(e[2:]))}
	if t.Result == "" {
		t.Hours = 0
	}
	return t, nil
}

func selfTestResult(status byte) string {
	switch {
	case status == 0:
		return "passed"
	case status == 1 || status == 2:
		return "aborted"
	case status <= 8:
		return "failed"
	}
	return "" // running, or reserved
}
