package storage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/storage/ata"
	"github.com/ingot-metal/ingot/hardware/storage/passthru"
	"github.com/ingot-metal/ingot/hardware/storage/scsi"
)

// asleep is what a reading says of a drive that was not asked.
const asleep = "asleep: not asked for its health, so that it does not wake"

// askSCSI asks an sd drive. One on USB is left alone: many bridges hang on
// commands that they do not know. One that the kernel has suspended would be
// woken by opening it.
func askSCSI(q *questions, r *result) {
	d := &r.drive
	q.node = d.Name
	switch {
	case d.Transport == hardware.TransportUSB:
		return
	case q.root.Text(block, d.Name, "device/power/runtime_status") == "suspended":
		r.health.Warnings = append(r.health.Warnings, asleep)
		return
	case d.Transport == hardware.TransportSATA:
		q.kind = "ata"
		askATA(q, r)
	default:
		q.kind = "scsi"
		askLogs(q, r)
	}
	r.refused = q.refused
}

// askATA asks for the power mode first, which wakes nothing.
func askATA(q *questions, r *result) {
	mode, err := q.registers("power", ata.Command{Command: passthru.ATACheckPower}, func(g ata.Registers) []byte { return []byte{g.Count} })
	if err != nil || len(mode) != 1 {
		return // no SMART behind whatever this is
	}
	if ata.Power(mode[0]).Standby() {
		r.health.Warnings = append(r.health.Warnings, asleep)
		return
	}
	if r.ata == nil {
		if b, err := q.sector("identify", ata.Command{Command: passthru.ATAIdentify}); err == nil {
			r.identity(b)
		}
	}
	if r.ata == nil {
		return
	}
	if r.ata.SMART {
		askSMART(q, r)
	}
	if r.ata.Logs {
		askStatistics(q, r)
	}
	r.ataHealth()
}

// identity adds what IDENTIFY DEVICE says. The model there has 40 characters
// where SCSI's own inquiry has 16.
func (r *result) identity(b []byte) {
	id, err := ata.ParseIdentity(b)
	if err != nil {
		r.malformed(err)
		return
	}
	r.ata = &id
	d := &r.drive
	d.Model, d.Serial, d.Firmware = id.Model, cmp.Or(id.Serial, d.Serial), cmp.Or(id.Firmware, d.Firmware)
	d.FormFactor, d.MaxLinkMbps = cmp.Or(id.FormFactor, d.FormFactor), id.MaxLinkMbps
	d.LogicalBlockBytes, d.PhysicalBlockBytes = id.LogicalBytes, id.PhysicalBytes
	if d.WWN == "" {
		d.WWN = id.WWN
	}
	if id.RPM > 0 {
		d.RPM, d.Rotational = id.RPM, true
	}
	if id.Solid {
		d.Rotational = false
	}
	if id.Encrypts {
		d.SelfEncrypts = hardware.Enabled
	}
}

func askSMART(q *questions, r *result) {
	smart := func(feature, log byte) ata.Command {
		return ata.Command{Command: passthru.ATASmart, Feature: feature, LBALow: log, LBAMid: 0x4f, LBAHigh: 0xc2}
	}
	if b, err := q.registers("smart-status", smart(passthru.SmartStatus, 0), func(g ata.Registers) []byte { return []byte{g.LBAMid, g.LBAHigh} }); err == nil && len(b) == 2 {
		r.signature = ata.Signature(b)
	}
	data, err := q.sector("smart-data", smart(passthru.SmartReadData, 0))
	if err != nil {
		return
	}
	thresholds, err := q.sector("smart-thresholds", smart(passthru.SmartThresholds, 0))
	if err != nil {
		thresholds = nil // the attributes are worth something without
	}
	if r.smart, err = ata.ParseSmart(data, thresholds); err != nil {
		r.malformed(err)
		return
	}
	if !r.smart.SelfTests {
		return
	}
	if b, err := q.sector("self-tests", smart(passthru.SmartReadLog, ata.LogSelfTests)); err == nil {
		t, err := ata.ParseSelfTests(b)
		r.malformed(err)
		r.selfTest(t.Result, t.Hours, r.smart.SelfTestRunning)
	}
}

// askStatistics reads the pages that the drive says it has: asking for others
// would fill its error log.
func askStatistics(q *questions, r *result) {
	read := func(question string, log, page byte) ([]byte, error) {
		return q.sector(question, ata.Command{Command: passthru.ATAReadLogExt, LBALow: log, LBAMid: page})
	}
	b, err := read("logs", ata.LogDirectory, 0)
	if err != nil {
		return
	}
	pages, err := ata.ParseDirectory(b)
	if err != nil || pages(ata.LogStatistics) == 0 {
		return
	}
	if b, err = read("statistics-0", ata.LogStatistics, ata.StatisticsList); err != nil {
		return
	}
	list, err := ata.StatisticsPages(b)
	r.malformed(err)
	for _, page := range []byte{ata.StatisticsGeneral, ata.StatisticsRotating, ata.StatisticsErrors, ata.StatisticsTemperature, ata.StatisticsSolid} {
		if !slices.Contains(list, page) {
			continue
		}
		if b, err := read(fmt.Sprintf("statistics-%d", page), ata.LogStatistics, page); err == nil {
			r.malformed(r.statistics.Add(page, b))
		}
	}
}

// errSense is the answer of a drive to what it does not know.
var errSense = errors.New("the drive refuses the command")

// sector asks an ATA drive for 512 bytes.
func (q *questions) sector(question string, c ata.Command) ([]byte, error) {
	c.Data = true
	return q.ask(question, ata.PageBytes, func(d passthru.Device) ([]byte, error) {
		r, err := d.SCSI(c.CDB(), ata.PageBytes)
		if err == nil && (len(r.Sense) > 0 || len(r.Data) != ata.PageBytes) {
			err = fmt.Errorf("%s: %w: sense % x", question, errSense, r.Sense[:min(len(r.Sense), 16)])
		}
		return r.Data, err
	})
}

// registers asks an ATA drive for what a command leaves in its registers.
func (q *questions) registers(question string, c ata.Command, of func(ata.Registers) []byte) ([]byte, error) {
	return q.ask(question, 16, func(d passthru.Device) ([]byte, error) {
		r, err := d.SCSI(c.CDB(), 0)
		if err != nil {
			return nil, err
		}
		g, err := ata.ParseRegisters(r.Sense)
		if err == nil && g.Status&1 != 0 { // ERR: aborted
			err = fmt.Errorf("%s: %w: error register 0x%02x", question, errSense, g.Error)
		}
		return of(g), err
	})
}

// askLogs asks a SCSI drive for its log pages; first, which wakes nothing,
// whether it sleeps.
func askLogs(q *questions, r *result) {
	sense, err := q.scsi("sense", []byte{passthru.RequestSense, 0, 0, 0, 252, 0}, 252)
	if err == nil && scsi.Asleep(sense) {
		r.health.Warnings = append(r.health.Warnings, asleep)
		return
	}
	if r.drive.Transport == hardware.TransportSAS && r.drive.FormFactor == "" && r.drive.RPM == 0 { // the kernel shows page 0xb1 since 5.18
		if b, err := q.scsi("vpd-b1", []byte{passthru.Inquiry, 1, 0xb1, 0, 64, 0}, 64); err == nil {
			characteristics(&r.drive, b)
		}
	}
	b, err := q.log(scsi.LogPages)
	if err != nil {
		return // a drive without SMART: a virtual one, or an array
	}
	pages, err := scsi.ParseLogPages(b)
	r.malformed(err)
	var h scsi.Health
	for _, page := range []byte{scsi.LogWriteErrors, scsi.LogReadErrors, scsi.LogVerifyErrors, scsi.LogTemperature, scsi.LogStartStop,
		scsi.LogSelfTests, scsi.LogSolid, scsi.LogBackground, scsi.LogInformational} {
		if !slices.Contains(pages, page) {
			continue
		}
		if b, err := q.log(page); err == nil {
			r.malformed(h.Add(page, b))
		}
	}
	r.scsiHealth(h, slices.Contains(pages, scsi.LogInformational))
}

// log asks for the present values of a log page.
func (q *questions) log(page byte) ([]byte, error) {
	const cumulative = 1 << 6
	return q.scsi(fmt.Sprintf("log-%02x", page), []byte{passthru.LogSense, 0, cumulative | page, 0, 0, 0, 0, scsi.MaxLog >> 8, scsi.MaxLog & 0xff, 0}, scsi.MaxLog)
}

func (q *questions) scsi(question string, cdb []byte, most int) ([]byte, error) {
	return q.ask(question, int64(most), func(d passthru.Device) ([]byte, error) {
		r, err := d.SCSI(cdb, most)
		if err == nil && len(r.Sense) > 0 {
			err = fmt.Errorf("%s: %w: sense % x", question, errSense, r.Sense[:min(len(r.Sense), 16)])
		}
		return r.Data, err
	})
}

// malformed tells of an answer that no drive should give.
func (r *result) malformed(err error) {
	if err != nil {
		r.find(hardware.CodeSourceMalformed, hardware.Info, strings.TrimSpace(err.Error()), "update the drive's firmware when the fact matters")
	}
}
