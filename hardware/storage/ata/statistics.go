package ata

import "fmt"

// The logs that are read, by address (ACS-4 table A.2).
const (
	LogDirectory  = 0x00
	LogStatistics = 0x04
	LogSelfTests  = 0x06
)

// ParseDirectory reads the log directory: how many pages each log has
// (ACS-4 9.2).
func ParseDirectory(b []byte) (func(log byte) int, error) {
	if len(b) != PageBytes || le.Uint16(b) != 1 {
		return nil, fmt.Errorf("read ATA log directory: %d bytes that are none", len(b))
	}
	return func(log byte) int {
		if log == 0 {
			return 1
		}
		return int(le.Uint16(b[2*int(log):]))
	}, nil
}

// The pages of the device statistics log (ACS-4 9.5).
const (
	StatisticsList        = 0x00
	StatisticsGeneral     = 0x01
	StatisticsRotating    = 0x03
	StatisticsErrors      = 0x04
	StatisticsTemperature = 0x05
	StatisticsSolid       = 0x07
)

// StatisticsPages reads the list of supported pages.
func StatisticsPages(b []byte) ([]byte, error) {
	if len(b) != PageBytes {
		return nil, fmt.Errorf("read ATA statistics: %d bytes, want %d", len(b), PageBytes)
	}
	n := min(int(b[8]), PageBytes-9)
	return b[9 : 9+n], nil
}

// Statistics are the device statistics that one drive has; absent ones are
// nil.
type Statistics struct {
	PowerOnResets  *uint64
	PowerOnHours   *uint64
	BlocksWritten  *uint64
	BlocksRead     *uint64
	Reallocated    *uint64
	Uncorrectable  *uint64
	Celsius        *int
	MaximumCelsius *int // as specified
	UsedPercent    *int // of the endurance, up to 255
}

// Add reads one page into the statistics.
func (s *Statistics) Add(page byte, b []byte) error {
	if len(b) != PageBytes {
		return fmt.Errorf("read ATA statistics page %d: %d bytes, want %d", page, len(b), PageBytes)
	}
	if b[2] != page {
		return fmt.Errorf("read ATA statistics page %d: it is page %d", page, b[2])
	}
	switch page {
	case StatisticsGeneral:
		s.PowerOnResets, s.PowerOnHours = number(b, 8, 4), number(b, 16, 4)
		s.BlocksWritten, s.BlocksRead = number(b, 24, 6), number(b, 40, 6)
	case StatisticsRotating:
		s.Reallocated = number(b, 32, 4)
	case StatisticsErrors:
		s.Uncorrectable = number(b, 8, 4)
	case StatisticsTemperature:
		s.Celsius, s.MaximumCelsius = signed(b, 8), signed(b, 88)
	case StatisticsSolid:
		if n := number(b, 8, 1); n != nil {
			used := int(*n)
			s.UsedPercent = &used
		}
	}
	return nil
}

// number is the statistic of so many bytes at an offset, where its flags, in
// its eighth byte, say that it is supported and valid (ACS-4 9.5.2).
func number(b []byte, at, size int) *uint64 {
	if b[at+7]&0xc0 != 0xc0 {
		return nil
	}
	var n uint64
	for i := size - 1; i >= 0; i-- {
		n = n<<8 | uint64(b[at+i])
	}
	return &n
}

// signed is a temperature; -128 says that there is none (ACS-4 9.5.7).
func signed(b []byte, at int) *int {
	n := number(b, at, 1)
	if n == nil || *n == 0x80 {
		return nil
	}
	c := int(int8(*n))
	return &c
}
